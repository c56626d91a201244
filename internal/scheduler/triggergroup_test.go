package scheduler

import (
	"testing"

	"ostro.dev/ostro/internal/core/run"
)

func TestATriggererThatIsGivenATriggerWhileItIsToStopGoesOn(t *testing.T) {
	st := &state{groups: map[groupKey]*triggerGroup{}}
	g := st.group(groupKey{version: "v"})
	g.attempt, g.stopping = "a", true
	if w := g.work(""); !w.Stop {
		t.Errorf("without a trigger: %+v", w)
	}
	g.enter(&wait{Wait: run.Wait{ID: "w"}})
	if w := g.work(""); w.Stop || len(w.Add) != 1 { // an answer that says stop comes at once, again and again
		t.Errorf("with one: %+v", w)
	}
}

// The triggers of a deferred task are told only when it is durable that it waits; the turn in which it began may be one that
// clears away groups without triggers.
func TestATriggerWhoseGroupIsDroppedBeforeItEntersGetsATriggerer(t *testing.T) {
	st := &state{groups: map[groupKey]*triggerGroup{}, waits: newWaits()}
	s := &Scheduler{st: st, box: newMailbox()}
	w := &wait{Wait: run.Wait{ID: "w"}, group: st.group(groupKey{version: "v"})}
	st.waits.add(w)
	st.python = append(st.python, w)
	s.checkTriggerers(&batch{})
	s.tellWaiters()
	if g := st.groups[groupKey{version: "v"}]; g == nil || g.waits["w"] != w || w.group != g {
		t.Errorf("the trigger is in no group that a triggerer is started for: %+v", st.groups)
	}
}
