// Package run holds what happens to a DAG: DAG runs, task instances and attempts, their states and the tables of legal
// transitions, retry and backoff arithmetic, and trigger-rule evaluation.
//
// Everything here is a value or a pure function; the current time is always an argument. The package must not know
// where runs are stored or how tasks are executed.
package run

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
)

// State is the state of a DAG run.
type State string

// The states of a DAG run.
const (
	RunQueued  State = "queued"
	RunRunning State = "running"
	RunSuccess State = "success"
	RunFailed  State = "failed"
)

// Type says what brought a DAG run about.
type Type string

// The types of DAG run.
const (
	TypeScheduled            Type = "scheduled"
	TypeManual               Type = "manual"
	TypeBackfill             Type = "backfill"
	TypeAssetTriggered       Type = "asset_triggered"
	TypeAssetMaterialization Type = "asset_materialization"
)

// TaskState is the state of a task instance. The empty string is Airflow's "none": not yet looked at.
type TaskState string

// The states of a task instance.
const (
	None            TaskState = ""
	Scheduled       TaskState = "scheduled" // upstream satisfied, waiting for a slot
	Queued          TaskState = "queued"    // admitted: an attempt exists and is being launched
	Running         TaskState = "running"
	Success         TaskState = "success"
	Failed          TaskState = "failed"
	Skipped         TaskState = "skipped"
	UpstreamFailed  TaskState = "upstream_failed"
	UpForRetry      TaskState = "up_for_retry"
	UpForReschedule TaskState = "up_for_reschedule"
	Deferred        TaskState = "deferred"
	AwaitingInput   TaskState = "awaiting_input"
	Restarting      TaskState = "restarting" // cleared while running: its attempt is being killed
	Removed         TaskState = "removed"    // no longer in the DAG version the run uses
)

// A DAGRun is one execution of a DAG.
type DAGRun struct {
	DAGID string
	RunID string
	Type  Type
	State State

	LogicalDate       *time.Time
	DataIntervalStart *time.Time
	DataIntervalEnd   *time.Time
	RunAfter          time.Time
	QueuedAt          time.Time
	StartDate         *time.Time
	EndDate           *time.Time

	Conf json.RawMessage // a JSON object; never nil once stored
	Note string
	// TriggeredBy is the actor that created the run ("scheduler", "cli:alice", "dag:parent/run/task").
	TriggeredBy string
	// DAGVersion is the number of the DAG version the run uses; BundleVersion the content hash of its code.
	DAGVersion    int
	BundleVersion string
	ClearNumber   int
	BackfillID    int64
	// Version guards updates of the row: it grows by one with every change.
	Version int64
}

// Key names a task instance.
type Key struct {
	DAGID    string
	RunID    string
	TaskID   string
	MapIndex int // -1 for a task that is not mapped
}

// A TaskInstance is one task (or one mapped element of it) in one DAG run.
type TaskInstance struct {
	Key
	ID    string // UUID; a new one after clearing
	State TaskState

	// TryNumber counts tries begun, 0 before the first. A try that is rescheduled or deferred goes on in further attempts
	// under the same number. MaxTries is the number of tries after which a failure is final minus one, as in Airflow
	// (retries + tries used before the last clear + tries lost with a worker).
	TryNumber int
	MaxTries  int
	// InfraRetries counts the attempts lost to a dead worker since the last clear; they are not the author's retries.
	InfraRetries int
	// AttemptID is the current or last attempt; empty before the first.
	AttemptID string

	ScheduledAt *time.Time
	QueuedAt    *time.Time
	StartDate   *time.Time
	EndDate     *time.Time
	// NextAt is when an up_for_retry or up_for_reschedule instance may go on.
	NextAt *time.Time

	// Reason says in words why the instance is in its state, where that is not obvious.
	Reason           string
	Note             string
	RenderedMapIndex string
	RescheduleCount  int
	// NextMethod and NextKwargs resume a deferred task.
	NextMethod string
	NextKwargs json.RawMessage

	Hostname string
	PID      int
	Version  int64
}

// An Attempt is one process of a task instance. A try has one, or several when it was rescheduled or deferred. Every attempt
// is kept.
type Attempt struct {
	Key
	ID        string // UUIDv7, unique for ever
	TryNumber int
	State     TaskState // queued, running, then a final or waiting state
	// Instance is the incarnation of the executor (worker process) the attempt was handed to.
	Instance string
	Executor string

	QueuedAt  time.Time
	StartedAt *time.Time
	EndedAt   *time.Time

	PID      int
	Hostname string
	ExitCode *int
	Signal   string
	// Reason says in words why the attempt ended as it did ("exit code 3", "killed by the kernel: out of memory").
	Reason string
	// Infra is true for an attempt lost to a dead worker.
	Infra bool
	// Isolation is how the process came about, "fork" or "spawn", and IsolationReason why not by fork.
	Isolation       string
	IsolationReason string
	// Notices are sentences for people about this attempt: fields without effect, a GPU that is not there.
	Notices []string
	// MaxRSS is the peak memory of the process tree in bytes, CPUTime its user+system time; 0 when unknown.
	MaxRSS  int64
	CPUTime time.Duration
	// Rendered holds the rendered template fields as JSON, nil before rendering.
	Rendered json.RawMessage
	// GPUs are what the attempt holds from its row's creation to its end; GPUUse what it was seen to use of them, nil when
	// nothing was.
	GPUs   []gpu.Share
	GPUUse *gpu.Use
}
