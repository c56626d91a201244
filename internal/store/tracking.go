package store

import (
	"context"
	"fmt"
	"time"
)

// The statements of the tracking database.
const (
	trackingPutMeta statement = iota
	trackingGetMeta
)

func trackingStatements() []string {
	return []string{
		trackingPutMeta: `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		trackingGetMeta: `SELECT value FROM meta WHERE key = ?`,
	}
}

// TrackingDB is an open tracking database. It has a writer of its own, so that a flood of metrics never delays the
// scheduler.
type TrackingDB struct{ *database }

// OpenTracking opens and migrates the tracking database.
func OpenTracking(ctx context.Context, o Options) (*TrackingDB, error) {
	d, err := openDatabase(ctx, o, trackingSchema, trackingStatements())
	if err != nil {
		return nil, fmt.Errorf("open the tracking database: %w", err)
	}
	return &TrackingDB{d}, nil
}

// TrackingTx is one write transaction's view of the tracking database.
type TrackingTx struct {
	Now   time.Time
	Actor string

	s *session
}

// Update runs f in the tracking writer, as DB.Update does in the control writer.
func (db *TrackingDB) Update(ctx context.Context, actor string, now time.Time, f func(*TrackingTx) error) error {
	return db.w.do(ctx, func(s *session) error { return f(&TrackingTx{Now: now, Actor: actor, s: s}) })
}

// SetMeta keeps a small value under a name.
func (tx *TrackingTx) SetMeta(key, value string) error {
	if _, err := tx.s.exec(trackingPutMeta, key, value); err != nil {
		return fmt.Errorf("write %q: %w", key, err)
	}
	return nil
}

// Meta returns a small value kept under a name by SetMeta; ErrNotFound.
func (db *TrackingDB) Meta(ctx context.Context, key string) (string, error) {
	var value string
	if err := db.get(ctx, trackingGetMeta, []any{key}, &value); err != nil {
		return "", fmt.Errorf("read %q: %w", key, err)
	}
	return value, nil
}

// Backup writes a consistent copy to path while the database is in use; the file must not exist.
func (db *TrackingDB) Backup(ctx context.Context, path string) error {
	if err := db.eng.Backup(ctx, path); err != nil {
		return fmt.Errorf("back up the tracking database: %w", explain(err))
	}
	return nil
}
