package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Schema names one of the two databases. Each is a PostgreSQL schema of its own.
type Schema string

// The databases Ostro keeps.
const (
	Control  Schema = "control"
	Tracking Schema = "tracking"
)

func (s Schema) name() string {
	if s == Control {
		return "ostro"
	}
	return "ostro_" + string(s)
}

// lockKey is the second half of the write lock's number; the first is the same for all.
func (s Schema) lockKey() int32 {
	if s == Control {
		return 1
	}
	return 2
}

// ErrOlder means that the database has an older schema and was to be opened as it is.
var ErrOlder = errors.New("the database has the schema of an older version of ostro")

// ErrNewer means that a newer Ostro has written the database.
var ErrNewer = errors.New("the database was written by a newer version of ostro")

// migrate brings the schema up to date and returns the version before and after. Of several processes one does it.
func (d *Database) migrate(ctx context.Context) (from, to int64, err error) {
	from, newest, err := d.Version(ctx)
	switch {
	case err != nil:
		return 0, 0, err
	case from > newest:
		return from, from, fmt.Errorf("%w: it has schema %d, this binary knows up to %d; use the newer binary or restore a backup",
			ErrNewer, from, newest)
	case from == newest:
		return from, newest, nil
	}
	db := stdlib.OpenDB(*d.config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+d.o.Schema.name()); err != nil {
		return from, from, fmt.Errorf("make the schema %s: %w", d.o.Schema.name(), err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return from, from, fmt.Errorf("migrate: %w", err)
	}
	dir, err := fs.Sub(migrations, "migrations/"+string(d.o.Schema))
	if err != nil {
		return from, from, fmt.Errorf("read the embedded migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return from, from, fmt.Errorf("read the embedded migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return from, from, fmt.Errorf("migrate from schema %d to %d: %w", from, newest, err)
	}
	return from, newest, nil
}

// Version returns the schema version of the database, 0 for an empty one, and the newest this binary knows.
func (d *Database) Version(ctx context.Context) (current, newest int64, err error) {
	files, err := fs.Glob(migrations, "migrations/"+string(d.o.Schema)+"/*.sql")
	if err != nil || len(files) == 0 {
		return 0, 0, fmt.Errorf("read the embedded migrations: %w", errors.Join(err, fs.ErrNotExist))
	}
	for _, file := range files {
		n, err := goose.NumericComponent(file)
		if err != nil {
			return 0, 0, fmt.Errorf("read the embedded migrations: %w", err)
		}
		newest = max(newest, n)
	}
	var there bool
	if err := d.readers.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, d.o.Schema.name()+".goose_db_version").Scan(&there); err != nil {
		return 0, newest, fmt.Errorf("read the schema version: %w", err)
	}
	if !there {
		return 0, newest, nil
	}
	if err := d.readers.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&current); err != nil {
		return 0, newest, fmt.Errorf("read the schema version: %w", err)
	}
	return current, newest, nil
}

// Migrate brings a database up to date without keeping it open, and returns the version before and after.
func Migrate(ctx context.Context, o Options) (from, to int64, err error) {
	d, err := connect(ctx, o)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if from, to, err = d.migrate(ctx); err != nil {
		return from, to, fmt.Errorf("migrate %s: %w", Shown(o.URL), err)
	}
	return from, to, nil
}
