package plan

import (
	"cmp"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
)

// Limits is what an installation allows, from its configuration and its pools. Zero numbers mean the defaults that each
// comment names.
type Limits struct {
	// Executors gives the slots of each executor by name; an executor that is absent cannot be reached now.
	Executors map[string]int
	// DefaultExecutor runs tasks that name none; "" is "local".
	DefaultExecutor string
	// Pools by name. Every installation has default_pool.
	Pools map[string]Pool

	MaxActiveTasks int // of a DAG that sets none; 16
	MaxActiveRuns  int // of a DAG that sets none; 16

	// MaxInfraRetries caps the attempts an instance may lose to dead workers before a loss counts as a failure; 5.
	MaxInfraRetries int
	// MaxMapLength is the largest number of instances a mapped task may unfold into; 1024.
	MaxMapLength int
	// RetryDelay, when set, replaces every task's retry delay and backoff: for demos and tests.
	RetryDelay *time.Duration
	// MaxRetryDelay caps every retry delay; 24 h.
	MaxRetryDelay time.Duration

	// StrictResources makes requests for cores and memory binding; then the machine has these.
	StrictResources bool
	CPUs            float64
	Memory          int64
	// GPUs is what the machine of each executor has; an executor that is absent has not said so yet. Requests for GPUs are
	// always binding.
	GPUs map[string]gpu.Inventory
	// Now, when set, lets those go first who have waited for GPUs for long, and dates what people are told.
	Now time.Time
}

// A Pool limits how many slots run at once. Slots -1 is unlimited.
type Pool struct {
	Slots           int
	IncludeDeferred bool
}

// DefaultPool is the pool of tasks that name none.
const DefaultPool = "default_pool"

// TaskScopeRun and TaskScopeDAG say what max_active_tasks counts: one run (Airflow 3) or all runs of the DAG (Airflow 2).
const (
	TaskScopeRun = "run"
	TaskScopeDAG = "dag"
)

// Past is what depends_on_past needs to know of the run before this one. A nil Past means that this is the first run.
type Past struct {
	RunID string
	// States holds one state per task of the previous run, as PastOf computes it.
	States map[string]run.TaskState
}

// XComRef names a value whose length decides how a mapped task unfolds.
type XComRef struct {
	TaskID   string
	Key      string
	MapIndex int
}

// Options is what NewRun needs beside the run itself.
type Options struct {
	Limits Limits
	// NewID makes ids of task instances (UUIDs): for those mapped tasks unfold into, and after clearing. It is required.
	NewID func() string
	// Past is the previous run of the DAG by logical date; only needed when Index.DependsOnPast.
	Past *Past
	// FailedBefore counts the failed runs in a row directly before this one; only needed with max_consecutive_failed_dag_runs.
	FailedBefore int
	// MapLengths gives the lengths of XComs that mapped tasks unfold by and that were pushed before this Run was built:
	// the mapLength of every stored XCom of the tasks in Index.MapSources; -1 for values that are no list or dict.
	MapLengths map[XComRef]int
}

func (l Limits) maxInfraRetries() int        { return orDefault(l.MaxInfraRetries, 5) }
func (l Limits) maxMapLength() int           { return orDefault(l.MaxMapLength, 1024) }
func (l Limits) maxActiveTasks() int         { return orDefault(l.MaxActiveTasks, 16) }
func (l Limits) maxActiveRuns() int          { return orDefault(l.MaxActiveRuns, 16) }
func (l Limits) executor(name string) string { return cmp.Or(name, l.DefaultExecutor, "local") }

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
