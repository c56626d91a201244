package protocol

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/dag"
)

// ---- control channel, host → worker ----

// Hello is the host's first message (notification).
type Hello struct {
	Type     string `json:"type"` // "Hello"
	Protocol int    `json:"protocol"`
	Language string `json:"language"` // "python", "go"
	Runtime  string `json:"runtime"`  // "3.11.7"
	PID      int    `json:"pid"`
}

// Exited reports the end of a forked process (notification). Status is the raw wait status.
type Exited struct {
	Type   string `json:"type"` // "Exited"
	ForkID string `json:"fork_id"`
	PID    int    `json:"pid"`
	Status int    `json:"status"`
	// UTime, STime are seconds; MaxRSS is bytes.
	UTime  float64 `json:"utime"`
	STime  float64 `json:"stime"`
	MaxRSS int64   `json:"maxrss"`
	// Orphans counts processes the task left behind, which the host has killed.
	Orphans int `json:"orphans,omitempty"`
}

// ---- control channel, worker → host ----

// Welcome ends the handshake (notification).
type Welcome struct {
	Type     string `json:"type"` // "Welcome"
	Protocol int    `json:"protocol"`
}

// Describe asks for what a file declares (request → Described). The first Describe imports the file; the host stays
// warm for it. A host serves one file.
type Describe struct {
	Type       string `json:"type"` // "Describe"
	BundleName string `json:"bundle_name"`
	BundlePath string `json:"bundle_path"` // directory put on sys.path
	File       string `json:"file"`        // relative to BundlePath
	// ShownPath is the directory people know the bundle by; it replaces BundlePath in tracebacks.
	ShownPath string `json:"shown_path"`
	Compat    string `json:"compat,omitempty"`
	// Defaults are configuration values that fill arguments an author left out: default_retries (int),
	// default_retry_delay (seconds), owner, catchup_by_default (bool), cron_data_intervals (bool), …
	Defaults map[string]json.RawMessage `json:"defaults,omitempty"`
	// Preload names modules to import after the file, because tasks of the file imported them before (ImportedModules).
	// One that cannot be imported is skipped; ForkUnsafe is judged after them and names them when they are the reason.
	Preload []string `json:"preload,omitempty"`
}

// Described is the answer to Describe.
type Described struct {
	Type   string        `json:"type"` // "Described"
	DAGs   []dag.DAG     `json:"dags"`
	Errors []ImportError `json:"errors,omitempty"`
	// Modules lists the bundle's files (relative paths) that the import read, the DAG file included.
	Modules []string `json:"modules"`
	// Variables and Connections are the names the import asked the server for, also those it has not: when one of them
	// changes, so may what the file declares.
	Variables   []string `json:"variables,omitempty"`
	Connections []string `json:"connections,omitempty"`
	// Warnings are sentences: accepted-and-ignored arguments, deprecated spellings, with file and line.
	Warnings []string `json:"warnings,omitempty"`
	// ForkUnsafe says in words why this process must not fork tasks; empty when it may.
	ForkUnsafe string `json:"fork_unsafe,omitempty"`
	// ImportSeconds is how long the import took.
	ImportSeconds float64 `json:"import_seconds"`
}

// ImportError says why a file, or one DAG in it, could not be used.
type ImportError struct {
	File      string `json:"file"`
	DAGID     string `json:"dag_id,omitempty"`
	Line      int    `json:"line,omitempty"`
	Message   string `json:"message"` // one line
	Traceback string `json:"traceback,omitempty"`
}

// Fork asks for a task process (request → Forked), accompanied by three descriptors: task channel, stdout, stderr.
type Fork struct {
	Type string `json:"type"` // "Fork"
	// ForkID is the caller's name for the process.
	ForkID string `json:"fork_id"`
	// Spare says that there is no task yet: the process may take its time to get ready. It exits when its channel is closed
	// before StartupDetails have come.
	Spare bool `json:"spare,omitempty"`
}

// Forked is the answer to Fork.
type Forked struct {
	Type string `json:"type"` // "Forked"
	PID  int    `json:"pid"`
}

// Timetable asks a DAG's timetable, a class of the author's, what comes next (request → TimetableAnswer).
type Timetable struct {
	Type  string `json:"type"` // "Timetable"
	DAGID string `json:"dag_id"`
	// After is the data interval of the last automatic run; absent before the first.
	After    *Interval  `json:"after,omitempty"`
	Earliest *time.Time `json:"earliest,omitempty"`
	Latest   *time.Time `json:"latest,omitempty"`
	Catchup  bool       `json:"catchup,omitempty"`
	// Limit is how many slots are wanted at most.
	Limit int `json:"limit,omitempty"`
	// Manual asks instead for the data interval of a run that a person triggers for this moment.
	Manual *time.Time `json:"manual,omitempty"`
}

// Interval is a span of data.
type Interval struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// TimetableAnswer is the answer to Timetable.
type TimetableAnswer struct {
	Type string `json:"type"` // "TimetableAnswer"
	// Slots are in the order of the timetable; Complete says that there are none after them.
	Slots    []TimetableSlot `json:"slots,omitempty"`
	Complete bool            `json:"complete,omitempty"`
	Manual   *Interval       `json:"manual,omitempty"`
	// Error is one line: "ValueError: …"; empty when all is well.
	Error     string `json:"error,omitempty"`
	Traceback string `json:"traceback,omitempty"`
}

// TimetableSlot is one run that a timetable asks for.
type TimetableSlot struct {
	Interval
	RunAfter time.Time `json:"run_after"`
}

// Shutdown asks the host to end its tasks (TERM, then KILL after Grace seconds) and exit (notification).
type Shutdown struct {
	Type  string  `json:"type"` // "Shutdown"
	Grace float64 `json:"grace"`
}
