package wire

import "encoding/json"

// Asset is an asset with who names it.
type Asset struct {
	ID             int64           `json:"id"`
	Name           string          `json:"name"`
	URI            string          `json:"uri"`
	Group          string          `json:"group"`
	Extra          json.RawMessage `json:"extra"`
	CreatedAt      Time            `json:"created_at"`
	UpdatedAt      Time            `json:"updated_at"`
	ScheduledDags  []AssetDAG      `json:"scheduled_dags"`
	ProducingTasks []AssetTask     `json:"producing_tasks"`
	ConsumingTasks []AssetTask     `json:"consuming_tasks"`
	Aliases        []AssetAlias    `json:"aliases"`
	Watchers       []any           `json:"watchers"` // always empty: triggers have no numbers here; the DAG's schedule lists them
	LastAssetEvent LastAssetEvent  `json:"last_asset_event"`
}

// AssetDAG is a DAG that an asset schedules.
type AssetDAG struct {
	DAGID     string `json:"dag_id"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
}

// AssetTask is a task that names an asset.
type AssetTask struct {
	DAGID     string `json:"dag_id"`
	TaskID    string `json:"task_id"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
}

// LastAssetEvent is the newest event of an asset; nulls before the first.
type LastAssetEvent struct {
	ID        *int64 `json:"id"`
	Timestamp *Time  `json:"timestamp"`
}

// Assets answers GET /assets.
type Assets struct {
	Assets []Asset `json:"assets"`
	Total  int     `json:"total_entries"`
}

// AssetAlias is a name that tasks resolve to assets.
type AssetAlias struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Group string `json:"group"`
}

// AssetAliases answers GET /assets/aliases.
type AssetAliases struct {
	Aliases []AssetAlias `json:"asset_aliases"`
	Total   int          `json:"total_entries"`
}

// AssetEvent is one update of an asset.
type AssetEvent struct {
	ID             int64           `json:"id"`
	AssetID        int64           `json:"asset_id"`
	URI            string          `json:"uri"`
	Name           string          `json:"name"`
	Group          string          `json:"group"`
	Extra          json.RawMessage `json:"extra"`
	SourceTaskID   *string         `json:"source_task_id"`
	SourceDAGID    *string         `json:"source_dag_id"`
	SourceRunID    *string         `json:"source_run_id"`
	SourceMapIndex int             `json:"source_map_index"`
	CreatedDagruns []AssetEventRun `json:"created_dagruns"`
	Timestamp      Time            `json:"timestamp"`
	PartitionKey   *string         `json:"partition_key"`
}

// AssetEventRun is a DAG run that has consumed an asset event.
type AssetEventRun struct {
	RunID             string  `json:"run_id"`
	DAGID             string  `json:"dag_id"`
	LogicalDate       *Time   `json:"logical_date"`
	StartDate         Time    `json:"start_date"` // when it was queued, until it begins
	EndDate           *Time   `json:"end_date"`
	State             string  `json:"state"`
	DataIntervalStart *Time   `json:"data_interval_start"`
	DataIntervalEnd   *Time   `json:"data_interval_end"`
	PartitionKey      *string `json:"partition_key"`
	Triggering        bool    `json:"triggering"`
}

// AssetEvents answers GET /assets/events and GET …/upstreamAssetEvents.
type AssetEvents struct {
	Events []AssetEvent `json:"asset_events"`
	Total  int          `json:"total_entries"`
}

// QueuedEvent is an asset that was updated since a DAG's last run by assets.
type QueuedEvent struct {
	DAGID          string `json:"dag_id"`
	AssetID        int64  `json:"asset_id"`
	CreatedAt      Time   `json:"created_at"`
	DagDisplayName string `json:"dag_display_name"`
}

// QueuedEvents answers GET …/queuedEvents.
type QueuedEvents struct {
	Events []QueuedEvent `json:"queued_events"`
	Total  int           `json:"total_entries"`
}

// Backfill is an order to run a DAG for past dates.
type Backfill struct {
	ID             int64           `json:"id"`
	DAGID          string          `json:"dag_id"`
	FromDate       Time            `json:"from_date"`
	ToDate         Time            `json:"to_date"`
	DagRunConf     json.RawMessage `json:"dag_run_conf"`
	IsPaused       bool            `json:"is_paused"`
	Reprocess      string          `json:"reprocess_behavior"`
	MaxActiveRuns  int             `json:"max_active_runs"`
	CreatedAt      Time            `json:"created_at"`
	CompletedAt    *Time           `json:"completed_at"`
	UpdatedAt      Time            `json:"updated_at"`
	DagDisplayName string          `json:"dag_display_name"`
	Ostro          BackfillExtras  `json:"ostro"`
}

// BackfillExtras is what Airflow's answer has no member for.
type BackfillExtras struct {
	Actor   string `json:"actor"`
	Reverse bool   `json:"run_backwards"`
	// Dates is given for one backfill, not in lists.
	Dates []BackfillDate `json:"dates,omitempty"`
}

// BackfillDate is one date of a backfill: its run, or why it got none.
type BackfillDate struct {
	LogicalDate Time   `json:"logical_date"`
	RunID       string `json:"dag_run_id,omitempty"`
	State       string `json:"state,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

// Backfills answers GET /backfills.
type Backfills struct {
	Backfills []Backfill `json:"backfills"`
	Total     int        `json:"total_entries"`
}

// DryBackfill is one date a backfill would run.
type DryBackfill struct {
	LogicalDate   Time    `json:"logical_date"`
	PartitionKey  *string `json:"partition_key"`
	PartitionDate *Time   `json:"partition_date"`
}

// DryBackfills answers POST /backfills/dry_run.
type DryBackfills struct {
	Backfills []DryBackfill `json:"backfills"`
	Total     int           `json:"total_entries"`
}
