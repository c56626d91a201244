package store

import (
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// DAGFilter selects DAGs; zero values do not filter. Limit 0 means no limit, here and in every filter.
type DAGFilter struct {
	IDPattern      string // SQL LIKE, as in Airflow's dag_id_pattern
	Tags           []string
	Paused         *bool
	IncludeRemoved bool
	OrderBy        []string // "dag_id", "-dag_id", "next_dagrun", "last_run_start_date"
	Limit, Offset  int
}

// RunFilter selects DAG runs.
type RunFilter struct {
	DAGID          string // "" or "~": all
	States         []run.State
	Types          []run.Type
	LogicalDateGTE *time.Time
	LogicalDateLTE *time.Time
	StartDateGTE   *time.Time
	StartDateLTE   *time.Time
	RunAfterGTE    *time.Time
	RunAfterLTE    *time.Time
	RunIDPattern   string
	RunIDs         []string    // any of these
	LogicalDates   []time.Time // any of these
	OrderBy        []string    // "run_after", "logical_date", "start_date", "id", … with "-"
	Limit, Offset  int
}

// TIFilter selects task instances.
type TIFilter struct {
	DAGID, RunID  string // "" or "~": all
	TaskID        string
	RunIDs        []string    // any of these, beside RunID
	TaskIDs       []string    // any of these, beside TaskID
	LogicalDates  []time.Time // any of these, of the DAG run
	States        []run.TaskState
	Pools         []string
	MapIndex      *int
	OrderBy       []string
	Limit, Offset int
}

// EventFilter selects events.
type EventFilter struct {
	DAGID, RunID  string // "" or "~": all
	TaskID        string
	MapIndex      *int
	Actor         string
	Kinds         []string
	After         int64 // sequence number
	OldestFirst   bool
	Limit, Offset int
}
