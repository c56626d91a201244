package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// Schema names one of the two databases.
type Schema string

// The databases Ostro keeps.
const (
	Control  Schema = "control"
	Tracking Schema = "tracking"
)

// ErrOlder means that the database has an older schema and was to be opened as it is.
var ErrOlder = errors.New("the database has the schema of an older version of ostro")

// ErrNewer means that a newer Ostro has written the database.
var ErrNewer = errors.New("the database was written by a newer version of ostro")

// migrate brings the schema up to date and returns the version before and after.
func migrate(ctx context.Context, db *sql.DB, s Schema) (from, to int64, err error) {
	p, err := provider(db, s)
	if err != nil {
		return 0, 0, err
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	if from, err = version(ctx, db); err != nil {
		return 0, 0, err
	}
	switch {
	case from > newest:
		return from, from, fmt.Errorf("%w: it has schema %d, this binary knows up to %d; use the newer binary or restore a backup",
			ErrNewer, from, newest)
	case from == newest:
		return from, newest, nil
	}
	if _, err := p.Up(ctx); err != nil {
		return from, from, fmt.Errorf("migrate from schema %d to %d: %w", from, newest, err)
	}
	return from, newest, nil
}

func provider(db *sql.DB, s Schema) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations/"+string(s))
	if err != nil {
		return nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	return p, nil
}

// version reads the schema version without creating anything; 0 for an empty file.
func version(ctx context.Context, db *sql.DB) (int64, error) {
	var has int
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'`).Scan(&has)
	if err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	if has == 0 {
		return 0, nil
	}
	var v int64
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&v); err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	return v, nil
}

// Version returns the schema version of the open file, and the newest this binary knows.
func (d *Database) Version(ctx context.Context) (current, newest int64, err error) {
	p, err := provider(d.readers, d.o.Schema)
	if err != nil {
		return 0, 0, err
	}
	sources := p.ListSources()
	current, err = version(ctx, d.readers)
	return current, sources[len(sources)-1].Version, err
}

// Migrate brings a file up to date without keeping it open, and returns the version before and after.
func Migrate(ctx context.Context, o Options) (from, to int64, err error) {
	db, err := open(o, 1, false)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if from, to, err = migrate(ctx, db, o.Schema); err != nil {
		return from, to, fmt.Errorf("migrate %s: %w", o.Path, withCause(o.Path, err))
	}
	return from, to, nil
}
