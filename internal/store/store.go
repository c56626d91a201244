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
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Options open a database.
type Options struct {
	// URL of a PostgreSQL database (postgresql://…); empty: the SQLite file at Path.
	URL string
	// Path of the SQLite file.
	Path string
	// BlobDir holds XCom values too large for the database; empty: "blobs" beside the file. With URL it must be given.
	BlobDir string
	// BlobThreshold is the size in bytes above which an XCom value goes to BlobDir; 0 means 64 KiB.
	BlobThreshold int
	// Seal and Open encrypt and decrypt variables' values, and passwords and extras of connections, at rest. Both or
	// neither. Without them values are kept as they are.
	Seal, Open func([]byte) ([]byte, error)
	// Renewed is told, after the commit, that a variable or a connection ("variable", "connection") was put or deleted by
	// this process. It is called where Update was and must not block.
	Renewed func(what, name string)
	// KeepSchema has Open fail with ErrOlder rather than migrate: a server of an older version may be running on the database.
	KeepSchema bool
	// Fault is asked at FaultBegin, FaultCommit and FaultCommitted; an error fails the transaction there. For tests.
	Fault func(point string) error
	// BusyTimeout is how long to wait for another process's lock; 0 means 5 s.
	BusyTimeout time.Duration
	// MaxPages caps the file's size in pages of 4 KiB; 0 does not. For tests of a full disk.
	MaxPages int
	// Now is the clock for maintenance, which has no caller's now; nil means time.Now.
	Now func() time.Time
}

// DB is an open control database.
type DB struct {
	*database
	o     Options
	blobs blobs
	dags  dagCache

	refused atomic.Pointer[Refusal] // nil while changes can be written
}

// Refusal is a change that the database did not take.
type Refusal struct {
	At  time.Time
	Err error
}

// Refused is the last change, when the database did not take it; nil when it did, and before the first.
func (db *DB) Refused() *Refusal { return db.refused.Load() }

// Open opens and migrates the control database.
func Open(ctx context.Context, o Options) (*DB, error) {
	if (o.Seal == nil) != (o.Open == nil) {
		return nil, errors.New("open the control database: Seal and Open must be given together")
	}
	if o.BlobDir == "" {
		if o.URL != "" {
			return nil, errors.New("open the control database: no folder for large XCom values was given")
		}
		o.BlobDir = filepath.Join(filepath.Dir(o.Path), "blobs")
	}
	if o.BlobThreshold == 0 {
		o.BlobThreshold = 64 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d, err := openDatabase(ctx, o, controlSchema, controlStatements())
	if err != nil {
		return nil, fmt.Errorf("open the control database: %w", err)
	}
	return &DB{database: d, o: o, blobs: blobs{dir: o.BlobDir}}, nil
}

// Update runs f in the writer and returns after the commit that holds it is durable. f must not block, nor call Update.
// An error from f rolls back f alone and is returned. When ctx ends before the writer took f, f never runs; a call that
// was taken returns with its outcome.
func (db *DB) Update(ctx context.Context, actor string, now time.Time, f func(*Tx) error) error {
	err := db.update(ctx, actor, now, f)
	if errors.Is(err, ErrUnavailable) {
		db.refused.Store(&Refusal{At: time.Now(), Err: err})
	} else if err == nil && db.refused.Load() != nil {
		db.refused.Store(nil)
	}
	return err
}

func (db *DB) update(ctx context.Context, actor string, now time.Time, f func(*Tx) error) error {
	var renewed [][2]string
	deleted := false
	err := db.w.do(ctx, func(s *session) error {
		tx := &Tx{Now: now, Actor: actor, db: db, s: s}
		err := f(tx)
		renewed, deleted = tx.renewed, tx.deleted
		return err
	})
	if deleted {
		db.dags.clear()
	}
	if err == nil && db.o.Renewed != nil {
		for _, r := range renewed {
			db.o.Renewed(r[0], r[1])
		}
	}
	return err
}

// Commits counts durable commits since Open.
func (db *DB) Commits() uint64 { return db.w.commits.Load() }

// Changed returns a channel that is closed at the next commit; take a new one each time.
func (db *DB) Changed() <-chan struct{} { return db.w.next() }

// Tx is one write transaction's view. Its methods are the writing half of the store; all see the same Now.
type Tx struct {
	Now   time.Time
	Actor string // "scheduler", "user:admin", "attempt:ID", "cli"

	db *DB
	s  *session

	renewed [][2]string // what Options.Renewed will be told
	deleted bool        // DAG versions are gone; their keys may be given again
}

// StatementUse returns every prepared statement's text with how often it ran: the conformance suite's proof that it
// leaves none out.
func (db *DB) StatementUse() map[string]uint64 {
	use := make(map[string]uint64, len(db.texts))
	for i, text := range db.texts {
		use[text] = db.used[i].Load()
	}
	return use
}

func counters(n int) []atomic.Uint64 { return make([]atomic.Uint64, n) }
