package store

import (
	"context"
	"database/sql"

	"ostro.dev/ostro/internal/store/sqlite"
)

// engine is what a database engine does in its own way. Everything else is the common SQL text in statements.go.
type engine interface {
	// Writer lends the one writing connection.
	Writer(ctx context.Context) (*sql.Conn, error)
	// Readers is the pool of reading connections.
	Readers() *sql.DB
	// Begin is the statement that starts a write transaction.
	Begin() string
	// Rebind turns the placeholders of the common text (?) into the engine's own.
	Rebind(text string) string
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

var _ engine = (*sqlite.Database)(nil)

// The statements around closures, the same on every engine.
const (
	textCommit     = "COMMIT"
	textRollback   = "ROLLBACK"
	textSavepoint  = "SAVEPOINT closure"
	textRelease    = "RELEASE SAVEPOINT closure"
	textRollbackTo = "ROLLBACK TO SAVEPOINT closure"
)
