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
