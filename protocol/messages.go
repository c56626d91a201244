// Package protocol is the contract between Ostro and a process that runs a DAG file (a "DAG host") or one of its tasks.
//
// # Framing
//
// Every message is one frame: four bytes, big endian, the length of what follows; then that many bytes of JSON, an
// object {"id": N, "body": {"type": "...", ...}, "error": {"code": "...", "message": "..."}}. A request carries an id of
// its sender's choosing above zero; the answer carries the same id and either a body or an error. A message with id 0
// is a notification and is not answered. A frame is at most MaxFrame bytes; larger values travel by reference.
//
// # Channels
//
// A host has one control channel, inherited as the file descriptor that OSTRO_HOST_FD names. The first message is the
// host's Hello; the worker answers with Welcome or closes. Afterwards the worker sends Describe, Fork and Shutdown.
// A Fork frame is accompanied by exactly three file descriptors (SCM_RIGHTS, sent with the first byte of the frame):
// the task channel, stdout, stderr. While it handles Describe, and only then, the host may send requests of its own, with
// ids of its own: GetVariable and GetConnection, what a DAG file asks for at its top level; and MaskSecret.
// Requests and answers are told apart by their type.
//
// A task process has one task channel. The worker sends StartupDetails first, without being asked (id 0). The task
// then sends requests and, last, exactly one terminal message. Names and meanings follow Airflow's supervisor protocol.
//
// The package depends on the standard library only; the Python half is python/ostro/comms.py, and both replay the
// transcripts in testdata.
package protocol

import (
	"encoding/json"
	"time"
)

// Version is the protocol version both sides must share; it grows with every incompatible change.
const Version = 2

// ExitGone is the status a task process ends with that finds nobody to talk to or, before it has begun, is asked to end.
const ExitGone = 75

// ExitClosed is the status a task process ends with when the task's code has closed its channel.
const ExitClosed = 176

// MaxFrame is the largest frame either side accepts, in bytes.
const MaxFrame = 64 << 20

// Frame is one message on the wire.
type Frame struct {
	ID    uint64          `json:"id"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

// Error is a refusal. Codes are the constants Code*.
type Error struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes of Error, with the names Airflow's ErrorType uses where it has one.
const (
	CodeConnectionNotFound = "CONNECTION_NOT_FOUND"
	CodeVariableNotFound   = "VARIABLE_NOT_FOUND"
	CodeXComNotFound       = "XCOM_NOT_FOUND"
	CodeDagRunExists       = "DAGRUN_ALREADY_EXISTS"
	CodeNotFound           = "NOT_FOUND"
	CodePermission         = "PERMISSION_DENIED" // the attempt has ended or the token is not its own
	CodeInvalid            = "INVALID_REQUEST"
	CodeUnavailable        = "UNAVAILABLE" // the server cannot be reached; the worker retries before saying so
	CodeNotSupported       = "NOT_SUPPORTED"
	CodeGeneric            = "GENERIC_ERROR"
)

// ---- task channel, worker → task ----

// StartupDetails tells a task process what to run (notification, the first message).
type StartupDetails struct {
	Type       string       `json:"type"` // "StartupDetails"
	Kind       string       `json:"kind"` // KindTask, KindCallback or KindTriggerer
	TI         TaskRef      `json:"ti"`
	DagRelPath string       `json:"dag_rel_path"`
	Bundle     BundleInfo   `json:"bundle_info"`
	StartDate  time.Time    `json:"start_date"`
	Context    TIRunContext `json:"ti_context"`
	// Env is added to the process environment after the fork.
	Env map[string]string `json:"env,omitempty"`
	// ExecutionTimeout in seconds, 0 none: the task raises AirflowTaskTimeout itself; the worker kills some time later.
	ExecutionTimeout float64 `json:"execution_timeout,omitempty"`
	// Pods says how KubernetesPodOperator runs here; nil: it does not, with the reason in its error.
	Pods *PodSettings `json:"pods,omitempty"`
	// Callback is set for KindCallback.
	Callback *CallbackRequest `json:"callback,omitempty"`
	// BaseURL is where people see the UI, for log_url.
	BaseURL string `json:"base_url,omitempty"`
	// Compat and Defaults are those of Describe, for a process that imports the file itself (spawn).
	Compat   string                     `json:"compat,omitempty"`
	Defaults map[string]json.RawMessage `json:"defaults,omitempty"`
	// Scratch is a folder that the attempt may make, for files that nobody needs after it. The worker removes it when the
	// attempt is over, however that came about. Empty: there is none.
	Scratch string `json:"scratch,omitempty"`
}

// What a task process is for.
const (
	KindTask      = "task"
	KindCallback  = "callback"
	KindTriggerer = "triggerer"
)

// TaskRef names the task instance and the attempt.
type TaskRef struct {
	ID             string `json:"id"` // of the try: another one after a retry, the same after a deferral
	AttemptID      string `json:"attempt_id"`
	DAGID          string `json:"dag_id"`
	RunID          string `json:"run_id"`
	TaskID         string `json:"task_id"`
	MapIndex       int    `json:"map_index"`
	TryNumber      int    `json:"try_number"`
	Hostname       string `json:"hostname,omitempty"`
	Queue          string `json:"queue,omitempty"`
	Pool           string `json:"pool,omitempty"`
	PoolSlots      int    `json:"pool_slots,omitempty"`
	PriorityWeight int    `json:"priority_weight,omitempty"`
}

// BundleInfo names the code.
type BundleInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`       // the snapshot directory on this machine
	Shown   string `json:"shown_path"` // the directory people know it by
}

// TIRunContext is what the control plane knows when a task starts.
type TIRunContext struct {
	DagRun              DagRun          `json:"dag_run"`
	MaxTries            int             `json:"max_tries"`
	ShouldRetry         bool            `json:"should_retry"` // a failure of this attempt would be retried
	TaskRescheduleCount int             `json:"task_reschedule_count"`
	FirstStartDate      *time.Time      `json:"first_start_date,omitempty"` // of this try, for reschedule timeouts
	NextMethod          string          `json:"next_method,omitempty"`
	NextKwargs          json.RawMessage `json:"next_kwargs,omitempty"`
	ExpandedTICount     *int            `json:"expanded_ti_count,omitempty"`
	// UpstreamMapIndexes tells, for tasks in the same mapped group, which index to pull from.
	UpstreamMapIndexes map[string]json.RawMessage `json:"upstream_map_indexes,omitempty"`
	PrevIntervalStart  *time.Time                 `json:"prev_data_interval_start,omitempty"`
	PrevIntervalEnd    *time.Time                 `json:"prev_data_interval_end,omitempty"`
	NextIntervalStart  *time.Time                 `json:"next_data_interval_start,omitempty"`
	NextIntervalEnd    *time.Time                 `json:"next_data_interval_end,omitempty"`
}

// DagRun is the DAG run as a task sees it.
type DagRun struct {
	DAGID              string          `json:"dag_id"`
	RunID              string          `json:"run_id"`
	RunType            string          `json:"run_type"`
	State              string          `json:"state"`
	LogicalDate        *time.Time      `json:"logical_date"`
	DataIntervalStart  *time.Time      `json:"data_interval_start"`
	DataIntervalEnd    *time.Time      `json:"data_interval_end"`
	RunAfter           time.Time       `json:"run_after"`
	QueuedAt           *time.Time      `json:"queued_at,omitempty"`
	StartDate          *time.Time      `json:"start_date"`
	EndDate            *time.Time      `json:"end_date"`
	ClearNumber        int             `json:"clear_number"`
	Conf               json.RawMessage `json:"conf"`
	TriggeringUser     string          `json:"triggering_user_name,omitempty"`
	Note               string          `json:"note,omitempty"`
	ConsumedAssetEvent json.RawMessage `json:"consumed_asset_events,omitempty"`
}

// PodSettings is the configuration of pods as local processes.
type PodSettings struct {
	Mode string `json:"mode"` // "process"
	// Images maps a glob over image references to how its commands run here; the longest match wins.
	Images map[string]ImageSettings `json:"images"`
	// Strict makes resource requests binding.
	Strict bool `json:"strict,omitempty"`
	// ConfigFile is where the person would add a missing image, for the error's hint.
	ConfigFile string `json:"config_file,omitempty"`
	// GPUs is how many GPUs this machine has.
	GPUs int `json:"gpus"`
}

// ImageSettings says how commands of an image run as a local process.
type ImageSettings struct {
	Dir    string            `json:"dir" yaml:"dir"`                           // working directory, absolute
	Python string            `json:"python,omitempty" yaml:"python,omitempty"` // what "python" and "python3" mean
	Env    map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
}

// CallbackRequest asks a process to run one callback.
type CallbackRequest struct {
	// Kind is on_success_callback, on_failure_callback, on_retry_callback, on_skipped_callback.
	Kind string `json:"kind"`
	// DAG is true for the DAG's callback, false for the task's named by StartupDetails.TI.
	DAG    bool   `json:"dag"`
	Reason string `json:"reason,omitempty"`
}

// ---- task channel, task → worker, answered by the worker itself ----

// SetRenderedFields records the rendered template fields (notification).
type SetRenderedFields struct {
	Type   string          `json:"type"` // "SetRenderedFields"
	Fields json.RawMessage `json:"rendered_fields"`
}

// SetRenderedMapIndex records the rendered map_index_template (notification).
type SetRenderedMapIndex struct {
	Type string `json:"type"` // "SetRenderedMapIndex"
	Text string `json:"rendered_map_index"`
}

// MaskSecret adds a value that must never appear in a log. From a host it holds for all its tasks. As a request it is
// answered with OKResponse once the value is hidden; what was told in a notification may be printed before it is read.
type MaskSecret struct {
	Type  string `json:"type"` // "MaskSecret"
	Value string `json:"value"`
	Name  string `json:"name,omitempty"`
}

// AddNotice attaches a sentence for people to the attempt (notification).
type AddNotice struct {
	Type string `json:"type"` // "AddNotice"
	Text string `json:"text"`
}

// SkipDownstreamTasks asks to skip direct downstream tasks when the attempt succeeds (notification). Each element is a
// task id or [task id, map index].
type SkipDownstreamTasks struct {
	Type  string            `json:"type"` // "SkipDownstreamTasks"
	Tasks []json.RawMessage `json:"tasks"`
}

// LogRecord is one line of structured logging from the task's logging framework (notification).
type LogRecord struct {
	Type   string    `json:"type"` // "LogRecord"
	Time   time.Time `json:"time"`
	Level  string    `json:"level"` // debug, info, warning, error, critical
	Logger string    `json:"logger,omitempty"`
	Event  string    `json:"event"`
	// Error is a formatted traceback.
	Error string `json:"error,omitempty"`
	// After is how many bytes the task's own process had written to stdout and stderr by then: the record belongs behind
	// them in the log. Empty: unknown.
	After []int64 `json:"after,omitempty"`
	// Begun says of both whether the process had begun a line there and not ended it, or was just writing. Empty: neither.
	Begun []bool `json:"begun,omitempty"`
	// Alone says that no other thread can have printed between the count and the sending of the record.
	Alone bool `json:"alone,omitempty"`
	// Behind says that the task waits for the answer: the record belongs behind all that its process, and any other, has written to
	// stdout and stderr. It is sent as a request.
	Behind bool `json:"behind,omitempty"`
}

// ImportedModules names the large modules the task imported that its host did not have, in the order of their import
// (notification, sent after the terminal message by forked tasks only). A later Describe may name them in Preload.
type ImportedModules struct {
	Type    string   `json:"type"` // "ImportedModules"
	Modules []string `json:"modules"`
}

// Exiting is the last message of a forked task (notification): it has no children, its descriptors are closed but for the
// channel, which follows, and what the kernel has yet to take away concerns nobody. A task that has more to leave behind, a
// thread, a shared mapping or much memory, does not send it, and its end is the host's Exited. The fields are as there.
type Exiting struct {
	Type   string  `json:"type"` // "Exiting"
	Status int     `json:"status"`
	UTime  float64 `json:"utime"`
	STime  float64 `json:"stime"`
	MaxRSS int64   `json:"maxrss"`
}

// ---- task channel, task → worker, terminal: exactly one, then callbacks, then CallbacksDone, then exit ----

// SucceedTask ends the attempt well.
type SucceedTask struct {
	Type    string    `json:"type"` // "SucceedTask"
	EndDate time.Time `json:"end_date"`
	// XComs are the return value and, with multiple_outputs, its keys; committed together with the success.
	XComs []XComValue `json:"xcoms,omitempty"`
	// OutletEvents are asset events: {name, uri, extra}, and for those added to an alias also {alias, group, asset_extra}. An
	// empty name or uri means the asset that has the other.
	OutletEvents json.RawMessage `json:"outlet_events,omitempty"`
	// Callbacks names the callbacks the task process is about to run; those not confirmed by CallbacksDone when the
	// process is gone are run again elsewhere.
	Callbacks []string `json:"callbacks,omitempty"`
}

// XComValue is one XCom to store. Value is JSON in Airflow's encoding for types JSON lacks.
type XComValue struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	// MapLength is the number of elements when the value is a list or dict, else -1.
	MapLength int `json:"map_length"`
}

// TaskState ends the attempt as failed (never retried), skipped or removed.
type TaskState struct {
	Type      string      `json:"type"`  // "TaskState"
	State     string      `json:"state"` // failed, skipped, removed
	EndDate   time.Time   `json:"end_date"`
	Reason    string      `json:"reason,omitempty"` // "ValueError: Model quality too low", and further lines of its message
	XComs     []XComValue `json:"xcoms,omitempty"`
	Callbacks []string    `json:"callbacks,omitempty"`
}

// RetryTask ends the attempt as failed; it is retried while tries are left.
type RetryTask struct {
	Type      string      `json:"type"` // "RetryTask"
	EndDate   time.Time   `json:"end_date"`
	Reason    string      `json:"reason,omitempty"`
	XComs     []XComValue `json:"xcoms,omitempty"`
	Callbacks []string    `json:"callbacks,omitempty"`
}

// RescheduleTask ends the attempt until a time (sensors in reschedule mode).
type RescheduleTask struct {
	Type           string    `json:"type"` // "RescheduleTask"
	RescheduleDate time.Time `json:"reschedule_date"`
	EndDate        time.Time `json:"end_date"`
}

// DeferTask ends the attempt until a trigger fires.
type DeferTask struct {
	Type          string          `json:"type"` // "DeferTask"
	Classpath     string          `json:"classpath"`
	TriggerKwargs json.RawMessage `json:"trigger_kwargs"`
	TriggerTime   *float64        `json:"trigger_timeout,omitempty"` // seconds
	NextMethod    string          `json:"next_method"`
	NextKwargs    json.RawMessage `json:"next_kwargs"`
	// Input is set in place of a trigger when a person is asked: the attempt ends until somebody has answered.
	// It has subject, body, options, defaults, multiple, params ({name: {value, description, schema}}) and assigned_users.
	Input json.RawMessage `json:"input,omitempty"`
}

// CallbacksDone confirms that the announced callbacks have run (notification); Errors names those that raised, whose
// traceback is in the log.
type CallbacksDone struct {
	Type   string   `json:"type"` // "CallbacksDone"
	Errors []string `json:"errors,omitempty"`
}

// ---- task channel, task → worker, forwarded to the control plane ----

// Request is a question or an order for the control plane. Type says which; the fields that each type uses are:
//
//	GetXCom              dag_id run_id task_id map_index key include_prior_dates files → XComResult
//	GetXComCount         dag_id run_id task_id key                     → {"type":"XComCountResponse","len":n}
//	GetXComSequenceItem  dag_id run_id task_id key offset              → XComResult
//	GetXComSequenceSlice dag_id run_id task_id key start stop step     → {"type":"XComSequenceSliceResult","root":[…]}
//	SetXCom              dag_id run_id task_id map_index key value map_length → OKResponse
//	SetXComFile          dag_id run_id task_id map_index key file map_length → OKResponse
//	DeleteXCom           dag_id run_id task_id map_index key           → OKResponse
//	GetVariable          key                                           → {"type":"VariableResult","key","value"}
//	PutVariable          key value description                         → OKResponse
//	DeleteVariable       key                                           → OKResponse
//	GetConnection        conn_id                                       → ConnectionResult
//	TriggerDagRun        dag_id run_id logical_date conf reset_dag_run note → {"type":"TriggerDagRunResult","run_id"}
//	GetDagRunState       dag_id run_id                                 → {"type":"DagRunStateResult","state"}
//	GetDagRun            dag_id run_id                                 → DagRun with type "DagRunResult"
//	GetPreviousDagRun    dag_id logical_date state                     → {"type":"PreviousDagRunResult","dag_run":…|null}
//	GetPrevSuccessfulDagRun ti_id                                      → {"type":"PrevSuccessfulDagRunResult",
//	                     "data_interval_start","data_interval_end","start_date","end_date"}
//	GetTICount           dag_id task_ids run_ids logical_dates states  → {"type":"TICount","count":n}
//	GetTaskStates        dag_id task_ids run_ids logical_dates         → {"type":"TaskStatesResult","task_states":{run:{task:state}}}
//	GetTaskInstances     dag_id run_id task_ids states place limit     → {"type":"TaskInstancesResult","task_instances":[…],"next":place}
//	                     with offset for place (older runtimes)        → {"type":"TaskInstancesResult","task_instances":[…],"total":n}
//	GetDRCount           dag_id run_ids logical_dates states           → {"type":"DRCount","count":n}
//	GetDag               dag_id                                        → {"type":"DagResult","dag_id","is_paused",…}
//	GetAssetByName       name                                          → {"type":"AssetResult","name","uri","group","extra"}
//	GetAssetByUri        uri                                           → AssetResult
//	GetAssetEventByAsset name uri after before ascending limit         → {"type":"AssetEventsResult","asset_events":[…]}
//	GetAssetEventByAssetAlias alias_name after before ascending limit  → AssetEventsResult
//	AwaitRuns            classpath trigger_kwargs seconds              → {"type":"RunsAwaited","fired":b,"payload":…}
//	GetTriggers          token                                         → TriggererWork, as soon as there is some
//	TriggerFired         wait_id payload, or state and xcoms           → OKResponse
//	TriggerFailed        wait_id error traceback                       → OKResponse
//	TriggerBlocks        wait_id text alone                            → OKResponse
//
// GetXCom with a missing value answers XComResult with value null and "found": false. A task that can read the control plane's
// files says so (files), and is told where a large value is. SetXComFile stores the JSON text in a file that the task has made
// in its folder (StartupDetails.Scratch); it is as good as SetXCom, and a control plane that does not know it refuses it.
type Request struct {
	Type string `json:"type"`

	DAGID      string `json:"dag_id,omitempty"`
	RunID      string `json:"run_id,omitempty"`
	TaskID     string `json:"task_id,omitempty"`
	MapIndex   *int   `json:"map_index,omitempty"` // absent: -1
	Key        string `json:"key,omitempty"`
	PriorDates bool   `json:"include_prior_dates,omitempty"`
	Offset     int    `json:"offset,omitempty"`
	Start      *int   `json:"start,omitempty"`
	Stop       *int   `json:"stop,omitempty"`
	Step       *int   `json:"step,omitempty"`

	Value       json.RawMessage `json:"value,omitempty"`
	File        string          `json:"file,omitempty"`
	Files       bool            `json:"files,omitempty"`
	MapLength   *int            `json:"map_length,omitempty"`
	Description *string         `json:"description,omitempty"`

	ConnID string `json:"conn_id,omitempty"`
	TIID   string `json:"ti_id,omitempty"`

	LogicalDate  *time.Time      `json:"logical_date,omitempty"`
	LogicalDates []time.Time     `json:"logical_dates,omitempty"`
	RunIDs       []string        `json:"run_ids,omitempty"`
	TaskIDs      []string        `json:"task_ids,omitempty"`
	States       []string        `json:"states,omitempty"`
	State        string          `json:"state,omitempty"`
	Conf         json.RawMessage `json:"conf,omitempty"`
	ResetDagRun  bool            `json:"reset_dag_run,omitempty"`
	Note         string          `json:"note,omitempty"`

	Name      string     `json:"name,omitempty"`
	URI       string     `json:"uri,omitempty"`
	AliasName string     `json:"alias_name,omitempty"`
	After     *time.Time `json:"after,omitempty"`
	Before    *time.Time `json:"before,omitempty"`
	Ascending *bool      `json:"ascending,omitempty"` // absent: true
	Limit     int        `json:"limit,omitempty"`
	Place     *int64     `json:"place,omitempty"` // after which to go on; 0: from the beginning, and as "next": there is no more

	// Of triggers. GetTaskStates takes task_group_id, too.
	TaskGroupID   string          `json:"task_group_id,omitempty"`
	Classpath     string          `json:"classpath,omitempty"`
	TriggerKwargs json.RawMessage `json:"trigger_kwargs,omitempty"`
	Seconds       float64         `json:"seconds,omitempty"`
	Token         string          `json:"token,omitempty"`
	WaitID        string          `json:"wait_id,omitempty"`
	Payload       json.RawMessage `json:"payload,omitempty"`
	XComs         []XComValue     `json:"xcoms,omitempty"`
	Error         string          `json:"error,omitempty"`
	Traceback     string          `json:"traceback,omitempty"`
	Text          string          `json:"text,omitempty"`
	Alone         bool            `json:"alone,omitempty"`

	// RequestID is set by the worker, the same each time it sends the request: after the server was away a request may
	// arrive twice.
	RequestID string `json:"request_id,omitempty"`
}

// TriggererWork answers GetTriggers: what a triggerer is to run, or with Full false what has changed since token.
type TriggererWork struct {
	Type   string          `json:"type"`  // "TriggererWork"
	Token  string          `json:"token"` // for the next question
	Full   bool            `json:"full,omitempty"`
	Add    []TriggerOrder  `json:"add,omitempty"`
	Cancel []TriggerCancel `json:"cancel,omitempty"`
	Stop   bool            `json:"stop,omitempty"` // nothing is left to run
}

// TriggerOrder is one trigger to run.
type TriggerOrder struct {
	ID        string          `json:"id"` // of the wait
	DAGID     string          `json:"dag_id"`
	RunID     string          `json:"run_id"`
	TaskID    string          `json:"task_id"`
	MapIndex  int             `json:"map_index"`
	Classpath string          `json:"classpath"`
	Kwargs    json.RawMessage `json:"kwargs"`
	File      string          `json:"file"` // the DAG's, below the bundle
	// Asset is set where no task waits: each event updates the asset of this name, and the trigger runs on.
	Asset string `json:"asset,omitempty"`
}

// TriggerCancel is a trigger to stop. Killed is set when a person has cleared or marked its task.
type TriggerCancel struct {
	ID     string `json:"id"`
	Killed bool   `json:"killed,omitempty"`
}

// XComResult answers GetXCom.
type XComResult struct {
	Type  string          `json:"type"` // "XComResult"
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	Found bool            `json:"found"`
	// File holds the value in its place, as JSON; its SHA-256 is the name of its folder and its own, one behind the other.
	File string `json:"file,omitempty"`
}

// ConnectionResult answers GetConnection.
type ConnectionResult struct {
	Type     string `json:"type"` // "ConnectionResult"
	ConnID   string `json:"conn_id"`
	ConnType string `json:"conn_type"`
	Host     string `json:"host,omitempty"`
	Schema   string `json:"schema,omitempty"`
	Login    string `json:"login,omitempty"`
	Password string `json:"password,omitempty"`
	Port     *int   `json:"port,omitempty"`
	Extra    string `json:"extra,omitempty"`
}

// OKResponse acknowledges an order.
type OKResponse struct {
	Type string `json:"type"` // "OKResponse"
	OK   bool   `json:"ok"`
}
