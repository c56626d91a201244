// Package bundle turns a folder of DAG files into published DAG versions.
//
// It watches the folder, and when its content changes, and only then, takes an immutable snapshot named by the content's
// hash, has the files that the change touches described by a DAG host, validates what they declare and publishes the
// outcome in one transaction: the bundle version, the DAGs, the import errors and the DAGs that are gone. A run keeps the
// snapshot it started with, so an edit never reaches into a running DAG run.
//
// Parsing goes on beside everything else. Every file is parsed at most once for its content, which is its own bytes and those of
// the bundle's modules its import read, whether it is good or broken, and a few times where its process was killed or its time
// was up, for which a busy machine may be to blame; data files count as read by all. What a
// failed import would have read beyond that is told from the names in its import statements, so that a missing helper
// that appears, or one that hung and was mended, has the file parsed again. For a reason outside of the folder a broken file is parsed
// again when a Variable or Connection changes that it asked for, when it is written again or touched, and when the server starts.
//
// A version is the whole folder's, while outcomes come one by one. Each publication therefore names the newest snapshot,
// and contains of each file only what holds there: the outcome of an import in an older snapshot counts when everything it
// read is the same in the newest, and the file is parsed anew when it is not. A file that is still being parsed is left
// as it was: its DAGs stay on the version that they have, whose snapshot is kept, and nobody waits for it.
//
// What the package promises: a broken file keeps its last good version and shows its error; one bad file never keeps
// another from being published; an identifier declared twice is an error that names both files, and the first file keeps
// it; a folder that cannot be read changes nothing. It must not know how files are parsed (the Parser does), nor what is
// done with DAGs once they are published.
package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/workerapi"
)

// DefaultName is what the one DAG folder of an installation is called, as in Airflow.
const DefaultName = "dags-folder"

// Store is what a Watcher needs of the control database.
type Store interface {
	Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error
	DAGs(ctx context.Context, f store.DAGFilter) ([]store.DAGInfo, int, error)
	ImportErrors(ctx context.Context) ([]store.ImportError, error)
	LiveRuns(ctx context.Context) ([]store.LiveRun, error)
}

// Parser describes one DAG file in a process of its own. What the file does wrong, hanging and dying included, is part
// of the answer; an error means that no answer could be had and that trying again makes sense.
type Parser interface {
	Parse(ctx context.Context, p workerapi.Parse) (*workerapi.Parsed, error)
}

// Config says what to watch.
type Config struct {
	// Name of the bundle; DefaultName when empty.
	Name string
	// Dir is the folder people edit. Snapshots is the folder that gets one subfolder per version.
	Dir, Snapshots string
	// Home is the folder with the installation's state; what it keeps there never belongs to the bundle, wherever a
	// symbolic link leads. None when empty.
	Home string
	// Compat, Interpreter and Defaults are passed on to the parser.
	Compat      string
	Interpreter string
	Defaults    map[string]json.RawMessage
	// PausedAtCreation is the state of DAGs that do not say themselves.
	PausedAtCreation bool
	// ParseTimeout and ParseMemory bound the import of one file.
	ParseTimeout time.Duration
	ParseMemory  int64
	// Debounce is how long the folder must be quiet before it is read; 50 ms when zero.
	Debounce time.Duration
	// Rescan is how often the folder is looked at without a notification; 30 s when zero.
	Rescan time.Duration
	// Keep is how many snapshots are kept though nothing uses them, so that clearing an old run finds its code; 20 when
	// zero.
	Keep int
}

// A Watcher publishes one bundle. Create it with New.
type Watcher struct {
	cfg     Config
	store   Store
	parser  Parser
	changed func()
	log     *slog.Logger

	mu        sync.Mutex // held by the one who looks or gathers
	hashes    hashCache
	tree      *tree                 // as the folder was when it was last looked at
	files     map[string]*fileState // by path relative to the bundle
	owners    map[string]string     // dag id → file
	written   map[string]writing    // by dag id
	collected string                // the version when old snapshots were last removed
	loaded    bool                  // owners were read from the store
	ready     chan struct{}
	once      sync.Once
	names     renewals
	parses    parses
	due       bool                      // something is known that is not published
	gone      []string                  // files that are gone and whose errors are not cleared yet
	parsed    int                       // files parsed since the last publication
	again     atomic.Bool               // write what is known once more
	said      atomic.Pointer[[]Warning] // of the last publication
	turned    atomic.Int64              // when the folder was last looked at, in nanoseconds since 1970
}

// New returns a Watcher. changed is called after every publication; it must not block.
func New(cfg Config, st Store, parser Parser, changed func(), logger *slog.Logger) (*Watcher, error) {
	if cfg.Dir == "" || cfg.Snapshots == "" {
		return nil, errors.New("bundle: the DAG folder and the snapshot folder must be given")
	}
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if cfg.Debounce == 0 {
		cfg.Debounce = 50 * time.Millisecond
	}
	if cfg.Rescan == 0 {
		cfg.Rescan = 30 * time.Second
	}
	if cfg.Keep == 0 {
		cfg.Keep = 20
	}
	if cfg.ParseTimeout == 0 {
		cfg.ParseTimeout = 30 * time.Second
	}
	if changed == nil {
		changed = func() {}
	}
	w := &Watcher{
		cfg: cfg, store: st, parser: parser, changed: changed, log: logger.With("bundle", cfg.Name),
		hashes: hashCache{}, files: map[string]*fileState{}, owners: map[string]string{}, ready: make(chan struct{}),
		names:  renewals{last: map[asked]uint64{}, wake: make(chan struct{}, 1)},
		parses: parses{due: make(chan struct{}, 1), live: map[string]*parsing{}},
	}
	w.parses.parse = w.parse
	return w, nil
}

// Ready is closed once every file has been parsed and published.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// LastTurn is when the folder was last looked at; zero before the first time.
func (w *Watcher) LastTurn() time.Time {
	if n := w.turned.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// SnapshotPath is the folder of a bundle version below snapshots.
func SnapshotPath(snapshots, version string) string { return snapshotPath(snapshots, version) }

// Run publishes the folder, and again after every change, until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.parses.wait()
	defer cancel()
	n := newNotifier(w.log)
	defer n.close()
	var r retries
	for {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		next := time.Now().Add(w.pause(&r, err))
		if n.watch(w.dirs()) && err == nil {
			continue // something may have changed there before we watched
		}
		for why := parsed; why == parsed; {
			switch why = n.wait(ctx, time.Until(next), w.cfg.Debounce, w.names.wake, w.parses.due); why {
			case ended:
				return nil
			case parsed:
				err := w.gather(ctx)
				if ctx.Err() != nil {
					return nil
				}
				if at := time.Now().Add(w.pause(&r, err)); at.Before(next) {
					next = at
				}
			}
		}
	}
}

// retries counts up how long to wait before what failed is tried again.
type retries struct{ backoff time.Duration }

// pause is how long to wait for a change after a look or a gathering that ended so.
func (w *Watcher) pause(r *retries, err error) time.Duration {
	if err != nil {
		r.backoff = min(max(2*r.backoff, time.Second), 30*time.Second)
		w.log.Error("the DAG folder could not be published; trying again", "error", err, "in", r.backoff.String())
		return r.backoff
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.parses.busy() {
		r.backoff = 0
	}
	if w.impatient() {
		return min(w.cfg.Rescan, time.Second)
	}
	return w.cfg.Rescan
}

// dirs are the folders to watch.
func (w *Watcher) dirs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tree == nil {
		return []string{w.cfg.Dir}
	}
	return w.tree.dirs
}

// Refresh reads the folder once and publishes it if something changed; it returns when every file has been parsed. What is
// known is published meanwhile.
func (w *Watcher) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.parses.wait()
	defer cancel()
	err := w.look(ctx)
	for {
		if !w.parses.busy() {
			return err
		}
		select {
		case <-w.parses.due:
			err = errors.Join(err, w.gather(ctx))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
