package store

import (
	"context"
	"database/sql"

	"ostro.dev/ostro/internal/store/postgres"
	"ostro.dev/ostro/internal/store/sqlite"
)

// engine is what a database engine does in its own way. Everything else is the common SQL text in statements.go.
type engine interface {
	// Writer opens the one writing connection for the statements of these texts.
	Writer(ctx context.Context, texts []string) (link, error)
	// Readers is the pool of reading connections.
	Readers() *sql.DB
	// Snapshot is how a reading transaction begins that sees everything as of one moment.
	Snapshot() *sql.TxOptions
	// Rebind turns the placeholders of the common text (?) into the engine's own.
	Rebind(text string) string
	// Clean makes an argument fit for the engine.
	Clean(arg any) any
	// Checkpoint moves what is committed to its final place, beside the writer; RestartLog does so in the writer's time.
	Checkpoint(ctx context.Context) (frames, copied int, err error)
	RestartLog(ctx context.Context) (frames, copied int, err error)
	// Check runs the engine's own integrity checks.
	Check(ctx context.Context) (problems []string, err error)
	// Backup writes a consistent copy.
	Backup(ctx context.Context, path string) error
	// Version is the schema version of the database and the newest this binary knows.
	Version(ctx context.Context) (current, newest int64, err error)
	Close() error
}

// link is the writing connection. A transaction takes the write lock at its beginning and keeps it: nobody else, no other
// process either, writes meanwhile. An engine that is far away may keep statements back until an answer is wanted.
type link interface {
	// Begin starts a transaction. Known is the number of the newest event, if it came along; -1 otherwise.
	Begin() (known int64, err error)
	// Commit returns once everything is durable. After an error that is postgres.ErrUnsettled Outcome finds out whether it is.
	Commit() error
	Outcome() postgres.Outcome
	Rollback() error
	// Savepoint, Release and RollbackTo surround a closure within a transaction; either of the latter ends it.
	Savepoint() error
	Release() error
	RollbackTo() error
	// Send runs a statement now or before the next answer; done, if not nil, is told how many rows it changed.
	Send(id statement, args []any, done func(changed int64) error) error
	// Flush returns when everything sent has run and done was told.
	Flush() error
	// Query runs a statement behind those sent and calls row for every row.
	Query(id statement, args []any, row func(scanner) error) error
	Close() error
}

// openEngine opens the database that the options name.
func openEngine(ctx context.Context, o Options, schema schema) (engine, error) {
	if o.URL == "" {
		db, err := sqlite.Open(ctx, sqliteOptions(o, schema))
		if err != nil {
			return nil, err
		}
		return sqliteEngine{db}, nil
	}
	db, err := postgres.Open(ctx, postgresOptions(o, schema))
	if err != nil {
		return nil, err
	}
	return postgresEngine{db}, nil
}

// schema names one of the two databases.
type schema string

const (
	controlSchema  schema = "control"
	trackingSchema schema = "tracking"
)

func sqliteOptions(o Options, s schema) sqlite.Options {
	return sqlite.Options{Path: o.Path, Schema: sqlite.Schema(s), BusyTimeout: o.BusyTimeout, MaxPages: o.MaxPages, KeepSchema: o.KeepSchema}
}

func postgresOptions(o Options, s schema) postgres.Options {
	p := postgres.Options{URL: o.URL, Schema: postgres.Schema(s), LockTimeout: o.BusyTimeout, KeepSchema: o.KeepSchema}
	if s == controlSchema {
		p.Newest = controlStatements()[newestEvent]
	}
	return p
}
