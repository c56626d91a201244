package scheduler_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// looking counts what is read of the task instances of the DAG "wide".
type looking struct {
	*store.DB
	mu           sync.Mutex
	looks, rows  int
	wholeRunRead bool
}

func (l *looking) TaskStates(ctx context.Context, f store.TIFilter, visit func(run.Key, run.TaskState) error) error {
	l.mu.Lock()
	l.looks++
	l.mu.Unlock()
	return l.DB.TaskStates(ctx, f, func(k run.Key, s run.TaskState) error {
		l.mu.Lock()
		l.rows++
		l.mu.Unlock()
		return visit(k, s)
	})
}

func (l *looking) TaskInstances(ctx context.Context, f store.TIFilter) ([]run.TaskInstance, int, error) {
	if f.DAGID == "wide" {
		l.mu.Lock()
		l.wholeRunRead = true
		l.mu.Unlock()
	}
	return l.DB.TaskInstances(ctx, f)
}

func TestAWaitForOneTaskCostsWhatChangesOfThatTask(t *testing.T) {
	t.Parallel()
	s := &deferring{first: map[string]scripted.Behaviour{}}
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.DAGID == "wide" {
			return scripted.Behaviour{}
		}
		return s.script(a)
	}
	w := newWorld(t, script, chain("waits", 1), chain("wide", 40))
	w.crash()
	l := &looking{DB: w.db}
	w.through = func(*store.DB) scheduler.Store { return l }
	w.start()
	s.first["t00"] = deferral("external_task.WorkflowTrigger",
		`{"external_dag_id":"wide","run_ids":["r"],"external_task_ids":["t39"],"allowed_states":["success"]}`, 0)
	r := w.trigger("waits")
	w.inState(r, "t00", run.Deferred)
	if _, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "wide", RunID: "r"}); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// When the run comes about and starts, and when the task is scheduled, queued, running and done.
	if got := fmt.Sprintf("%d looks, %d rows", l.looks, l.rows); l.looks > 8 || l.rows > l.looks || l.wholeRunRead {
		t.Errorf("waiting for the last of 40 tasks took %s, whole runs read: %v", got, l.wholeRunRead)
	}
}
