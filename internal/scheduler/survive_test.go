package scheduler_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// overSource is a DAG whose second task is mapped over what the first returns.
func overSource(id string) *dag.DAG {
	d := chain(id, 2)
	d.Tasks[1].Mapped = &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{
		Name: "x", Length: -1, Source: &dag.MapSource{Op: dag.MapXCom, Task: "t00", Key: "return_value"},
	}}}
	return d
}

func TestWhatCannotBeMappedOverFailsItsTaskInWordsAndTheRunEnds(t *testing.T) {
	t.Parallel()
	values := map[string][]protocol.XComValue{
		"long":    {{Key: "return_value", Value: json.RawMessage(`[]`), MapLength: 100_001}},
		"text":    {{Key: "return_value", Value: json.RawMessage(`"abc"`), MapLength: -1}},
		"nothing": nil,
	}
	script := func(a executor.Attempt) scripted.Behaviour {
		return scripted.Behaviour{XComs: values[a.Startup.TI.DAGID]}
	}
	w := newWorld(t, script, overSource("long"), overSource("text"), overSource("nothing"))
	w.crash()
	w.cfg.Limits.MaxMapLength = 100_000
	w.start()
	for id, words := range map[string]string{
		"long":    "task t00 returned 100001 elements to map over, more than max_map_length 100000",
		"text":    "task t00 returned neither a list nor a dict to map over",
		"nothing": "task t00 returned nothing to map over",
	} {
		r := w.ended(w.trigger(id))
		tis, _, err := w.db.TaskInstances(t.Context(), store.TIFilter{DAGID: id, RunID: r.RunID, TaskIDs: []string{"t01"}})
		if err != nil || len(tis) != 1 {
			t.Fatalf("%s: %d instances, %v", id, len(tis), err)
		}
		if r.State != run.RunFailed || tis[0].State != run.Failed || tis[0].Reason != words {
			t.Errorf("%s: the run is %s, the task %s: %q, want %q", id, r.State, tis[0].State, tis[0].Reason, words)
		}
	}
}

// TestAPoolMayShrinkBelowItsUseToNothingAndVanish: what runs goes on, what waits says why, and goes on once there is room again.
func TestAPoolMayShrinkBelowItsUseToNothingAndVanish(t *testing.T) {
	t.Parallel()
	d := chain("pooled", 4)
	for i := range d.Tasks {
		d.Tasks[i].Upstream, d.Tasks[i].Pool = nil, "p"
	}
	gate := make(chan struct{})
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { <-gate; return scripted.Behaviour{} }, d)
	size := func(slots int) {
		if err := w.s.PutPool(t.Context(), "user:test", store.Pool{Name: "p", Slots: slots}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(r run.DAGRun, s run.TaskState) (n int) {
		for _, state := range w.states(r) {
			if state == s {
				n++
			}
		}
		return n
	}
	size(2)
	r := w.trigger("pooled")
	w.wait("two to be handed over", func() bool { return count(r, run.Queued)+count(r, run.Running) == 2 })
	waiting := func(words string) {
		t.Helper()
		why, err := w.s.WhyWaiting(t.Context(), "pooled", r.RunID)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, b := range why {
			if strings.Contains(b.Reason, words) {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d tasks say %q: %v", n, words, why)
		}
	}
	size(1)
	waiting("pool p")
	size(0)
	waiting("pool p")
	close(gate) // the two that ran end; no other begins
	w.wait("the two to end", func() bool { return count(r, run.Success) == 2 })
	waiting("pool p")
	if err := w.s.DeletePool(t.Context(), "user:test", "p"); err != nil {
		t.Fatal(err)
	}
	waiting("pool p")
	if n := count(r, run.Scheduled); n != 2 {
		t.Errorf("%d tasks are scheduled without a pool, want 2: %v", n, w.states(r))
	}
	size(1)
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
}

// TestARunKeepsTheShapeItBeganWith publishes another shape of its DAG while a run goes on: a task gone, one renamed, one new, one
// mapped. The run ends as it began, the next one has the new shape.
func TestARunKeepsTheShapeItBeganWith(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	w := newWorld(t, func(a executor.Attempt) scripted.Behaviour {
		<-gate
		return scripted.Behaviour{}
	}, chain("shape", 3))
	r := w.trigger("shape")
	w.wait("the first task", func() bool { return w.states(r)["t00"] != run.None })
	next := chain("shape", 3)
	next.Tasks[1].ID, next.Tasks[2].Upstream = "renamed", []string{"renamed"}
	next.Tasks[2].Mapped = &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: 2}}}
	next.Tasks = append(next.Tasks, dag.Task{ID: "new", Operator: "PythonOperator", Upstream: []string{"t02"}})
	w.publish(next)
	w.crash()
	w.start() // a server that has never seen the former shape
	close(gate)
	r = w.ended(r)
	if got := fmt.Sprint(w.states(r)); r.DAGVersion != 1 || got != "map[t00:success t01:success t02:success]" {
		t.Errorf("the run is on version %d: %s", r.DAGVersion, got)
	}
	r = w.ended(w.trigger("shape"))
	if got := fmt.Sprint(w.states(r)); r.DAGVersion != 2 || got != "map[new:success renamed:success t00:success t02:success]" {
		t.Errorf("the next run is on version %d: %s", r.DAGVersion, got)
	}
	w.publish(chain("shape", 3))
	if r = w.ended(w.trigger("shape")); r.State != run.RunSuccess || len(w.states(r)) != 3 {
		t.Errorf("back to the first shape: %s %v", r.State, w.states(r))
	}
}
