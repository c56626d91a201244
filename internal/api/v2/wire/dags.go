package wire

import "encoding/json"

// DAG is a DAG as listed.
type DAG struct {
	DAGID                       string    `json:"dag_id"`
	DagDisplayName              string    `json:"dag_display_name"`
	IsPaused                    bool      `json:"is_paused"`
	IsStale                     bool      `json:"is_stale"`
	LastParsedTime              *Time     `json:"last_parsed_time"`
	LastParseDuration           *float64  `json:"last_parse_duration"`
	LastExpired                 *Time     `json:"last_expired"`
	BundleName                  *string   `json:"bundle_name"`
	BundleVersion               *string   `json:"bundle_version"`
	RelativeFileloc             *string   `json:"relative_fileloc"`
	Fileloc                     string    `json:"fileloc"`
	Description                 *string   `json:"description"`
	TimetableSummary            *string   `json:"timetable_summary"`
	TimetableDescription        *string   `json:"timetable_description"`
	TimetablePartitioned        bool      `json:"timetable_partitioned"`
	TimetablePeriodic           bool      `json:"timetable_periodic"`
	Tags                        []DAGTag  `json:"tags"`
	MaxActiveTasks              int       `json:"max_active_tasks"`
	MaxActiveRuns               *int      `json:"max_active_runs"`
	MaxConsecutiveFailedDagRuns int       `json:"max_consecutive_failed_dag_runs"`
	HasTaskConcurrencyLimits    bool      `json:"has_task_concurrency_limits"`
	HasImportErrors             bool      `json:"has_import_errors"`
	NextDagrunLogicalDate       *Time     `json:"next_dagrun_logical_date"`
	NextDagrunIntervalStart     *Time     `json:"next_dagrun_data_interval_start"`
	NextDagrunIntervalEnd       *Time     `json:"next_dagrun_data_interval_end"`
	NextDagrunRunAfter          *Time     `json:"next_dagrun_run_after"`
	AllowedRunTypes             *[]string `json:"allowed_run_types"`
	Owners                      []string  `json:"owners"`
	IsBackfillable              bool      `json:"is_backfillable"`
	FileToken                   string    `json:"file_token"`
}

// DAGTag is one tag of a DAG.
type DAGTag struct {
	Name           string `json:"name"`
	DAGID          string `json:"dag_id"`
	DagDisplayName string `json:"dag_display_name"`
}

// DAGDetails is a DAG with what only its own page shows.
type DAGDetails struct {
	DAG
	Catchup                bool              `json:"catchup"`
	DagRunTimeout          *string           `json:"dag_run_timeout"`
	AssetExpression        json.RawMessage   `json:"asset_expression"`
	DocMD                  *string           `json:"doc_md"`
	StartDate              *Time             `json:"start_date"`
	EndDate                *Time             `json:"end_date"`
	IsPausedUponCreation   *bool             `json:"is_paused_upon_creation"`
	Params                 json.RawMessage   `json:"params"`
	RenderTemplateAsNative bool              `json:"render_template_as_native_obj"`
	TemplateSearchPath     []string          `json:"template_search_path"`
	Timezone               *string           `json:"timezone"`
	LastParsed             *Time             `json:"last_parsed"`
	DefaultArgs            json.RawMessage   `json:"default_args"`
	OwnerLinks             map[string]string `json:"owner_links"`
	IsFavorite             bool              `json:"is_favorite"`
	ActiveRunsCount        int               `json:"active_runs_count"`
	RerunWithLatestVersion *bool             `json:"rerun_with_latest_version"`
	Concurrency            int               `json:"concurrency"`
	LatestDagVersion       *DagVersion       `json:"latest_dag_version"`
	Ostro                  DAGExtras         `json:"ostro"`
}

// DAGExtras is what Airflow's answer has no member for.
type DAGExtras struct {
	Compat   string   `json:"compat"`
	Schedule string   `json:"schedule,omitempty"`
	Groups   []string `json:"task_groups,omitempty"`
}

// DAGs answers GET /dags.
type DAGs struct {
	DAGs  []DAG `json:"dags"`
	Total int   `json:"total_entries"`
}

// DagVersion is one version of a DAG. ID is derived from the DAG id and the number.
type DagVersion struct {
	ID             string  `json:"id"`
	VersionNumber  int     `json:"version_number"`
	DAGID          string  `json:"dag_id"`
	BundleName     *string `json:"bundle_name"`
	BundleVersion  *string `json:"bundle_version"`
	CreatedAt      Time    `json:"created_at"`
	DagDisplayName string  `json:"dag_display_name"`
	BundleURL      *string `json:"bundle_url"`
}

// DagVersions answers GET /dags/{dag_id}/dagVersions.
type DagVersions struct {
	DagVersions []DagVersion `json:"dag_versions"`
	Total       int          `json:"total_entries"`
}

// DAGSource answers GET /dagSources/{dag_id}.
type DAGSource struct {
	Content        *string `json:"content"`
	DAGID          string  `json:"dag_id"`
	VersionNumber  *int    `json:"version_number"`
	DagDisplayName string  `json:"dag_display_name"`
}

// DagStats answers GET /dagStats.
type DagStats struct {
	DAGs  []DagStat `json:"dags"`
	Total int       `json:"total_entries"`
}

// DagStat counts one DAG's runs by state.
type DagStat struct {
	DAGID          string       `json:"dag_id"`
	DagDisplayName string       `json:"dag_display_name"`
	Stats          []StateCount `json:"stats"`
}

// StateCount is a state and how many DAG runs are in it.
type StateCount struct {
	State string `json:"state"`
	Count int    `json:"count"`
}

// DagTags answers GET /dagTags.
type DagTags struct {
	Tags  []string `json:"tags"`
	Total int      `json:"total_entries"`
}

// Task is a task of a DAG.
type Task struct {
	ClassRef          json.RawMessage `json:"class_ref"`
	TaskID            string          `json:"task_id"`
	TaskDisplayName   string          `json:"task_display_name"`
	OperatorName      string          `json:"operator_name"`
	Owner             string          `json:"owner"`
	StartDate         *Time           `json:"start_date"`
	EndDate           *Time           `json:"end_date"`
	TriggerRule       string          `json:"trigger_rule"`
	DependsOnPast     bool            `json:"depends_on_past"`
	WaitForDownstream bool            `json:"wait_for_downstream"`
	Retries           Float           `json:"retries"`
	Queue             string          `json:"queue"`
	Pool              string          `json:"pool"`
	PoolSlots         Float           `json:"pool_slots"`
	ExecutionTimeout  *TimeDelta      `json:"execution_timeout"`
	RetryDelay        *TimeDelta      `json:"retry_delay"`
	RetryBackoff      Float           `json:"retry_exponential_backoff"`
	PriorityWeight    Float           `json:"priority_weight"`
	WeightRule        string          `json:"weight_rule"`
	UIColor           string          `json:"ui_color"`
	UIFgColor         string          `json:"ui_fgcolor"`
	TemplateFields    []string        `json:"template_fields"`
	DownstreamTaskIDs []string        `json:"downstream_task_ids"`
	DocMD             *string         `json:"doc_md"`
	Params            json.RawMessage `json:"params"`
	IsMapped          bool            `json:"is_mapped"`
	ExtraLinks        []string        `json:"extra_links"`
}

// Tasks answers GET /dags/{dag_id}/tasks.
type Tasks struct {
	Tasks []Task `json:"tasks"`
	Total int    `json:"total_entries"`
}

// Float is a number that Airflow always writes with a decimal point (3 as 3.0).
type Float float64

// MarshalJSON writes the number with a decimal point.
func (f Float) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(float64(f))
	if err != nil {
		return nil, err
	}
	for _, c := range b {
		if c == '.' || c == 'e' {
			return b, nil
		}
	}
	return append(b, '.', '0'), nil
}

// TimeDelta is a duration as Airflow writes it.
type TimeDelta struct {
	Type         string `json:"__type"`
	Days         int    `json:"days"`
	Seconds      int    `json:"seconds"`
	Microseconds int    `json:"microseconds"`
}

// DAGWarning is what is accepted about a DAG and worth knowing.
type DAGWarning struct {
	DAGID          string        `json:"dag_id"`
	Type           string        `json:"warning_type"` // one of Airflow's; Ostro.Kind is exact
	Message        string        `json:"message"`
	Timestamp      Time          `json:"timestamp"`
	DagDisplayName string        `json:"dag_display_name"`
	Ostro          WarningExtras `json:"ostro"`
}

// WarningExtras is what Airflow's answer has no member for.
type WarningExtras struct {
	File string `json:"file"`
	Kind string `json:"kind"` // import, pool
}

// DAGWarnings answers GET /dagWarnings.
type DAGWarnings struct {
	DAGWarnings []DAGWarning `json:"dag_warnings"`
	Total       int          `json:"total_entries"`
}
