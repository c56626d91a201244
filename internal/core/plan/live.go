package plan

import (
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// A Run is one live DAG run held in memory: its row, its task instances, and for each task how many upstream instances are
// in which state. Only Decide changes it. It belongs to one goroutine.
type Run struct {
	x   *dag.Index
	row run.DAGRun
	opt Options
}

// NewRun folds a stored run. Instances of tasks that the DAG version does not have are kept and left alone.
func NewRun(x *dag.Index, r run.DAGRun, tis []run.TaskInstance, o Options) *Run { return &Run{x: x, row: r, opt: o} }

// Decide folds one event into r and returns what changes. Every changed row appears once, with Before as it was and After
// with its version grown by one; r already holds After. An event that means nothing any more (an outcome of an attempt that
// is not the current one, a key that does not exist) changes nothing.
//
// The work is proportional to the neighbours of what changed.
func Decide(r *Run, ev Event, now time.Time) Decision { return Decision{} }

// Join folds b, decided directly after a on the same run, into a, so that both go into one commit with one write per row.
// It corrects the versions that r remembers; nothing else may have been decided on r between or since, and neither a nor b
// may have been handed to the store.
func (r *Run) Join(a, b Decision) Decision { return a }

// Index is the compiled DAG of the run.
func (r *Run) Index() *dag.Index { return r.x }

// Row is the DAG run as it is now.
func (r *Run) Row() run.DAGRun { return r.row }

// Instance returns one task instance as it is now.
func (r *Run) Instance(k run.Key) (run.TaskInstance, bool) { return run.TaskInstance{}, false }

// Instances returns all task instances in order of declaration and map index.
func (r *Run) Instances() []run.TaskInstance { return nil }

// Task returns the task an instance belongs to; nil when the DAG version does not have it.
func (r *Run) Task(k run.Key) *dag.Task { return r.x.Task(k.TaskID) }

// MapCount is the number of instances a mapped task has unfolded into (expanded_ti_count); false before that and for
// tasks that are not mapped.
func (r *Run) MapCount(taskID string) (int, bool) { return 0, false }

// Candidate describes a scheduled instance for Admit; false when it is not in state scheduled.
func (r *Run) Candidate(k run.Key, paused bool) (Candidate, bool) { return Candidate{}, false }

// WillRetry tells whether a failure of the instance's current attempt would be retried (ti_context.should_retry).
func (r *Run) WillRetry(k run.Key) bool { return false }

// Why says in words why an instance is not running; "" for running and finished ones. Scheduled instances wait for
// admission: Blocked has their reason.
func (r *Run) Why(k run.Key, now time.Time) string { return "" }
