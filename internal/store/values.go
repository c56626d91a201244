package store

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/protocol"
)

// LiveRun is a DAG run with its instances.
type LiveRun struct {
	Run       run.DAGRun
	Instances []run.TaskInstance
}

// OwedCallback is a stored callback.
type OwedCallback struct {
	ID       int64
	Callback plan.Callback
	Tries    int
	Created  time.Time
}

// Event is one line of the log: what changed, who did it, when. Seq grows in commit order without gaps for readers.
type Event struct {
	Seq    int64
	At     time.Time
	Actor  string
	Kind   string // "run.state", "task.state", "dag.paused", "variable.put", …
	DAGID  string
	RunID  string
	TaskID string
	// MapIndex is -1 when there is none.
	MapIndex  int
	AttemptID string
	// From and To are states for *.state events.
	From, To string
	Detail   json.RawMessage
}

// BundleVersion is a snapshot of a bundle's code.
type BundleVersion struct {
	Bundle  string
	Version string // content hash
	Path    string
	At      time.Time
}

// ScheduleState is where a DAG's timetable stands.
type ScheduleState struct {
	// LastSlot is the logical date of the newest automatic run created (or skipped past); nil before the first.
	LastSlot *time.Time
	NextRun  *NextRun
}

// NextRun is the next automatic run as shown to people.
type NextRun struct {
	LogicalDate, IntervalStart, IntervalEnd, RunAfter time.Time
}

// DAGInfo is a DAG as listed: its newest version and its switches.
type DAGInfo struct {
	DAG           *dag.DAG
	Paused        bool
	Removed       bool // its file is gone
	Version       int
	Bundle        string
	BundleVersion string
	HasErrors     bool
	LastParsed    time.Time
	Schedule      ScheduleState
}

// DAGVersionInfo describes one version.
type DAGVersionInfo struct {
	Number        int
	Hash          string
	Bundle        string
	BundleVersion string
	CreatedAt     time.Time
}

// XCom is a stored value.
type XCom struct {
	Key       run.Key
	Name      string
	Value     json.RawMessage
	MapLength int
	Size      int64
	At        time.Time
	// File holds the value where it is too large for a row; a reader finds its SHA-256 in the names of the folder and the file.
	File string
}

// ImportError is a broken file or DAG.
type ImportError struct {
	ID     int64
	Bundle string
	At     time.Time
	protocol.ImportError
}

// Variable is a key and a text value; the value is a secret and is encrypted at rest when Options.Seal is given.
type Variable struct {
	Key, Value, Description string
}

// Connection holds how to reach an outside system. Password and Extra are secrets.
type Connection struct {
	ID, Type, Description, Host, Schema, Login, Password, Extra string
	Port                                                        *int
}

// Pool limits how many slots run at once. Slots -1 is unlimited.
type Pool struct {
	Name, Description string
	Slots             int
	IncludeDeferred   bool
}
