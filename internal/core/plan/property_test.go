package plan

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// drawDAG makes a random valid DAG: edges, rules, retries, empty tasks, mapped tasks, a mapped group, setups, teardowns.
func drawDAG(t *rapid.T) *dag.DAG {
	d := &dag.DAG{ID: "d", File: "d.py", FailFast: rapid.IntRange(0, 9).Draw(t, "fail_fast") == 0}
	rules := slices.DeleteFunc(slices.Clone(dag.TriggerRules), func(r dag.TriggerRule) bool { return r == dag.AllDoneSetupSuccess })
	n := rapid.IntRange(1, 9).Draw(t, "tasks")
	for i := range n {
		task := dag.Task{ID: fmt.Sprintf("t%d", i), Operator: "PythonOperator"}
		for j := range i {
			if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
				task.Upstream = append(task.Upstream, d.Tasks[j].ID)
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "has rule") == 0 {
			task.TriggerRule = rapid.SampledFrom(rules).Draw(t, "rule")
		}
		task.Retries = rapid.IntRange(0, 2).Draw(t, "retries")
		task.RetryDelay = dag.Seconds(time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Minute)
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
		case 0:
			task.Kind = dag.KindEmpty
		case 1, 2:
			if len(task.Upstream) > 0 {
				task.Mapped = over(rapid.SampledFrom(task.Upstream).Draw(t, "source"))
			}
		case 3:
			task.Mapped = &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: rapid.IntRange(0, 3).Draw(t, "literal")}}}
		case 4:
			task.Setup = true
		case 5:
			task.Teardown, task.TriggerRule = true, ""
		case 6:
			task.WaitForPastDependsBeforeSkipped = true
		}
		d.Tasks = append(d.Tasks, task)
	}
	drawGroup(t, d)
	if err := dag.Validate(d); err != nil {
		t.Skip(err)
	}
	return d
}

// drawGroup puts some tasks that have no mapping of their own into a mapped group.
func drawGroup(t *rapid.T, d *dag.DAG) {
	if len(d.Tasks) < 3 || rapid.IntRange(0, 2).Draw(t, "grouped") != 0 {
		return
	}
	d.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("t0")}}
	d.Tasks[0].Mapped = nil
	for i := 1; i < len(d.Tasks); i++ {
		task := &d.Tasks[i]
		if task.Mapped == nil && slices.Contains(task.Upstream, "t0") {
			task.Group = "g"
		} else if task.Mapped == nil && slices.ContainsFunc(task.Upstream, func(u string) bool { return d.Task(u).Group == "g" }) {
			task.Group = "g"
		}
	}
}

// driver plays a run with random outcomes and checks it against the rules at every step.
type driver struct {
	*harness
	rt      *rapid.T
	begun   map[string]bool // attempts
	queue   Queue
	usage   Usage
	handled int
}

func TestEveryRunEndsAndKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := dag.NewIndex(drawDAG(rt))
		h := newHarness(t, x)
		d := &driver{harness: h, rt: rt, begun: map[string]bool{}}
		d.fold(Decide(h.r, RunStarted{}, h.now))
		for steps := 0; !h.r.Row().State.IsFinished() || d.busy() > 0; steps++ {
			if steps > 2000 {
				rt.Fatalf("the run does not end: %s", h.states())
			}
			d.step()
		}
		d.checkEnd()
	})
}

// fold applies a decision and compares the run with one rebuilt from the rows.
func (d *driver) fold(dec Decision) {
	d.apply(dec)
	d.usage.Fold(d.r, dec)
	d.queue.Fold(d.r, dec, false)
	rebuilt := d.rebuilt()
	if diff := cmp.Diff(fingerprint(rebuilt, d.now), fingerprint(d.r, d.now)); diff != "" {
		d.rt.Fatalf("the run differs from one built anew (-new +kept)\n%s", diff)
	}
	var u Usage
	u.Add(rebuilt)
	if more := Decide(rebuilt, Recovered{}, d.now); d.row.State == run.RunRunning && (len(more.Tasks) > 0 || more.Run != nil) {
		d.rt.Fatalf("looking at everything anew finds what the decision missed: %+v", more)
	}
	if diff := cmp.Diff(fmt.Sprintf("%+v", u), fmt.Sprintf("%+v", d.usage)); diff != "" {
		d.rt.Fatalf("usage differs from a count (-count +kept)\n%s", diff)
	}
	for _, c := range dec.Tasks {
		if c.Before.Version > 0 && !run.CanMoveTask(c.Before.State, c.After.State) && c.Before.State != c.After.State {
			d.checkJump(c)
		}
		if c.After.State == run.Scheduled && c.Before.State == run.None {
			d.checkRule(c.After.Key)
		}
	}
}

// checkJump allows changes that pass through a state within one decision.
func (d *driver) checkJump(c TaskChange) {
	for _, via := range run.TaskStates {
		if run.CanMoveTask(c.Before.State, via) && run.CanMoveTask(via, c.After.State) {
			return
		}
	}
	d.rt.Fatalf("%s went from %s to %s", rowKey(c.After.Key), c.Before.State, c.After.State)
}

// checkRule counts the upstream of a new ready instance by hand.
func (d *driver) checkRule(k run.Key) {
	p, _ := d.x.Pos(k.TaskID)
	var u run.Upstream
	for _, up := range d.x.Upstream(p) {
		for _, ti := range d.r.Instances() {
			paired := d.x.Paired(p, up) && max(0, ti.MapIndex) != max(0, k.MapIndex)
			if ti.TaskID == d.x.At(up).ID && !paired {
				u.Count(ti.State, d.x.At(up).Setup, 1)
			}
		}
	}
	if v := run.JudgeRule(d.x.At(p).Rule(), u, k.MapIndex >= 0); v.State != run.Scheduled {
		d.rt.Fatalf("%s was scheduled but its rule %s says %q of %+v", rowKey(k), d.x.At(p).Rule(), v.State, u)
	}
}

func (d *driver) inState(match func(run.TaskState) bool) []run.TaskInstance {
	return slices.DeleteFunc(d.r.Instances(), func(ti run.TaskInstance) bool { return !match(ti.State) })
}

func (d *driver) busy() int { return len(d.inState(run.TaskState.HasAttempt)) }

// step does one thing that can happen.
func (d *driver) step() {
	d.handled++
	attempts := d.inState(run.TaskState.HasAttempt)
	suspended := d.inState(run.TaskState.IsSuspended)
	switch choice := rapid.IntRange(0, 19).Draw(d.rt, "what"); {
	case choice == 0 && d.handled < 60:
		d.byHand()
	case choice < 8 && len(attempts) > 0:
		d.endAttempt(rapid.SampledFrom(attempts).Draw(d.rt, "ended"))
	case choice < 12 && len(suspended) > 0:
		ti := rapid.SampledFrom(suspended).Draw(d.rt, "resumed")
		if rapid.IntRange(0, 4).Draw(d.rt, "ended by its trigger") == 0 {
			state := rapid.SampledFrom([]run.TaskState{run.Success, run.Failed, run.Skipped}).Draw(d.rt, "trigger says")
			d.fold(Decide(d.r, EndedByTrigger{Key: ti.Key, State: state}, d.now))
		} else {
			d.fold(Decide(d.r, Resumed{Key: ti.Key}, d.now))
		}
	case choice < 16:
		d.admit()
	case choice == 16:
		d.setClock()
	default:
		d.now = d.now.Add(time.Minute)
		d.fold(Decide(d.r, Tick{}, d.now))
	}
	if d.r.Row().State == run.RunQueued {
		d.fold(Decide(d.r, RunStarted{}, d.now))
	}
}

// setClock sets the clock by hours: whoever waits waits for as long as before.
func (d *driver) setClock() {
	left := map[run.Key]time.Duration{}
	for _, ti := range d.inState(run.TaskState.IsWaiting) {
		if ti.NextAt != nil {
			left[ti.Key] = ti.NextAt.Sub(d.now)
		}
	}
	by := rapid.SampledFrom([]time.Duration{-26 * time.Hour, -3 * time.Hour, 3 * time.Hour, 26 * time.Hour}).Draw(d.rt, "set by")
	d.now = d.now.Add(by)
	d.fold(Decide(d.r, ClockSet{By: by}, d.now))
	for k, wait := range left {
		if ti, _ := d.r.Instance(k); ti.NextAt == nil || ti.NextAt.Sub(d.now) != wait {
			d.rt.Fatalf("%s waited for another %s when the clock was set by %s, now until %v", rowKey(k), wait, by, ti.NextAt)
		}
	}
}

func (d *driver) admit() {
	scheduled := len(d.inState(func(s run.TaskState) bool { return s == run.Scheduled }))
	if d.queue.Len() != scheduled {
		d.rt.Fatalf("%d instances are scheduled, %d are in the queue", scheduled, d.queue.Len())
	}
	for _, a := range d.queue.Admit(&d.usage, d.r.Limits()) {
		k := a.Key
		d.attempts++
		id := fmt.Sprintf("a%d", d.attempts)
		before, _ := d.r.Instance(k)
		d.fold(Decide(d.r, Admitted{Key: k, AttemptID: id}, d.now))
		try := before.TryNumber + 1
		if before.RescheduleCount > 0 || before.NextMethod != "" {
			try = before.TryNumber // the same try goes on
		}
		if ti, _ := d.r.Instance(k); ti.AttemptID != id || ti.TryNumber != try || d.begun[id] {
			d.rt.Fatalf("admitted %s: %+v", rowKey(k), ti)
		}
		d.begun[id] = true
		if rapid.Bool().Draw(d.rt, "start seen") {
			d.fold(Decide(d.r, AttemptStarted{Key: k, AttemptID: id, At: d.now}, d.now))
		}
	}
}

func (d *driver) endAttempt(ti run.TaskInstance) {
	states := []run.TaskState{run.Success, run.Success, run.Success, run.Failed, run.UpForRetry, run.Skipped}
	if d.handled < 60 {
		states = append(states, run.UpForReschedule, run.Deferred)
	}
	o := Outcome{AttemptID: ti.AttemptID, State: rapid.SampledFrom(states).Draw(d.rt, "outcome"), EndedAt: d.now}
	if o.State == run.Success && rapid.IntRange(0, 5).Draw(d.rt, "pushes") > 0 {
		o.MapLengths = map[string]int{returnValue: rapid.IntRange(-1, 3).Draw(d.rt, "length")}
	}
	if p, _ := d.x.Pos(ti.TaskID); o.State == run.Success && len(d.x.Downstream(p)) > 0 && rapid.IntRange(0, 5).Draw(d.rt, "branches") == 0 {
		o.SkipTasks = []SkipTarget{{d.x.At(d.x.Downstream(p)[0]).ID, -1}}
	}
	if o.State == run.Deferred && rapid.Bool().Draw(d.rt, "names a method") {
		o.NextMethod = "later"
	}
	o.Final = rapid.IntRange(0, 5).Draw(d.rt, "final") == 0
	o.Infra = o.State == run.Failed && rapid.Bool().Draw(d.rt, "infra")
	d.fold(Decide(d.r, AttemptFinished{Key: ti.Key, Outcome: o}, d.now))
	if again := Decide(d.r, AttemptFinished{Key: ti.Key, Outcome: o}, d.now); len(again.Tasks) > 0 {
		d.rt.Fatalf("the end of an attempt counts twice: %+v", again)
	}
}

func (d *driver) byHand() {
	var keys []run.Key
	for _, ti := range d.r.Instances() {
		if rapid.IntRange(0, 3).Draw(d.rt, "picked") == 0 {
			keys = append(keys, ti.Key)
		}
	}
	var ev Event
	switch rapid.IntRange(0, 3).Draw(d.rt, "order") {
	case 0, 1:
		ev = Cleared{Keys: keys}
	case 2:
		ev = Marked{Keys: keys, State: rapid.SampledFrom([]run.TaskState{run.Success, run.Failed, run.Skipped}).Draw(d.rt, "mark")}
	case 3:
		ev = RunMarked{State: rapid.SampledFrom([]run.State{run.RunSuccess, run.RunFailed}).Draw(d.rt, "run mark")}
	}
	d.fold(Decide(d.r, ev, d.now))
}

// checkEnd checks a finished run: nothing is left in between, and everything unfinished has a reason.
func (d *driver) checkEnd() {
	for _, ti := range d.inState(func(s run.TaskState) bool { return !s.IsFinished() }) {
		d.rt.Fatalf("the run ended as %s with %s %s", d.r.Row().State, rowKey(ti.Key), ti.State)
	}
	if d.usage.Executor("local") != 0 {
		d.rt.Fatalf("slots are still taken: %+v", d.usage)
	}
	if !maps.Equal(d.usage.pools, map[string]poolUse{}) && len(d.usage.pools) > 0 {
		d.rt.Fatalf("pool slots are still taken: %+v", d.usage.pools)
	}
}
