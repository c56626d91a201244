// Package store keeps everything Ostro must not lose. It is the only place with SQL.
//
// Two databases, control and tracking, each with one writer and many readers. Writes are closures run by the single
// writer goroutine, which groups those that are waiting into one durable commit (group commit) and runs each in a
// savepoint, so that one that fails does not take the others with it. Every transaction has one fixed now and an actor;
// SQL never asks for the time. Updates of scheduling state are guarded by the row's version. Rows never leave the
// package: it takes and returns the types of core.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/protocol"
)

var (
	// ErrNotFound: the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it exists already, or a guarded update found another version.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: the database cannot be written now (disk full, locked, read-only); nothing was lost, try again.
	ErrUnavailable = errors.New("database unavailable")
)

var errUnbuilt = errors.New("store: not built yet")

// DB is an open control database.
type DB struct{}

// Options open a database.
type Options struct {
	// Path of the SQLite file.
	Path string
}

// Open opens and migrates the control database.
func Open(ctx context.Context, o Options) (*DB, error) { return nil, errUnbuilt }

// Close waits for the writer and closes.
func (db *DB) Close() error { return errUnbuilt }

// Commits counts durable commits since Open.
func (db *DB) Commits() uint64 { return 0 }

// Tx is one write transaction's view. Its methods are the writing half of the store; all see the same Now.
type Tx struct {
	Now   time.Time
	Actor string // "scheduler", "user:admin", "attempt:ID", "cli"
}

// Update runs f in the writer and returns after the commit that holds it is durable. f must not block. An error from f
// rolls back f alone and is returned.
func (db *DB) Update(ctx context.Context, actor string, now time.Time, f func(*Tx) error) error {
	return errUnbuilt
}

// ---- scheduling state (Tx) ----

// CreateRun inserts a DAG run and its task instances. ErrConflict when the run id or (dag, logical date) exists.
func (tx *Tx) CreateRun(r *run.DAGRun, tis []run.TaskInstance) error { return errUnbuilt }

// ChangeRun applies a guarded change; After.Version becomes Before.Version+1. ErrConflict when the guard fails.
func (tx *Tx) ChangeRun(c plan.RunChange) error { return errUnbuilt }

// ChangeTasks applies guarded changes in order; Before.Version 0 inserts. ErrConflict when any guard fails.
func (tx *Tx) ChangeTasks(cs []plan.TaskChange) error { return errUnbuilt }

// CreateAttempt inserts a queued attempt with the hash of its token.
func (tx *Tx) CreateAttempt(a run.Attempt, tokenHash []byte) error { return errUnbuilt }

// StartAttempt records that the process exists (state running).
func (tx *Tx) StartAttempt(a run.Attempt) error { return errUnbuilt }

// EndAttempt records the end, and revokes the token. A second call for the same attempt returns ErrConflict.
func (tx *Tx) EndAttempt(a run.Attempt) error { return errUnbuilt }

// PutXCom stores a value; values above the threshold go to the blob folder, transparently.
func (tx *Tx) PutXCom(k run.Key, key string, value json.RawMessage, mapLength int) error {
	return errUnbuilt
}

// DeleteXComs removes one key, or all keys of the instance when key is empty.
func (tx *Tx) DeleteXComs(k run.Key, key string) error { return errUnbuilt }

// OweCallback stores a callback to be run until CallbackDone; it returns its id.
func (tx *Tx) OweCallback(c plan.Callback) (int64, error) { return 0, errUnbuilt }

// CallbackDone ends a callback with the error it raised, if any; attempts of it are counted.
func (tx *Tx) CallbackDone(id int64, failure string) error { return errUnbuilt }

// Emit appends an event to the log; every scheduling write above emits its own already.
func (tx *Tx) Emit(e Event) error { return errUnbuilt }

// ---- DAGs (Tx) ----

// PutBundleVersion records a snapshot of a bundle.
func (tx *Tx) PutBundleVersion(b BundleVersion) error { return errUnbuilt }

// PutDAG publishes a DAG: a new version when the canonical hash differs from the newest's, else only the bundle version
// moves. The first publication sets paused from the DAG or else from pausedDefault.
func (tx *Tx) PutDAG(d *dag.DAG, bundle, bundleVersion string, pausedDefault bool) (version int, created bool, err error) {
	return 0, false, errUnbuilt
}

// RemoveDAG marks a DAG whose file is gone; its history stays.
func (tx *Tx) RemoveDAG(dagID string) error { return errUnbuilt }

// SetPaused pauses or unpauses.
func (tx *Tx) SetPaused(dagID string, paused bool) error { return errUnbuilt }

// SetNextRun records the next slot shown to people and the last automatic slot already created.
func (tx *Tx) SetNextRun(dagID string, s ScheduleState) error { return errUnbuilt }

// SetImportErrors replaces the import errors of one file of a bundle (none clears them).
func (tx *Tx) SetImportErrors(bundle, file string, errs []protocol.ImportError) error {
	return errUnbuilt
}

// ---- administration (Tx) ----

// PutVariable, PutConnection and PutPool create or replace; the Delete methods return ErrNotFound.
func (tx *Tx) PutVariable(v Variable) error     { return errUnbuilt }
func (tx *Tx) DeleteVariable(key string) error  { return errUnbuilt }
func (tx *Tx) PutConnection(c Connection) error { return errUnbuilt }
func (tx *Tx) DeleteConnection(id string) error { return errUnbuilt }
func (tx *Tx) PutPool(p Pool) error             { return errUnbuilt }
func (tx *Tx) DeletePool(name string) error     { return errUnbuilt }

// ---- reading ----

// LiveRuns returns every DAG run that is queued or running, with all its task instances: what a scheduler rebuilds from.
func (db *DB) LiveRuns(ctx context.Context) ([]LiveRun, error) { return nil, errUnbuilt }

// OpenAttempts returns attempts in state queued or running.
func (db *DB) OpenAttempts(ctx context.Context) ([]run.Attempt, error) { return nil, errUnbuilt }

// OwedCallbacks returns callbacks not done, oldest first.
func (db *DB) OwedCallbacks(ctx context.Context) ([]OwedCallback, error) { return nil, errUnbuilt }

// AttemptByToken returns the live attempt a token hash belongs to; ErrNotFound after its end.
func (db *DB) AttemptByToken(ctx context.Context, hash []byte) (run.Attempt, error) {
	return run.Attempt{}, errUnbuilt
}

// DAGVersion returns one version; number 0 is the newest.
func (db *DB) DAGVersion(ctx context.Context, dagID string, number int) (*dag.DAG, DAGVersionInfo, error) {
	return nil, DAGVersionInfo{}, errUnbuilt
}

// DAGVersions lists all versions of a DAG, newest first.
func (db *DB) DAGVersions(ctx context.Context, dagID string) ([]DAGVersionInfo, error) {
	return nil, errUnbuilt
}
func (db *DB) DAGs(ctx context.Context, f DAGFilter) ([]DAGInfo, int, error) {
	return nil, 0, errUnbuilt
}
func (db *DB) DAG(ctx context.Context, dagID string) (DAGInfo, error) { return DAGInfo{}, errUnbuilt }
func (db *DB) Run(ctx context.Context, dagID, runID string) (run.DAGRun, error) {
	return run.DAGRun{}, errUnbuilt
}
func (db *DB) Runs(ctx context.Context, f RunFilter) ([]run.DAGRun, int, error) {
	return nil, 0, errUnbuilt
}
func (db *DB) TaskInstances(ctx context.Context, f TIFilter) ([]run.TaskInstance, int, error) {
	return nil, 0, errUnbuilt
}

// TaskInstance returns one instance.
func (db *DB) TaskInstance(ctx context.Context, k run.Key) (run.TaskInstance, error) {
	return run.TaskInstance{}, errUnbuilt
}

// Attempts lists the attempts of an instance, oldest first.
func (db *DB) Attempts(ctx context.Context, k run.Key) ([]run.Attempt, error) { return nil, errUnbuilt }

// Attempt returns one attempt by id.
func (db *DB) Attempt(ctx context.Context, id string) (run.Attempt, error) {
	return run.Attempt{}, errUnbuilt
}

// XCom returns a value; ErrNotFound.
func (db *DB) XCom(ctx context.Context, k run.Key, key string) (XCom, error) {
	return XCom{}, errUnbuilt
}

// XComs lists an instance's XComs (values included when values is true); XComsOfTask lists one key over all map
// indexes of a task, in order of map index.
func (db *DB) XComs(ctx context.Context, k run.Key, values bool) ([]XCom, error) {
	return nil, errUnbuilt
}
func (db *DB) XComsOfTask(ctx context.Context, dagID, runID, taskID, key string) ([]XCom, error) {
	return nil, errUnbuilt
}
func (db *DB) ImportErrors(ctx context.Context) ([]ImportError, error) { return nil, errUnbuilt }
func (db *DB) Variables(ctx context.Context, pattern string) ([]Variable, error) {
	return nil, errUnbuilt
}
func (db *DB) Variable(ctx context.Context, key string) (Variable, error) {
	return Variable{}, errUnbuilt
}
func (db *DB) Connections(ctx context.Context) ([]Connection, error) { return nil, errUnbuilt }
func (db *DB) Connection(ctx context.Context, id string) (Connection, error) {
	return Connection{}, errUnbuilt
}
func (db *DB) Pools(ctx context.Context) ([]Pool, error) { return nil, errUnbuilt }

// Events returns up to limit events after sequence number after, in commit order.
func (db *DB) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	return nil, errUnbuilt
}

// Changed returns a channel that is closed at the next commit; take a new one each time.
func (db *DB) Changed() <-chan struct{} { return nil }

// ---- values ----

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
	OrderBy        []string // "run_after", "logical_date", "start_date", "id", … with "-"
	Limit, Offset  int
}

// TIFilter selects task instances.
type TIFilter struct {
	DAGID, RunID  string // "" or "~": all
	TaskID        string
	States        []run.TaskState
	Pools         []string
	MapIndex      *int
	OrderBy       []string
	Limit, Offset int
}

// XCom is a stored value.
type XCom struct {
	Key       run.Key
	Name      string
	Value     json.RawMessage
	MapLength int
	Size      int64
	At        time.Time
}

// ImportError is a broken file or DAG.
type ImportError struct {
	ID     int64
	Bundle string
	At     time.Time
	protocol.ImportError
}

// Variable is a key and a text value; the store encrypts nothing itself (see package secret).
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
