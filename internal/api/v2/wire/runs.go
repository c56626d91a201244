package wire

import (
	"encoding/json"
	"fmt"
)

// DAGRun is one execution of a DAG.
type DAGRun struct {
	DagRunID               string          `json:"dag_run_id"`
	DAGID                  string          `json:"dag_id"`
	LogicalDate            *Time           `json:"logical_date"`
	QueuedAt               *Time           `json:"queued_at"`
	StartDate              *Time           `json:"start_date"`
	EndDate                *Time           `json:"end_date"`
	Duration               *float64        `json:"duration"`
	DataIntervalStart      *Time           `json:"data_interval_start"`
	DataIntervalEnd        *Time           `json:"data_interval_end"`
	RunAfter               Time            `json:"run_after"`
	LastSchedulingDecision *Time           `json:"last_scheduling_decision"`
	RunType                string          `json:"run_type"`
	State                  string          `json:"state"`
	TriggeredBy            *string         `json:"triggered_by"`
	TriggeringUserName     *string         `json:"triggering_user_name"`
	Conf                   json.RawMessage `json:"conf"`
	Note                   *string         `json:"note"`
	DagVersions            []DagVersion    `json:"dag_versions"`
	BundleVersion          *string         `json:"bundle_version"`
	DagDisplayName         string          `json:"dag_display_name"`
	PartitionKey           *string         `json:"partition_key"`
	PartitionDate          *Time           `json:"partition_date"`
	Ostro                  RunExtras       `json:"ostro"`
}

// RunExtras is what Airflow's answer has no member for.
type RunExtras struct {
	Actor       string `json:"actor"`
	ClearNumber int    `json:"clear_number"`
}

// DAGRuns answers GET …/dagRuns. The cursors are always null: pages are addressed by limit and offset.
type DAGRuns struct {
	DagRuns        []DAGRun `json:"dag_runs"`
	Total          int      `json:"total_entries"`
	NextCursor     *string  `json:"next_cursor"`
	PreviousCursor *string  `json:"previous_cursor"`
}

// Waited is one line of the answer to GET …/wait.
type Waited struct {
	State   string                     `json:"state"`
	Results map[string]json.RawMessage `json:"results,omitempty"`
}

// TaskInstance is one task of one DAG run.
type TaskInstance struct {
	ID               string          `json:"id"`
	TaskID           string          `json:"task_id"`
	DAGID            string          `json:"dag_id"`
	DagRunID         string          `json:"dag_run_id"`
	MapIndex         int             `json:"map_index"`
	LogicalDate      *Time           `json:"logical_date"`
	RunAfter         Time            `json:"run_after"`
	StartDate        *Time           `json:"start_date"`
	EndDate          *Time           `json:"end_date"`
	Duration         *float64        `json:"duration"`
	State            *string         `json:"state"`
	TryNumber        int             `json:"try_number"`
	MaxTries         int             `json:"max_tries"`
	TaskDisplayName  string          `json:"task_display_name"`
	DagDisplayName   string          `json:"dag_display_name"`
	Hostname         *string         `json:"hostname"`
	Unixname         *string         `json:"unixname"`
	Pool             string          `json:"pool"`
	PoolSlots        int             `json:"pool_slots"`
	Queue            *string         `json:"queue"`
	PriorityWeight   *int            `json:"priority_weight"`
	Operator         *string         `json:"operator"`
	OperatorName     *string         `json:"operator_name"`
	QueuedWhen       *Time           `json:"queued_when"`
	ScheduledWhen    *Time           `json:"scheduled_when"`
	PID              *int            `json:"pid"`
	Executor         *string         `json:"executor"`
	ExecutorConfig   string          `json:"executor_config"`
	Note             *string         `json:"note"`
	RenderedMapIndex *string         `json:"rendered_map_index"`
	RenderedFields   json.RawMessage `json:"rendered_fields"`
	Trigger          json.RawMessage `json:"trigger"`
	TriggererJob     json.RawMessage `json:"triggerer_job"`
	DagVersion       *DagVersion     `json:"dag_version"`
	Ostro            TIExtras        `json:"ostro"`
}

// TIExtras is what Airflow's answer has no member for: why, and what ran.
type TIExtras struct {
	AttemptID string `json:"attempt_id,omitempty"`
	// Reason says in words why the instance is in its state.
	Reason string `json:"reason,omitempty"`
	// Waiting says in words what a scheduled or queued instance waits for.
	Waiting string `json:"waiting,omitempty"`
	// Notices are sentences about the attempt: fields without effect here, a device that is not there.
	Notices         []string `json:"notices,omitempty"`
	Isolation       string   `json:"isolation,omitempty"`
	IsolationReason string   `json:"isolation_reason,omitempty"`
	ExitCode        *int     `json:"exit_code,omitempty"`
	Signal          string   `json:"signal,omitempty"`
	Infra           bool     `json:"infra,omitempty"`
	InfraRetries    int      `json:"infra_retries,omitempty"`
	MaxRSS          int64    `json:"max_rss,omitempty"`
	CPUSeconds      float64  `json:"cpu_seconds,omitempty"`
	NextAt          *Time    `json:"next_at,omitempty"`
	// GPUs are what the attempt holds, or held; GPUUse what it was seen to use of them.
	GPUs   []GPU   `json:"gpus,omitempty"`
	GPUUse *GPUUse `json:"gpu_use,omitempty"`
}

// GPU is a device that an attempt holds: all of it, or with Memory so many bytes beside others.
type GPU struct {
	UUID   string `json:"uuid"`
	Label  string `json:"label"` // "GPU 0"
	Index  int    `json:"index"`
	Memory int64  `json:"memory,omitempty"`
}

// GPUUse is what an attempt was seen to use of its GPUs over time.
type GPUUse struct {
	PeakMemory int64   `json:"peak_memory"` // bytes
	Busy       float64 `json:"busy"`        // percent, on average
	// OfDevice: memory is that of the whole devices, since the attempt's processes cannot be told apart.
	OfDevice bool    `json:"of_device,omitempty"`
	Begin    Time    `json:"begin"`
	Step     float64 `json:"step"` // seconds a point stands for
	// Points follow each other from begin; one without samples is null.
	Points []*GPUPoint `json:"points"`
}

// GPUPoint sums up one step: the most memory in bytes, and how busy the devices were in percent.
type GPUPoint struct {
	Memory int64   `json:"memory"`
	Busy   float64 `json:"busy"`
}

// TaskInstances answers GET …/taskInstances.
type TaskInstances struct {
	TaskInstances  []TaskInstance `json:"task_instances"`
	Total          int            `json:"total_entries"`
	NextCursor     *string        `json:"next_cursor"`
	PreviousCursor *string        `json:"previous_cursor"`
}

// ClearedInstances answers POST …/clearTaskInstances and …/clear.
type ClearedInstances struct {
	TaskInstances []TaskInstance `json:"task_instances"`
	Total         int            `json:"total_entries"`
}

// Try is one attempt in the history of a task instance.
type Try struct {
	TaskID          string      `json:"task_id"`
	DAGID           string      `json:"dag_id"`
	DagRunID        string      `json:"dag_run_id"`
	MapIndex        int         `json:"map_index"`
	StartDate       *Time       `json:"start_date"`
	EndDate         *Time       `json:"end_date"`
	Duration        *float64    `json:"duration"`
	State           *string     `json:"state"`
	TryNumber       int         `json:"try_number"`
	MaxTries        int         `json:"max_tries"`
	TaskDisplayName string      `json:"task_display_name"`
	DagDisplayName  string      `json:"dag_display_name"`
	Hostname        *string     `json:"hostname"`
	Unixname        *string     `json:"unixname"`
	Pool            string      `json:"pool"`
	PoolSlots       int         `json:"pool_slots"`
	Queue           *string     `json:"queue"`
	PriorityWeight  *int        `json:"priority_weight"`
	Operator        *string     `json:"operator"`
	OperatorName    *string     `json:"operator_name"`
	QueuedWhen      *Time       `json:"queued_when"`
	ScheduledWhen   *Time       `json:"scheduled_when"`
	PID             *int        `json:"pid"`
	Executor        *string     `json:"executor"`
	ExecutorConfig  string      `json:"executor_config"`
	DagVersion      *DagVersion `json:"dag_version"`
	Ostro           TIExtras    `json:"ostro"`
}

// Tries answers GET …/tries.
type Tries struct {
	TaskInstances []Try `json:"task_instances"`
	Total         int   `json:"total_entries"`
}

// Dependencies answers GET …/dependencies: what an instance still waits for.
type Dependencies struct {
	Dependencies []Dependency `json:"dependencies"`
}

// Dependency is one reason why an instance does not run.
type Dependency struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Logs answers GET …/logs/{try_number}. ContinuationToken is null at the end of the log.
type Logs struct {
	Content           []LogLine `json:"content"`
	ContinuationToken *string   `json:"continuation_token"`
}

// LogLine is one structured line of a log.
type LogLine struct {
	Timestamp *Time    `json:"timestamp,omitempty"`
	Event     string   `json:"event"`
	Level     string   `json:"level,omitempty"`
	Logger    string   `json:"logger,omitempty"`
	Stream    string   `json:"stream,omitempty"`
	Sources   []string `json:"sources,omitempty"`
}

// XCom is an entry without its value.
type XCom struct {
	Key             string `json:"key"`
	Timestamp       Time   `json:"timestamp"`
	LogicalDate     *Time  `json:"logical_date"`
	MapIndex        int    `json:"map_index"`
	TaskID          string `json:"task_id"`
	DAGID           string `json:"dag_id"`
	RunID           string `json:"run_id"`
	DagDisplayName  string `json:"dag_display_name"`
	TaskDisplayName string `json:"task_display_name"`
	RunAfter        Time   `json:"run_after"`
}

// XComValue is an entry with its value: JSON, or a string when it was asked for as text.
type XComValue struct {
	XCom
	Value json.RawMessage `json:"value"`
}

// XComs answers GET …/xcomEntries.
type XComs struct {
	Entries []XCom `json:"xcom_entries"`
	Total   int    `json:"total_entries"`
}

// Live is one line of the stream GET /live/dags/{dag_id}/dagRuns/{run_id}: first the whole state, then what changed.
type Live struct {
	// Type is "run", "tasks", "ping" or "end".
	Type  string         `json:"type"`
	Run   *DAGRun        `json:"run,omitempty"`
	Tasks []TaskInstance `json:"tasks,omitempty"`
	// Logs holds the last lines of instances that failed or will be retried, by "task_id" or "task_id[map_index]".
	Logs map[string][]string `json:"logs,omitempty"`
}

// InstanceName is how an instance is written for people: the task's id, with the map index in brackets when it has one.
func InstanceName(taskID string, mapIndex int) string {
	if mapIndex < 0 {
		return taskID
	}
	return fmt.Sprintf("%s[%d]", taskID, mapIndex)
}
