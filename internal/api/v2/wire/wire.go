// Package wire holds the bodies of Airflow's public REST API v2 as Go values: the server writes them and the client reads
// them, so that the two cannot drift apart.
//
// Field names, order and nullability are Airflow's. What Airflow has no word for stands in one member named "ostro", which
// Airflow's own clients ignore. The package depends on the standard library only and knows nothing of either side.
package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// Time is a moment as Airflow writes it: RFC 3339 with "Z" for UTC and six digits of a second, or none when they are zero.
type Time time.Time

// At returns t in UTC.
func At(t time.Time) Time { return Time(t.UTC()) }

// AtPtr returns nil for nil and for the zero time, else the moment in UTC.
func AtPtr(t *time.Time) *Time {
	if t == nil || t.IsZero() {
		return nil
	}
	w := At(*t)
	return &w
}

// Std is t as a time.Time.
func (t Time) Std() time.Time { return time.Time(t) }

// String is the JSON text without quotes.
func (t Time) String() string {
	s := time.Time(t)
	layout := "2006-01-02T15:04:05.000000Z07:00"
	if s.Nanosecond()/1000 == 0 {
		layout = time.RFC3339
	}
	return s.Format(layout)
}

// MarshalJSON writes the time as Airflow does.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON reads an RFC 3339 time.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read a time: %w", err)
	}
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("read a time: %w", err)
	}
	*t = Time(v)
	return nil
}

// Error is the body of every refusal. Detail is a string, a list of Fault (422) or an object (409 of a duplicate).
type Error struct {
	Detail json.RawMessage `json:"detail"`
}

// Fault is one element of a 422 answer's detail.
type Fault struct {
	Type  string          `json:"type"`
	Loc   []any           `json:"loc"`
	Msg   string          `json:"msg"`
	Input json.RawMessage `json:"input"`
	Ctx   map[string]any  `json:"ctx,omitempty"`
}

// Duplicate is the detail of a 409 answer where Airflow reports a violated unique constraint.
type Duplicate struct {
	Reason    string `json:"reason"`
	Statement string `json:"statement"`
	OrigError string `json:"orig_error"`
	Message   string `json:"message"`
}

// Version answers GET /version.
type Version struct {
	Version    string  `json:"version"`
	GitVersion *string `json:"git_version"`
}

// Health answers GET /monitor/health.
type Health struct {
	Metadatabase HealthStatus    `json:"metadatabase"`
	Scheduler    SchedulerHealth `json:"scheduler"`
	Triggerer    TriggererHealth `json:"triggerer"`
	DagProcessor ProcessorHealth `json:"dag_processor"`
	Ostro        HealthExtras    `json:"ostro"`
}

// HealthStatus is "healthy" or "unhealthy".
type HealthStatus struct {
	Status *string `json:"status"`
}

// SchedulerHealth tells whether the scheduler's loop is alive.
type SchedulerHealth struct {
	Status    *string `json:"status"`
	Heartbeat *Time   `json:"latest_scheduler_heartbeat"`
}

// TriggererHealth has null members where there is no triggerer.
type TriggererHealth struct {
	Status    *string `json:"status"`
	Heartbeat *Time   `json:"latest_triggerer_heartbeat"`
}

// ProcessorHealth tells whether DAG folders are being watched.
type ProcessorHealth struct {
	Status    *string `json:"status"`
	Heartbeat *Time   `json:"latest_dag_processor_heartbeat"`
}

// HealthExtras is what Airflow does not report.
type HealthExtras struct {
	// Worker is "connected" or "disconnected".
	Worker         string `json:"worker"`
	WorkerInstance string `json:"worker_instance,omitempty"`
	// Commits counts the control database's durable commits since the server started.
	Commits uint64 `json:"commits"`
	// Reading is set until the DAG folder has been read for the first time since the server started: DAGs may be missing.
	Reading bool `json:"reading,omitempty"`
	// Problem says in words why something is unhealthy.
	Problem string `json:"problem,omitempty"`
}

// Unavailable is the 503 answer of a server that cannot do what was asked now.
type Unavailable struct {
	Detail string `json:"detail"`
	Ostro  struct {
		// Reason is ReasonDatabase.
		Reason string `json:"reason"`
	} `json:"ostro"`
}

// ReasonDatabase says that the database refuses changes: its disk is full or read-only, or it is locked. Without it a 503 is that of a
// server that ends.
const ReasonDatabase = "database"

// ImportError is a broken DAG file.
type ImportError struct {
	ID         int64   `json:"import_error_id"`
	Timestamp  Time    `json:"timestamp"`
	Filename   string  `json:"filename"`
	BundleName *string `json:"bundle_name"`
	StackTrace string  `json:"stack_trace"`
	Ostro      struct {
		DAGID   string `json:"dag_id,omitempty"`
		Line    int    `json:"line,omitempty"`
		Message string `json:"message"`
	} `json:"ostro"`
}

// ImportErrors answers GET /importErrors.
type ImportErrors struct {
	ImportErrors []ImportError `json:"import_errors"`
	Total        int           `json:"total_entries"`
}

// EventLog is one line of the audit log.
type EventLog struct {
	ID              int64   `json:"event_log_id"`
	When            Time    `json:"when"`
	DAGID           *string `json:"dag_id"`
	TaskID          *string `json:"task_id"`
	RunID           *string `json:"run_id"`
	MapIndex        *int    `json:"map_index"`
	TryNumber       *int    `json:"try_number"`
	Event           string  `json:"event"`
	LogicalDate     *Time   `json:"logical_date"`
	Owner           *string `json:"owner"`
	Extra           *string `json:"extra"`
	DagDisplayName  *string `json:"dag_display_name"`
	TaskDisplayName *string `json:"task_display_name"`
}

// EventLogs answers GET /eventLogs.
type EventLogs struct {
	EventLogs []EventLog `json:"event_logs"`
	Total     int        `json:"total_entries"`
}
