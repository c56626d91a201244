// Package executor is the contract between the scheduler and whatever runs attempts: a worker process on this machine, a
// Kubernetes cluster, or a script in tests.
//
// An executor is keyed by attempt id and every order is idempotent: launching a known attempt again does nothing.
// Orders are requests; what really happened is reported through the Sink, at least once, until acknowledged.
package executor

import (
	"context"
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/protocol"
)

// Executor runs attempts.
type Executor interface {
	// Name is how tasks ask for this executor: "local", "kubernetes".
	Name() string
	// Instance identifies the incarnation that owns attempts launched now; empty while none can be reached. When it
	// changes, every attempt of the former instance that Connected does not list is surely dead.
	Instance() string
	// Launch hands over an attempt. It returns when the order has been passed on, not when the process runs.
	Launch(ctx context.Context, a Attempt) error
	// Kill ends an attempt's whole process tree: TERM, grace, KILL. The end is reported through Sink.Finished.
	Kill(ctx context.Context, attemptID, reason string) error
	// Acknowledge says that the results of these attempts are committed, so the executor may forget them.
	Acknowledge(ctx context.Context, attemptIDs ...string) error
	// Run connects, reconnects and reports to sink until ctx ends.
	Run(ctx context.Context, sink Sink) error
}

// Sink receives what happens to attempts. Calls come from one goroutine per executor except Call, which may run
// concurrently and may block while the control plane answers.
type Sink interface {
	// Connected reports, after every (re)connection, all attempts the executor knows: running ones and finished ones
	// whose results were not acknowledged (the latter follow through Finished as well).
	Connected(executor, instance string, known []Known)
	Started(Started)
	Finished(Result)
	// Call answers a task's request to the control plane. token is the attempt's token.
	Call(ctx context.Context, attemptID, token string, request json.RawMessage) (json.RawMessage, error)
}

// ImportSink is a Sink that also answers what a DAG file asks while it is imported.
type ImportSink interface {
	// CallImport answers GetVariable and GetConnection for a file of the bundle. It may run concurrently.
	CallImport(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error)
}

// DeviceSink is a Sink that also takes in what GPUs the executor's machine has and how they are used.
type DeviceSink interface {
	// Devices says what GPUs there are. It comes before Connected when they are known by then, and after every change.
	Devices(executor string, inv gpu.Inventory)
	// Used says what a running attempt was seen to use, from its beginning.
	Used(attemptID string, use gpu.Use)
}

// Retirer is an Executor whose incarnation may be of an older build that makes room for a newer one once it has nothing to
// do.
type Retirer interface {
	// Retire is called when no attempt is open. It reports whether the incarnation was outdated and ends now: Instance is
	// empty then, until Connected reports the next one.
	Retire() bool
}

// Attempt is an order to run one attempt.
type Attempt struct {
	ID    string `json:"id"`
	Token string `json:"token"` // plain; the store keeps only its hash
	// Instance is the incarnation the attempt was queued for. Another one must not begin it: it has been, or is about to be,
	// declared lost and replaced. Empty: any.
	Instance string `json:"instance,omitempty"`
	// Startup is complete except for what only the worker knows (pods, hostname).
	Startup protocol.StartupDetails `json:"startup"`
	// Interpreter is the Python executable of the bundle; empty: the worker's default.
	Interpreter string `json:"interpreter,omitempty"`
	Isolation   string `json:"isolation,omitempty"` // "", "fork", "spawn"
	// LogPath is relative to the log root.
	LogPath string `json:"log_path"`
	// ExecutionTimeout is enforced by the worker some seconds after the task's own alarm; zero: none.
	ExecutionTimeout time.Duration `json:"execution_timeout,omitempty"`
	// Grace is the time between TERM and KILL; zero: the worker's default.
	Grace time.Duration `json:"grace,omitempty"`
	// Callbacks names the task's callbacks the author gave (on_failure_callback, …), so that the worker can say which are
	// still owed when a process dies.
	Callbacks []string `json:"callbacks,omitempty"`
	Compat    string   `json:"compat,omitempty"`
	// GPUs are the devices the attempt holds; it sees no others.
	GPUs []gpu.Share `json:"gpus,omitempty"`
}

// Known is one attempt an executor holds.
type Known struct {
	AttemptID string `json:"attempt_id"`
	Running   bool   `json:"running"` // false: finished, not acknowledged
}

// Started reports that an attempt's process exists.
type Started struct {
	AttemptID       string    `json:"attempt_id"`
	At              time.Time `json:"at"`
	PID             int       `json:"pid"`
	Hostname        string    `json:"hostname"`
	Isolation       string    `json:"isolation"`
	IsolationReason string    `json:"isolation_reason,omitempty"`
}

// Result is the end of an attempt, complete enough to be committed without asking again.
type Result struct {
	AttemptID string        `json:"attempt_id"`
	State     run.TaskState `json:"state"` // see plan.Outcome.State
	Final     bool          `json:"final,omitempty"`
	Infra     bool          `json:"infra,omitempty"`
	Uncounted bool          `json:"uncounted,omitempty"` // see plan.Outcome.Uncounted
	Reason    string        `json:"reason,omitempty"`

	StartedAt       *time.Time `json:"started_at,omitempty"`
	EndedAt         time.Time  `json:"ended_at"`
	PID             int        `json:"pid,omitempty"`
	Hostname        string     `json:"hostname,omitempty"`
	ExitCode        *int       `json:"exit_code,omitempty"`
	Signal          string     `json:"signal,omitempty"`
	Isolation       string     `json:"isolation,omitempty"`
	IsolationReason string     `json:"isolation_reason,omitempty"`
	MaxRSS          int64      `json:"max_rss,omitempty"`
	CPUSeconds      float64    `json:"cpu_seconds,omitempty"`

	XComs            []protocol.XComValue `json:"xcoms,omitempty"`
	Rendered         json.RawMessage      `json:"rendered,omitempty"`
	RenderedMapIndex string               `json:"rendered_map_index,omitempty"`
	Notices          []string             `json:"notices,omitempty"`
	SkipTasks        []json.RawMessage    `json:"skip_tasks,omitempty"`
	OutletEvents     json.RawMessage      `json:"outlet_events,omitempty"`
	RescheduleAt     *time.Time           `json:"reschedule_at,omitempty"`
	Defer            *protocol.DeferTask  `json:"defer,omitempty"`
	// CallbacksOwed names callbacks that were announced, or should have run, and are not confirmed.
	CallbacksOwed []string `json:"callbacks_owed,omitempty"`
	// Reported is true when the task itself said how it ended, false when its process just died.
	Reported bool `json:"reported"`
	// GPUUse is what it was seen to use of its GPUs, nil when nothing was.
	GPUUse *gpu.Use `json:"gpu_use,omitempty"`
}
