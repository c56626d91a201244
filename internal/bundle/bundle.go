// Package bundle turns a folder of DAG files into published DAG versions.
//
// It watches the folder, and when its content changes, and only then, takes an immutable snapshot named by the content's
// hash, has the files that the change touches described by a DAG host, validates what they declare and publishes the
// outcome in one transaction: the bundle version, the DAGs, the import errors and the DAGs that are gone. A run keeps the
// snapshot it started with, so an edit never reaches into a running DAG run.
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
	"fmt"
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

	mu     sync.Mutex // held by the one refresh in progress
	hashes hashCache
	tree   *tree
	files  map[string]*fileState // by path relative to the bundle
	owners map[string]string     // dag id → file
	loaded bool                  // owners were read from the store
	ready  chan struct{}
	once   sync.Once
	names  renewals
	again  atomic.Bool               // write what is known once more
	said   atomic.Pointer[[]Warning] // of the last publication
	turned atomic.Int64              // when the folder was last looked at, in nanoseconds since 1970
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
	return &Watcher{
		cfg: cfg, store: st, parser: parser, changed: changed, log: logger.With("bundle", cfg.Name),
		hashes: hashCache{}, files: map[string]*fileState{}, owners: map[string]string{}, ready: make(chan struct{}),
		names: renewals{last: map[asked]uint64{}, wake: make(chan struct{}, 1)},
	}, nil
}

// Ready is closed after the first successful publication.
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
	n := newNotifier(w.log)
	defer n.close()
	backoff := time.Duration(0)
	for {
		err := w.Refresh(ctx)
		w.turned.Store(time.Now().UnixNano())
		if ctx.Err() != nil {
			return nil
		}
		wait := w.cfg.Rescan
		if err != nil {
			backoff = min(max(2*backoff, time.Second), 30*time.Second)
			wait = backoff
			w.log.Error("the DAG folder could not be published; trying again", "error", err, "in", wait.String())
		} else {
			backoff = 0
		}
		w.mu.Lock()
		if w.impatient() {
			wait = min(wait, time.Second)
		}
		dirs := []string{w.cfg.Dir}
		if w.tree != nil {
			dirs = w.tree.dirs
		}
		w.mu.Unlock()
		if n.watch(dirs) && err == nil {
			continue // something may have changed there before we watched
		}
		if !n.wait(ctx, wait, w.cfg.Debounce, w.names.wake) {
			return nil
		}
	}
}

// Refresh reads the folder once and publishes it if something changed.
func (w *Watcher) Refresh(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for attempt := 0; ; attempt++ {
		t, err := scan(w.cfg.Dir, w.cfg.Home, w.cfg.Compat, w.hashes)
		if err != nil {
			return fmt.Errorf("read the DAG folder %s: %w", w.cfg.Dir, err)
		}
		path, err := snapshot(ctx, t, w.cfg.Snapshots)
		if errors.Is(err, errMoved) && attempt < 10 {
			continue // somebody wrote while we copied: look again
		}
		if err != nil {
			return fmt.Errorf("take a snapshot of %s: %w", w.cfg.Dir, err)
		}
		if err := w.publish(ctx, t, path); err != nil {
			return err
		}
		w.tree = t
		w.once.Do(func() { close(w.ready) })
		return nil
	}
}
