// Package scheduler is the shell around core/plan: it wakes by notification or time, folds what happened into live runs
// held in memory, asks plan what follows, applies the answer in one guarded transaction, and only after the commit tells
// executors to launch or kill. One goroutine owns all scheduling state; everything else sends it messages.
//
// The store is the truth. Memory is a cache that is rebuilt from it at start and after any failed write.
package scheduler

import (
	"encoding/json"
	"errors"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// The closed set of refusals a command can meet; API and CLI map them to statuses and exit codes.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
	ErrInvalid  = errors.New("invalid")
	// ErrNotAllowed means that somebody else may do what was asked for.
	ErrNotAllowed = errors.New("not allowed")
)

// TriggerRequest creates a DAG run.
type TriggerRequest struct {
	DAGID string
	RunID string // empty: made from type and date as Airflow does: manual__2024-01-01T00:00:00+00:00
	// LogicalDate nil means none (Airflow 3); the CLI passes now.
	LogicalDate       *time.Time
	DataIntervalStart *time.Time
	DataIntervalEnd   *time.Time
	RunAfter          *time.Time
	Conf              json.RawMessage
	Note              string
	Type              run.Type // empty: manual
	// Reset clears an existing run with the same id instead of refusing (TriggerDagRunOperator's reset_dag_run).
	Reset bool
	// Key names the request, unlike any other of its actor: a request that is sent again, because its answer was lost, has
	// the same key and no second effect. Empty: every request counts.
	Key string
}

// ClearRequest lets task instances run again. Fields follow Airflow's clearTaskInstances.
type ClearRequest struct {
	DAGID             string
	RunID             string // empty: by dates
	TaskIDs           []TaskSel
	StartDate         *time.Time
	EndDate           *time.Time
	IncludeUpstream   bool
	IncludeDownstream bool
	IncludeFuture     bool
	IncludePast       bool
	OnlyFailed        bool
	OnlyRunning       bool
	ResetDagRuns      bool
	RunOnLatest       bool
	DryRun            bool
	Note              *string
}

// TaskSel selects a task, or one mapped instance of it.
type TaskSel struct {
	TaskID   string
	MapIndex *int
}

// MarkRequest sets task instances to success, failed or skipped.
type MarkRequest struct {
	DAGID, RunID      string
	Tasks             []TaskSel
	State             run.TaskState
	IncludeUpstream   bool
	IncludeDownstream bool
	IncludeFuture     bool
	IncludePast       bool
	DryRun            bool
	Note              *string
}
