package run

import (
	"slices"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/dag"
)

// upstream counts states written as letters: S success, F failed, U upstream_failed, K skipped, R removed, W still waiting;
// a small letter is a setup task.
func upstream(letters string) Upstream {
	states := map[string]TaskState{"S": Success, "F": Failed, "U": UpstreamFailed, "K": Skipped, "R": Removed, "W": Running}
	var u Upstream
	for l := range strings.SplitSeq(letters, "") {
		if l != "" {
			u.Count(states[strings.ToUpper(l)], l != strings.ToUpper(l), 1)
		}
	}
	return u
}

func TestEveryTriggerRule(t *testing.T) {
	const (
		run  = Scheduled
		wait = None
		skip = Skipped
		fail = UpstreamFailed
	)
	for rule, cases := range map[dag.TriggerRule]map[string]TaskState{
		dag.AllSuccess: {
			"": run, "S": run, "SS": run, "SW": wait, "SK": skip, "KW": skip, "SF": fail, "FW": fail, "UW": fail, "FK": fail,
			"SR": run, "RR": run,
		},
		dag.AllFailed:            {"F": run, "FU": run, "FW": wait, "WW": wait, "FS": skip, "SW": skip, "KW": skip, "FR": run},
		dag.AllDone:              {"S": run, "SFUK": run, "SW": wait, "FW": wait, "SR": run},
		dag.AllDoneMinOneSuccess: {"SF": run, "SS": run, "SW": wait, "FW": wait, "FF": fail, "FU": fail, "SK": skip, "KW": skip},
		dag.AllDoneSetupSuccess: {
			"sS": run, "sF": run, "sW": wait, "fS": fail, "fs": run, "kS": skip, "kk": skip, "kf": fail, "FF": run, "K": run, "wS": wait,
		},
		dag.OneSuccess:              {"SW": run, "SF": run, "WW": wait, "FW": wait, "KW": wait, "KK": skip, "FF": fail, "FK": fail, "UU": fail, "KR": skip},
		dag.OneFailed:               {"FW": run, "UW": run, "SW": wait, "SS": skip, "SK": skip, "KK": skip},
		dag.OneDone:                 {"SW": run, "FW": run, "KW": wait, "UW": wait, "KK": skip, "UU": skip, "KU": skip},
		dag.NoneFailed:              {"SS": run, "SK": run, "KK": run, "SW": wait, "KW": wait, "FW": fail, "UW": fail, "KR": run},
		dag.NoneSkipped:             {"SF": run, "SU": run, "SW": wait, "FW": wait, "KW": skip, "SK": skip},
		dag.Always:                  {"": run, "W": run, "FK": run},
		dag.NoneFailedMinOneSuccess: {"SS": run, "SK": run, "KK": skip, "SW": wait, "KW": wait, "FW": fail, "UK": fail},
		dag.AllSkipped:              {"KK": run, "KW": wait, "WW": wait, "SW": skip, "FW": skip, "UW": skip, "KR": run},
	} {
		for letters, want := range cases {
			v := JudgeRule(rule, upstream(letters), false)
			if v.State != want {
				t.Errorf("%s with upstream %s: %s, want %s", rule, letters, v.State, want)
			}
			if (v.Reason != "") != v.State.IsFinished() {
				t.Errorf("%s with upstream %s: state %s, reason %q", rule, letters, v.State, v.Reason)
			}
		}
	}
}

func TestNoTriggerRuleWaitsForEver(t *testing.T) {
	for _, rule := range dag.TriggerRules {
		for _, letters := range []string{"S", "F", "U", "K", "R", "SF", "SU", "SK", "SR", "FU", "FK", "FR", "UK", "KR", "SFUKR", "s", "f", "k", "sF", "fS", "kS"} {
			if v := JudgeRule(rule, upstream(letters), false); v.State == None {
				t.Errorf("%s waits although upstream %s has finished", rule, letters)
			}
		}
	}
	if v := JudgeRule("no such rule", upstream("S"), false); v.State != None {
		t.Errorf("an unknown rule says %s", v.State)
	}
}

func TestAMappedInstanceIsRemovedWithItsUpstream(t *testing.T) {
	if v := JudgeRule(dag.AllSuccess, upstream("R"), true); v.State != Removed {
		t.Errorf("got %s", v.State)
	}
	if v := JudgeRule(dag.AllSuccess, upstream("RS"), true); v.State != Scheduled {
		t.Errorf("got %s", v.State)
	}
}

func TestSetupsAroundATaskMustSucceed(t *testing.T) {
	for letters, want := range map[string]TaskState{"": Scheduled, "s": Scheduled, "sw": None, "sf": UpstreamFailed, "kw": Skipped} {
		if v := JudgeSetups(upstream(letters)); v.State != want {
			t.Errorf("setups %q: %s, want %s", letters, v.State, want)
		}
	}
}

func TestCountsAddUpAndTakeBack(t *testing.T) {
	u := upstream("SFUKRWsk")
	sum := upstream("SFU").Plus(upstream("KRWsk"))
	if u != sum {
		t.Errorf("%+v != %+v", u, sum)
	}
	for _, s := range []TaskState{Success, Failed, UpstreamFailed, Skipped, Removed, Running} {
		u.Count(s, false, -1)
	}
	u.Count(Success, true, -1)
	u.Count(Skipped, true, -1)
	if u != (Upstream{}) {
		t.Errorf("left over: %+v", u)
	}
}

func TestExplanationsNameWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		rule    dag.TriggerRule
		letters string
		pending []string
		want    string
	}{
		{dag.AllSuccess, "SWW", []string{"train", "eval"}, "waiting for 2 of 3 upstream tasks: train, eval"},
		{dag.AllSuccess, "W", []string{"train"}, "waiting for the upstream task train"},
		{dag.OneFailed, "WWWWW", []string{"a", "b", "c", "d", "e"}, "waiting for 5 of 5 upstream tasks: a, b, c and 2 more (trigger rule one_failed)"},
		{dag.AllSuccess, "SS", nil, "its 2 upstream tasks have finished"},
	} {
		if got := ExplainRule(c.rule, upstream(c.letters), c.pending); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestTransitionsNameEveryStateOnce(t *testing.T) {
	for _, from := range TaskStates {
		leaves := slices.ContainsFunc(TaskTransitions, func(x Transition[TaskState]) bool { return x.From == from })
		if leaves == from.IsFinished() {
			t.Errorf("%s: finished %v, moves on %v", from, from.IsFinished(), leaves)
		}
	}
	for i, x := range TaskTransitions {
		if x.Why == "" || slices.ContainsFunc(TaskTransitions[:i], func(y Transition[TaskState]) bool { return x.From == y.From && x.To == y.To }) {
			t.Errorf("%s → %s lacks a reason or stands twice", x.From, x.To)
		}
	}
}

func TestWhatMayMoveWhere(t *testing.T) {
	for _, c := range []struct {
		from, to TaskState
		want     bool
	}{
		{None, Scheduled, true}, {None, Running, false}, {Scheduled, Queued, true}, {Success, Failed, true}, {Success, Success, false},
		{Failed, None, true}, {Running, None, false}, {Running, Restarting, true}, {Restarting, None, true}, {None, None, false},
		{Success, Running, false}, {Removed, Skipped, true}, {UpForRetry, Queued, false},
	} {
		if got := CanMoveTask(c.from, c.to); got != c.want {
			t.Errorf("%s → %s: %v", c.from, c.to, got)
		}
	}
	if !CanMove(RunQueued, RunRunning) || CanMove(RunSuccess, RunRunning) {
		t.Error("runs begin in the queue and go back to it")
	}
}
