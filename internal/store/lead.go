package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/store/postgres"
)

// Leader is who schedules on a PostgreSQL database.
type Leader = postgres.Leader

// ErrLed: another server leads this database, or one led it whose worker may still be at work.
var ErrLed = postgres.ErrLed

// Lead makes this process the one that schedules, for ttl unless it is renewed. From then on every write transaction carries
// its term and fails with ErrFenced once another process has led. ErrLed while another home's server leads, and also when
// that is gone but has left attempts open: its worker goes on without it, and only a server of that home can know what
// became of them. On SQLite, whose file belongs to one home, it does nothing.
func (db *DB) Lead(ctx context.Context, who Leader, ttl time.Duration) error {
	pg, ok := db.eng.(postgresEngine)
	if !ok {
		return nil
	}
	now, behind, err := pg.Lead(ctx, who, ttl, controlStatements()[countAtWork])
	switch {
	case !errors.Is(err, ErrLed):
		return explain(err)
	case behind > 0:
		return fmt.Errorf("%w: %s is gone, and its worker may still be at %d task(s) or callback(s): start that server again, or, "+
			"when its machine is surely off, give them up with: ostro db release", ErrLed, now.Server, behind)
	}
	return fmt.Errorf("%w: %s, at %s; stop it first, or wait %s if it has died", ErrLed, now.Server, now.URL, now.Left.Round(time.Second))
}

// AtWork counts what workers may be at: attempts that have not ended, and callbacks that were begun.
func (db *DB) AtWork(ctx context.Context) (n int, err error) {
	if err := db.get(ctx, countAtWork, nil, &n); err != nil {
		return 0, fmt.Errorf("count open attempts: %w", err)
	}
	return n, nil
}

// Renew prolongs the lead.
func (db *DB) Renew(ctx context.Context, ttl time.Duration) error {
	if pg, ok := db.eng.(postgresEngine); ok {
		return explain(pg.Renew(ctx, ttl))
	}
	return nil
}

// Resign gives the lead up.
func (db *DB) Resign(ctx context.Context) error {
	if pg, ok := db.eng.(postgresEngine); ok {
		return explain(pg.Resign(ctx))
	}
	return nil
}

// Release ends the lead of a home whose machine is off for good, so that another one may go on: what its worker ran counts as
// lost then. It returns who led; ErrConflict when the leader is alive, or has come to life again just now, ErrNotFound when
// there was none.
func (db *DB) Release(ctx context.Context) (Leader, error) {
	pg, ok := db.eng.(postgresEngine)
	if !ok {
		return Leader{}, fmt.Errorf("release: a SQLite database belongs to its home: %w", ErrInvalid)
	}
	was, err := pg.Leader(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Leader{}, fmt.Errorf("release: nobody has led this database: %w", ErrNotFound)
	case err != nil:
		return Leader{}, explain(err)
	case was.Left > 0:
		return was, fmt.Errorf("release: %s leads, and is alive: %w", was.Server, ErrConflict)
	}
	if err := pg.Release(ctx, was.Term); errors.Is(err, ErrLed) {
		return was, fmt.Errorf("release: %s has just renewed its lead, or another has taken it; look again: %w", was.Server, ErrConflict)
	} else if err != nil {
		return was, fmt.Errorf("release: %w", explain(err))
	}
	return was, nil
}
