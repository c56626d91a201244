// Package dag is the DAG model: what an author declared, as plain values.
//
// A DAG arrives as JSON from a DAG host (the Python runtime or a Go binary), is validated here, and is never changed
// afterwards: a change in the file makes a new version, named by the hash of its canonical form. The JSON tags in this
// package are therefore a wire format (see package protocol) and a storage format at once.
//
// The package promises that a DAG that passed Validate can be scheduled. It must not know about runs, time or I/O.
package dag

import (
	"encoding/json"
	"time"
)

// A DAG is one directed acyclic graph of tasks with its schedule and limits, as written by its author.
type DAG struct {
	ID          string `json:"dag_id"`
	DisplayName string `json:"dag_display_name,omitempty"`
	Description string `json:"description,omitempty"`
	DocMD       string `json:"doc_md,omitempty"`
	// File is the path of the defining file relative to the bundle's root, with forward slashes.
	File string `json:"file"`
	// Compat is the set of defaults the file was read with: CompatAirflow3 (also when empty) or CompatAirflow2.
	Compat string `json:"compat,omitempty"`

	Schedule  Schedule   `json:"schedule"`
	StartDate *time.Time `json:"start_date,omitempty"` // RFC 3339 with offset
	EndDate   *time.Time `json:"end_date,omitempty"`
	// Timezone is the IANA name in which cron expressions are read; "UTC" when empty.
	Timezone string `json:"timezone,omitempty"`
	Catchup  bool   `json:"catchup,omitempty"`

	// MaxActiveRuns, MaxActiveTasks: 0 means "the installation's default".
	MaxActiveRuns  int `json:"max_active_runs,omitempty"`
	MaxActiveTasks int `json:"max_active_tasks,omitempty"`
	// MaxConsecutiveFailedRuns pauses the DAG after so many failed runs in a row; 0 is off.
	MaxConsecutiveFailedRuns int      `json:"max_consecutive_failed_dag_runs,omitempty"`
	DagrunTimeout            *Seconds `json:"dagrun_timeout,omitempty"`
	FailFast                 bool     `json:"fail_fast,omitempty"`

	Tags                 []string          `json:"tags,omitempty"` // sorted
	OwnerLinks           map[string]string `json:"owner_links,omitempty"`
	Params               map[string]Param  `json:"params,omitempty"`
	PausedUponCreation   *bool             `json:"is_paused_upon_creation,omitempty"`
	AllowedRunTypes      []string          `json:"allowed_run_types,omitempty"`
	RenderNative         bool              `json:"render_template_as_native_obj,omitempty"`
	HasOnSuccessCallback bool              `json:"has_on_success_callback,omitempty"`
	HasOnFailureCallback bool              `json:"has_on_failure_callback,omitempty"`
	Deadlines            []json.RawMessage `json:"deadline,omitempty"`
	AccessControl        json.RawMessage   `json:"access_control,omitempty"`
	// ResultTask names the task whose return value is the DAG's result; empty when none was declared.
	ResultTask string `json:"result_task,omitempty"`

	Tasks      []Task      `json:"tasks"`                 // in order of declaration
	Groups     []TaskGroup `json:"task_groups,omitempty"` // the root group is not listed
	EdgeLabels []EdgeLabel `json:"edge_labels,omitempty"`
}

// Compat modes: which Airflow's defaults apply where Airflow 2 and 3 differ.
const (
	CompatAirflow3 = "airflow3"
	CompatAirflow2 = "airflow2"
)

// Schedule says when runs come about. Kind decides which of the other fields mean something.
type Schedule struct {
	// Kind is one of the Schedule* constants.
	Kind string `json:"kind"`
	// Expression is what the author wrote, for display: "0 2 * * 1", "@daily", "1 day, 0:00:00".
	Expression string `json:"expression,omitempty"`
	// Cron holds one or more 5- or 6-field expressions or presets for the cron kinds.
	Cron     []string `json:"cron,omitempty"`
	Timezone string   `json:"timezone,omitempty"` // overrides DAG.Timezone
	// Delta is the period of the delta kinds.
	Delta *Seconds `json:"delta,omitempty"`
	// RelativeDelta carries dateutil.relativedelta periods: years, months, weeks, days, hours, minutes, seconds.
	RelativeDelta map[string]int `json:"relativedelta,omitempty"`
	// Interval is CronTriggerTimetable's data interval length; zero makes start == end.
	Interval       *Seconds        `json:"interval,omitempty"`
	RunImmediately json.RawMessage `json:"run_immediately,omitempty"`
	Events         []time.Time     `json:"events,omitempty"`
	RestrictEvents bool            `json:"restrict_to_events,omitempty"`
	// Assets is the asset condition for the asset kinds.
	Assets *AssetExpr `json:"assets,omitempty"`
	// Time is the time part of ScheduleAssetOrTime.
	Time *Schedule `json:"time,omitempty"`
	// Custom is the import path of a timetable class written in Python, with its serialised arguments.
	Custom     string          `json:"custom,omitempty"`
	CustomArgs json.RawMessage `json:"custom_args,omitempty"`
	// MaxActiveRuns and NotPeriodic are what a custom class says of itself: active_runs_limit, and periodic turned off.
	MaxActiveRuns int  `json:"active_runs_limit,omitempty"`
	NotPeriodic   bool `json:"not_periodic,omitempty"`
}

// The kinds of Schedule.
const (
	ScheduleNone          = "none"
	ScheduleOnce          = "once"
	ScheduleContinuous    = "continuous"
	ScheduleCronTrigger   = "cron_trigger"  // fires at the tick; data interval is [tick-Interval, tick]
	ScheduleCronInterval  = "cron_interval" // fires at the end of the interval between two ticks (Airflow 2)
	ScheduleDeltaTrigger  = "delta_trigger"
	ScheduleDeltaInterval = "delta_interval"
	ScheduleEvents        = "events"
	ScheduleAssets        = "assets"
	ScheduleAssetOrTime   = "asset_or_time"
	ScheduleCustom        = "custom"
)

// AssetExpr is a boolean expression over assets: exactly one field is set.
type AssetExpr struct {
	Asset *AssetRef   `json:"asset,omitempty"`
	Alias string      `json:"alias,omitempty"`
	All   []AssetExpr `json:"all,omitempty"`
	Any   []AssetExpr `json:"any,omitempty"`
}

// AssetRef names an asset a task reads or writes.
type AssetRef struct {
	Name  string          `json:"name"`
	URI   string          `json:"uri,omitempty"`
	Group string          `json:"group,omitempty"`
	Extra json.RawMessage `json:"extra,omitempty"`
	// Alias is true when Name is an asset alias, resolved when the task runs.
	Alias bool `json:"alias,omitempty"`
	// Watchers update the asset whenever their triggers fire.
	Watchers []AssetWatcher `json:"watchers,omitempty"`
}

// AssetWatcher is a trigger that updates an asset: the path of its class, and its arguments in XCom's encoding.
type AssetWatcher struct {
	Name      string          `json:"name"`
	Classpath string          `json:"classpath"`
	Kwargs    json.RawMessage `json:"kwargs,omitempty"`
}

// Param is one declared run parameter with its JSON schema.
type Param struct {
	Value       json.RawMessage `json:"value,omitempty"` // absent: required
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Source      string          `json:"source,omitempty"`
}

// A Task is one node of the DAG. Mapped tasks stand here once; their instances are made per run.
type Task struct {
	ID          string `json:"task_id"` // with the group prefix
	DisplayName string `json:"task_display_name,omitempty"`
	Label       string `json:"label,omitempty"` // without the group prefix
	Group       string `json:"group,omitempty"` // "" is the root group
	// Operator is the operator's class name ("PythonOperator", "_PythonDecoratedOperator"); OperatorName is what the UI
	// shows ("@task"); Module is the class's module.
	Operator     string `json:"operator"`
	OperatorName string `json:"operator_name,omitempty"`
	Module       string `json:"module,omitempty"`
	// Kind says who does the work: KindProcess (also when empty), KindEmpty or a native kind.
	Kind string `json:"kind,omitempty"`

	// Upstream lists the ids this task directly waits for, sorted, without duplicates.
	Upstream    []string    `json:"upstream,omitempty"`
	TriggerRule TriggerRule `json:"trigger_rule,omitempty"` // "" is all_success

	Owner                  string   `json:"owner,omitempty"`
	Retries                int      `json:"retries,omitempty"`
	RetryDelay             Seconds  `json:"retry_delay"`                         // seconds
	RetryExponentialFactor float64  `json:"retry_exponential_backoff,omitempty"` // 0 off, else the multiplier (True is 2)
	MaxRetryDelay          *Seconds `json:"max_retry_delay,omitempty"`
	ExecutionTimeout       *Seconds `json:"execution_timeout,omitempty"`

	DependsOnPast                   bool `json:"depends_on_past,omitempty"`
	IgnoreFirstDependsOnPast        bool `json:"ignore_first_depends_on_past,omitempty"`
	WaitForDownstream               bool `json:"wait_for_downstream,omitempty"`
	WaitForPastDependsBeforeSkipped bool `json:"wait_for_past_depends_before_skipping,omitempty"`

	PriorityWeight        int             `json:"priority_weight,omitempty"` // 0 means 1
	WeightRule            string          `json:"weight_rule,omitempty"`     // downstream (default), upstream, absolute
	Queue                 string          `json:"queue,omitempty"`
	Pool                  string          `json:"pool,omitempty"`       // "" is default_pool
	PoolSlots             int             `json:"pool_slots,omitempty"` // 0 means 1
	Executor              string          `json:"executor,omitempty"`
	ExecutorConfig        json.RawMessage `json:"executor_config,omitempty"`
	MaxActiveTIsPerDag    int             `json:"max_active_tis_per_dag,omitempty"`
	MaxActiveTIsPerDagrun int             `json:"max_active_tis_per_dagrun,omitempty"`
	StartDate             *time.Time      `json:"start_date,omitempty"`
	EndDate               *time.Time      `json:"end_date,omitempty"`

	DoXComPush      bool `json:"do_xcom_push,omitempty"`
	MultipleOutputs bool `json:"multiple_outputs,omitempty"`

	Setup    bool `json:"is_setup,omitempty"`
	Teardown bool `json:"is_teardown,omitempty"`
	// Setups lists the setup tasks a teardown belongs to.
	Setups              []string `json:"setups,omitempty"`
	OnFailureFailDAGRun bool     `json:"on_failure_fail_dagrun,omitempty"`

	Callbacks Callbacks `json:"callbacks,omitzero"`

	Inlets  []AssetRef `json:"inlets,omitempty"`
	Outlets []AssetRef `json:"outlets,omitempty"`

	Mapped           *Mapping `json:"mapped,omitempty"`
	MapIndexTemplate string   `json:"map_index_template,omitempty"`

	Resources *Resources `json:"resources,omitempty"`
	// Isolation is "" (fork), "fork" or "spawn".
	Isolation string           `json:"isolation,omitempty"`
	Params    map[string]Param `json:"params,omitempty"`
	DocMD     string           `json:"doc_md,omitempty"`

	// TemplateFields names the templated arguments; Fields holds every argument worth showing, as written.
	TemplateFields []string                   `json:"template_fields,omitempty"`
	Fields         map[string]json.RawMessage `json:"fields,omitempty"`
	UIColor        string                     `json:"ui_color,omitempty"`
	UIFgColor      string                     `json:"ui_fgcolor,omitempty"`
}

// Kinds of work.
const (
	KindProcess = "process" // runs user code in a process of its own
	KindEmpty   = "empty"   // does nothing; the scheduler marks it successful without a process
)

// Callbacks says which callbacks the author gave; the functions themselves stay in the DAG's process.
type Callbacks struct {
	OnExecute bool `json:"on_execute,omitempty"`
	OnFailure bool `json:"on_failure,omitempty"`
	OnSuccess bool `json:"on_success,omitempty"`
	OnRetry   bool `json:"on_retry,omitempty"`
	OnSkipped bool `json:"on_skipped,omitempty"`
}

// Resources is what a task asks of the machine it runs on.
type Resources struct {
	CPU    float64 `json:"cpu,omitempty"`    // cores
	Memory int64   `json:"memory,omitempty"` // bytes
	GPUs   int     `json:"gpus,omitempty"`   // devices, all or nothing
	// GPUMemory is how many bytes of each device the task uses; others may use the rest. 0: it has its devices for itself.
	GPUMemory int64 `json:"gpu_memory,omitempty"`
	// Pod is set for what a pod asks for that runs as a process: what the machine does not have is not waited for. The task
	// starts, and says what is missing.
	Pod bool `json:"pod,omitempty"`
}

// UnmarshalJSON also reads "gpu", as "gpus" was called in DAG versions of before.
func (r *Resources) UnmarshalJSON(b []byte) error {
	type plain Resources
	old := struct {
		*plain
		GPU int `json:"gpu"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(b, &old); err != nil {
		return err
	}
	r.GPUs = max(r.GPUs, old.GPU)
	return nil
}

// Mapping is how a mapped task unfolds into instances.
type Mapping struct {
	// Kind is "expand" (product of the arguments) or "expand_kwargs".
	Kind string `json:"kind"`
	// Args, in order of declaration: the last varies fastest, as in Airflow.
	Args []MapArg `json:"args"`
}

// MapArg is one expanded argument: a literal of known length, or the return value of upstream tasks.
type MapArg struct {
	Name string `json:"name"`
	// Length is the number of elements of a literal; -1 when it comes from XCom.
	Length int `json:"length"`
	// Source is the expression a length is computed from when it comes from XCom.
	Source *MapSource `json:"source,omitempty"`
}

// MapSource is an XCom expression whose length the scheduler must know: a task's key, or zip/concat/map of sources.
type MapSource struct {
	Op   string      `json:"op"` // "xcom", "map", "zip", "concat"
	Task string      `json:"task,omitempty"`
	Key  string      `json:"key,omitempty"`
	Args []MapSource `json:"args,omitempty"`
	// FillValue is true for zip(fillvalue=…): the longest source decides instead of the shortest.
	FillValue bool `json:"fillvalue,omitempty"`
	// Length is set for literals inside zip/concat.
	Length *int `json:"length,omitempty"`
}

// TaskGroup is a named box of tasks and groups.
type TaskGroup struct {
	ID          string   `json:"group_id"` // with prefixes
	DisplayName string   `json:"group_display_name,omitempty"`
	Parent      string   `json:"parent,omitempty"` // "" is the root
	Tooltip     string   `json:"tooltip,omitempty"`
	PrefixOff   bool     `json:"prefix_off,omitempty"`
	Mapped      *Mapping `json:"mapped,omitempty"`
	UIColor     string   `json:"ui_color,omitempty"`
	UIFgColor   string   `json:"ui_fgcolor,omitempty"`
}

// EdgeLabel is the text an author put on an edge.
type EdgeLabel struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Label string `json:"label"`
}

// TriggerRule says which upstream states let a task start.
type TriggerRule string

// The trigger rules of Airflow 3.
const (
	AllSuccess              TriggerRule = "all_success"
	AllFailed               TriggerRule = "all_failed"
	AllDone                 TriggerRule = "all_done"
	AllDoneMinOneSuccess    TriggerRule = "all_done_min_one_success"
	AllDoneSetupSuccess     TriggerRule = "all_done_setup_success"
	OneSuccess              TriggerRule = "one_success"
	OneFailed               TriggerRule = "one_failed"
	OneDone                 TriggerRule = "one_done"
	NoneFailed              TriggerRule = "none_failed"
	NoneSkipped             TriggerRule = "none_skipped"
	Always                  TriggerRule = "always"
	NoneFailedMinOneSuccess TriggerRule = "none_failed_min_one_success"
	AllSkipped              TriggerRule = "all_skipped"
)

// Seconds is a duration written in JSON as a number of seconds.
type Seconds time.Duration

// MarshalJSON writes seconds with microsecond precision.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(s).Microseconds()) / 1e6)
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(time.Duration(f*1e6) * time.Microsecond)
	return nil
}

// Duration is s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }
