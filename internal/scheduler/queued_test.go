package scheduler

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
)

// TestTheEndOfARunLooksAtTheNextOneOnly queues 10 000 runs behind max_active_runs=1, the newest first, and takes them one by one.
func TestTheEndOfARunLooksAtTheNextOneOnly(t *testing.T) {
	const many = 10_000
	s := New(Config{}, nil, nil, slog.New(slog.DiscardHandler))
	s.st = newState()
	x := dag.NewIndex(&dag.DAG{ID: "d", MaxActiveRuns: 1, Tasks: []dag.Task{{ID: "t", Operator: "X"}}})
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := many; i > 0; i-- {
		at := now.Add(-time.Duration(many-i) * time.Second)
		row := run.DAGRun{DAGID: "d", RunID: fmt.Sprint(i), State: run.RunQueued, RunAfter: at, QueuedAt: now}
		s.st.keep(&liveRun{key: runKey(row), run: plan.NewRun(x, row, nil, plan.Options{NewID: newID})})
	}
	limits := s.limits(s.st)
	g := plan.RunGroup{DAGID: "d"}
	for i := 1; i <= many; i++ {
		s.st.running[g] = 1
		if got := s.nextRuns(limits, now); len(got) != 0 {
			t.Fatalf("%d runs are looked at while none may begin", len(got))
		}
		s.st.running[g] = 0
		got := s.nextRuns(limits, now)
		if len(got) != 1 || got[0].Run.RunID != fmt.Sprint(i) {
			t.Fatalf("after %d runs: %d are looked at, want number %d alone", i-1, len(got), i)
		}
		delete(s.st.queued, runKey(got[0].Run))
	}
	if got := s.nextRuns(limits, now); len(got) != 0 || len(s.st.lines) != 0 {
		t.Errorf("nothing is queued and %d runs, %d lines are left", len(got), len(s.st.lines))
	}
}
