// Package plan decides. Given one DAG run and something that happened to it, Decide says what changes; given every
// ready task instance and what is scarce, a Queue says what starts now (Admit) and, for the rest, why not (Blocked).
//
// Both are pure: the current time is an argument, nothing is read or written, and the same input gives the same output.
// A Run is the in-memory fold of one live DAG run with upstream counters kept up to date, so that one finished task costs
// work for its neighbours only. The store is the truth; a Run can always be rebuilt with NewRun.
//
// To read it, begin with event.go (what can happen) and decide.go (what follows). judge.go lets waiting instances go on,
// attempt.go follows tries, unfold.go makes the instances of mapped tasks, byhand.go obeys people, end.go ends runs, and
// why.go explains them. Admission is admit.go (the queue), refuse.go (the limits) and usage.go (the counting); start.go
// lets queued runs begin. The package must not know how anything is stored, executed or shown.
package plan

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// Outcome is how an attempt ended, as reported by an executor.
type Outcome struct {
	AttemptID string
	// State is one of success, failed, skipped, up_for_retry, up_for_reschedule, deferred, awaiting_input or removed, as
	// the task reported it, or failed when it reported nothing. up_for_retry means "failed, retry if tries are left".
	State run.TaskState
	// Final is true when a failure must not be retried (AirflowFailException).
	Final bool
	// Infra is true when the attempt was lost with its worker: not the author's retry, capped by Limits.MaxInfraRetries.
	Infra bool
	// Uncounted is true when such an attempt counts nowhere: a person has stopped the installation, or the installation
	// ended in order before the attempt had begun.
	Uncounted bool
	Reason    string
	// SkipTasks lists downstream tasks the attempt asked to skip (branching, short circuit).
	SkipTasks []SkipTarget
	// NextAt is when a rescheduled task wants to go on.
	NextAt           *time.Time
	NextMethod       string
	NextKwargs       json.RawMessage
	RenderedMapIndex string
	// MapLengths gives, per XCom key the attempt pushed, the number of elements of a list or dict value and -1 for any
	// other value (protocol.XComValue.MapLength as it stands). Mapped tasks downstream unfold by them.
	MapLengths map[string]int
	StartedAt  *time.Time
	EndedAt    time.Time
}

// SkipTarget is one task (and map index; -1 for all) to skip.
type SkipTarget struct {
	TaskID   string
	MapIndex int
}

// TaskChange is a guarded change of one task instance: it applies only while the stored row still has Before's version,
// and leaves it with After.Version, which is Before.Version+1.
//
// Before.Key is the row to change. After.MapIndex differs from it in one case: when a mapped task unfolds, its single row
// (map index -1) becomes element 0.
type TaskChange struct {
	Before run.TaskInstance // Version 0: the row is new (a mapped instance)
	After  run.TaskInstance
}

// RunChange is a guarded change of the DAG run itself.
type RunChange struct {
	Before run.DAGRun
	After  run.DAGRun
}

// Callback is a callback that must be run by the DAG's own process because no task process can.
type Callback struct {
	DAGID, RunID string
	// Task is nil for a DAG-level callback.
	Task *run.Key
	// AttemptID is the attempt a task-level callback is about.
	AttemptID string
	// Kind is on_success_callback, on_failure_callback, on_retry_callback or on_skipped_callback.
	Kind   string
	Reason string
}

// Kill asks an executor to end an attempt.
type Kill struct {
	AttemptID string
	Reason    string
}

// Decision is what one event means for one run. The zero value changes nothing.
type Decision struct {
	Tasks     []TaskChange
	Run       *RunChange
	Callbacks []Callback
	Kills     []Kill
	// WakeAt is when the run must be looked at again without an event (retry due, dagrun_timeout); zero: not at all.
	WakeAt time.Time
	// Ready lists instances that are now in state scheduled and await Admit.
	Ready []run.Key
	// PauseDAG is a reason to pause the DAG (max_consecutive_failed_dag_runs); empty: do not.
	PauseDAG string
}

// Candidate is one scheduled instance that wants to start.
type Candidate struct {
	Key         run.Key
	Priority    int // effective weight; larger first
	ScheduledAt time.Time
	LogicalDate time.Time
	Pool        string
	PoolSlots   int
	Executor    string
	Resources   *dag.Resources
	// Per-task and per-DAG limits, 0 = none.
	MaxActiveTIsPerDag, MaxActiveTIsPerDagrun int
	MaxActiveTasks                            int
	// TasksScope is "run" (Airflow 3) or "dag" (Airflow 2): what MaxActiveTasks counts.
	TasksScope string
	DAGPaused  bool
}

// Blocked says why a candidate does not start now, in words for people.
type Blocked struct {
	Key    run.Key
	Reason string
}
