// Package storetest is the conformance suite of the store: every engine runs it, and it runs every method and every
// statement. It also makes databases full of history for tests of speed and of query plans. Only tests import it.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// Epoch is when everything in the suite happens.
var Epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// fixture is a database with short words for what tests do to it.
type fixture struct {
	t   *testing.T
	ctx context.Context
	db  *store.DB
	now time.Time
}

func newFixture(t *testing.T, db *store.DB) *fixture {
	return &fixture{t: t, ctx: t.Context(), db: db, now: Epoch}
}

// update runs f and fails the test when it fails. Every update is a second later than the one before.
func (f *fixture) update(do func(*store.Tx) error) {
	f.t.Helper()
	if err := f.try(do); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) try(do func(*store.Tx) error) error {
	f.now = f.now.Add(time.Second)
	return f.db.Update(f.ctx, "tester", f.now, do)
}

// publish publishes a DAG with the given tasks.
func (f *fixture) publish(id string, tasks ...string) {
	f.t.Helper()
	f.update(func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(DAG(id, tasks...), "main", "b1", false)
		return err
	})
}

// start creates a running DAG run with one instance a task.
func (f *fixture) start(dagID, runID string, tasks ...string) (run.DAGRun, []run.TaskInstance) {
	f.t.Helper()
	r, tis := Run(dagID, runID, f.now, tasks...)
	f.update(func(tx *store.Tx) error { return tx.CreateRun(&r, tis) })
	return r, tis
}

// finish ends a DAG run.
func (f *fixture) finish(r *run.DAGRun, s run.State) {
	f.t.Helper()
	f.update(func(tx *store.Tx) error {
		after := *r
		after.State, after.EndDate = s, ptr(tx.Now)
		err := tx.ChangeRun(plan.RunChange{Before: *r, After: after})
		after.Version++
		*r = after
		return err
	})
}

// attempt queues an attempt with a token.
func (f *fixture) attempt(k run.Key, id string, try int) run.Attempt {
	f.t.Helper()
	a := run.Attempt{Key: k, ID: id, TryNumber: try, State: run.Queued, Instance: "w1", Executor: "local", QueuedAt: f.now}
	f.update(func(tx *store.Tx) error { return tx.CreateAttempt(a, []byte("token of "+id)) })
	return a
}

// eventsSince returns the kinds of the events after seq with their sequence numbers checked.
func (f *fixture) eventsSince(seq int64) []string {
	f.t.Helper()
	es, err := f.db.Events(f.ctx, seq, 0)
	f.must(err)
	var kinds []string
	for _, e := range es {
		seq++
		if e.Seq != seq {
			f.t.Errorf("event %s has number %d, want %d: a gap", e.Kind, e.Seq, seq)
		}
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (f *fixture) last() int64 {
	f.t.Helper()
	seq, err := f.db.LastEvent(f.ctx)
	f.must(err)
	return seq
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) same(what string, want, got any) {
	f.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		f.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// DAG is a DAG of tasks in a row.
func DAG(id string, tasks ...string) *dag.DAG {
	d := &dag.DAG{ID: id, File: id + ".py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}, Timezone: "UTC"}
	for i, name := range tasks {
		t := dag.Task{ID: name, Operator: "PythonOperator"}
		if i > 0 {
			t.Upstream = []string{tasks[i-1]}
		}
		d.Tasks = append(d.Tasks, t)
	}
	return d
}

// Run is a running DAG run of a DAG made with DAG, not yet stored.
func Run(dagID, runID string, now time.Time, tasks ...string) (run.DAGRun, []run.TaskInstance) {
	r := run.DAGRun{DAGID: dagID, RunID: runID, Type: run.TypeManual, State: run.RunRunning, RunAfter: now, QueuedAt: now,
		StartDate: ptr(now), TriggeredBy: "tester", DAGVersion: 1, BundleVersion: "b1"}
	var tis []run.TaskInstance
	for i, name := range tasks {
		tis = append(tis, run.TaskInstance{Key: run.Key{DAGID: dagID, RunID: runID, TaskID: name, MapIndex: -1},
			ID: fmt.Sprintf("%s-%s-%d", dagID, runID, i)})
	}
	return r, tis
}

// Change is a change of state, ready to be applied.
func Change(before run.TaskInstance, to run.TaskState) plan.TaskChange {
	after := before
	after.State = to
	return plan.TaskChange{Before: before, After: after}
}

func ptr[T any](v T) *T { return &v }
