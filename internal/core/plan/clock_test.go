package plan

import (
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// retrying is a run whose only task has failed once and waits for ten minutes, one of which has passed.
func retrying(t *testing.T) *harness {
	d := &dag.DAG{ID: "d", File: "d.py", Tasks: []dag.Task{{ID: "a", Operator: "X", Retries: 1, RetryDelay: dag.Seconds(10 * time.Minute)}}}
	limit := dag.Seconds(time.Hour)
	d.DagrunTimeout = &limit
	h := newHarness(t, dag.NewIndex(d))
	h.decide(RunStarted{})
	h.play("a", run.UpForRetry)
	h.pass(time.Minute)
	return h
}

func TestAClockThatIsSetChangesNoWait(t *testing.T) {
	for _, by := range []time.Duration{3 * time.Hour, -3 * time.Hour, 26 * time.Hour, -26 * time.Hour} {
		h := retrying(t)
		h.now = h.now.Add(by)
		h.decide(ClockSet{By: by})
		h.want("a=up_for_retry", run.RunRunning)
		h.pass(9*time.Minute - time.Second)
		h.want("a=up_for_retry", run.RunRunning)
		h.pass(time.Second)
		h.want("a=scheduled", run.RunRunning)
		h.run("a")
		h.pass(50*time.Minute - time.Second)
		h.want("a=running", run.RunRunning)
		h.pass(time.Second)
		h.want("a=skipped", run.RunFailed)
		if row := h.r.Row(); row.EndDate.Sub(*row.StartDate) != time.Hour {
			t.Errorf("the clock was set by %s: the run took %s", by, row.EndDate.Sub(*row.StartDate))
		}
	}
}

func TestAClockThatWasSetBackWhileNobodyLookedCostsOneWait(t *testing.T) {
	h := retrying(t)
	h.now = h.now.Add(-3 * time.Hour)
	h.decide(ClockSet{})
	h.want("a=up_for_retry", run.RunRunning)
	h.pass(10 * time.Minute)
	h.want("a=scheduled", run.RunRunning)
	h.play("a", run.Success)
	h.want("a=success", run.RunSuccess)
	if row := h.r.Row(); row.EndDate.Before(*row.StartDate) {
		t.Errorf("the run began at %s and ended at %s", row.StartDate, row.EndDate)
	}
}

func TestNothingEndsBeforeItBegan(t *testing.T) {
	h := retrying(t)
	h.pass(9 * time.Minute)
	h.run("a")
	h.now = h.now.Add(-time.Hour) // and nobody says so
	h.finish("a", run.Success)
	ti, row := h.instance("a"), h.r.Row()
	if ti.EndDate.Before(*ti.StartDate) || row.EndDate.Before(*row.StartDate) {
		t.Errorf("the task took %s, the run %s", ti.EndDate.Sub(*ti.StartDate), row.EndDate.Sub(*row.StartDate))
	}
}
