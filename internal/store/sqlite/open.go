// Package sqlite opens Ostro's SQLite files: the connection settings that make a commit durable, the schema, and the few
// things SQLite does its own way (checkpoints, integrity checks, online copies, error codes).
//
// It knows how a database is kept, not what is in it; statements live in package store. Every file has one writing
// connection and a small pool of reading ones. The write-ahead log is never checkpointed inside a commit: the owner
// calls Checkpoint from beside, so that no commit pays for it.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Options say which file to open, and how.
type Options struct {
	Path   string
	Schema Schema
	// KeepSchema refuses a file that would have to be migrated, with ErrOlder.
	KeepSchema bool
	// BusyTimeout is how long to wait for another process's lock; 0 means 5 s.
	BusyTimeout time.Duration
	// Readers is the size of the reading pool; 0 means 4.
	Readers int
	// MaxPages caps the file's size in pages; 0 is SQLite's own limit. Tests use it as a disk that is full.
	MaxPages int
}

// Database is an open file.
type Database struct {
	o       Options
	writer  *sql.DB
	readers *sql.DB
	side    *sql.DB // checkpoints, copies and checks
}

// Open opens the file, creating it and its folder when missing, and migrates it to the newest schema.
func Open(ctx context.Context, o Options) (*Database, error) {
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of %s: %w", o.Path, err)
	}
	d := &Database{o: o}
	var err error
	if d.writer, err = open(o, 1, false); err != nil {
		return nil, err
	}
	// A checkpoint in the writer's time must not wait long for a slow reader.
	side := o
	side.BusyTimeout = min(side.BusyTimeout, 100*time.Millisecond)
	if d.side, err = open(side, 3, false); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.readers, err = open(o, o.Readers, true); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.bringUpToDate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", o.Path, withCause(o.Path, err)), d.Close())
	}
	if err := d.growLog(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// bringUpToDate migrates, or finds out that there is no need to.
func (d *Database) bringUpToDate(ctx context.Context) error {
	if d.o.KeepSchema {
		now, newest, err := d.Version(ctx)
		if err == nil && now < newest {
			err = fmt.Errorf("%w: %d instead of %d", ErrOlder, now, newest)
		}
		if err != nil {
			return err
		}
	}
	_, _, err := migrate(ctx, d.writer, d.o.Schema)
	return err
}

// logSize is how long the write-ahead log is from the start. Syncing a file that is overwritten takes half as long as
// syncing one that grows.
const logSize = 8 << 20

// growLog lengthens the log with zeros, which mean nothing to SQLite: it reads up to the first frame that does not check
// out. Appending can never overwrite a frame. A disk without the room is no error here.
func (d *Database) growLog() (err error) {
	f, err := os.OpenFile(d.o.Path+"-wal", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("lengthen the log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("lengthen the log: %w", err)
	}
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 8*logSize {
		return nil
	}
	if n := logSize - info.Size(); n > 0 {
		if _, err := f.Write(make([]byte, n)); err != nil {
			return nil
		}
		_ = f.Sync()
	}
	return nil
}

func open(o Options, conns int, readOnly bool) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(o, readOnly))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// dsn holds the settings of every connection. busy_timeout comes first, since the settings after it may already need
// to wait for a lock. synchronous=FULL makes each commit wait for the disk. Automatic checkpoints are off; see
// Checkpoint. The journal keeps its size between checkpoints: overwriting a file is cheaper to sync than growing it.
func dsn(o Options, readOnly bool) string {
	q := url.Values{}
	add := func(pragma string) { q.Add("_pragma", pragma) }
	add("busy_timeout(" + strconv.FormatInt(o.BusyTimeout.Milliseconds(), 10) + ")")
	if readOnly {
		add("query_only(1)")
		add("cache_size(-2000)")
	} else {
		add("journal_mode(WAL)")
		add("synchronous(FULL)")
		add("wal_autocheckpoint(0)")
		add("journal_size_limit(67108864)")
		add("cache_size(-8000)")
		if o.MaxPages > 0 {
			add("max_page_count(" + strconv.Itoa(o.MaxPages) + ")")
		}
	}
	add("foreign_keys(1)")
	add("temp_store(MEMORY)")
	q.Set("_dqs", "0")
	return (&url.URL{Scheme: "file", OmitHost: true, Path: absolute(o.Path), RawQuery: q.Encode()}).String()
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Writer lends the one writing connection until it is closed.
func (d *Database) Writer(ctx context.Context) (*sql.Conn, error) { return d.writer.Conn(ctx) }

// Readers is the pool of reading connections.
func (d *Database) Readers() *sql.DB { return d.readers }

// Begin is the statement that starts a write transaction; it takes the write lock at once.
func (d *Database) Begin() string { return "BEGIN IMMEDIATE" }

// Rebind turns the placeholders of the common SQL text (?) into the engine's own; SQLite's are the same.
func (d *Database) Rebind(text string) string { return text }

// Close closes all connections; the last one to close folds the write-ahead log into the file.
func (d *Database) Close() error {
	var errs []error
	for _, db := range []*sql.DB{d.readers, d.side, d.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
