package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// Backfill is an order to run a DAG for past dates.
type Backfill struct {
	// ID is given by the scheduler, the only one to create backfills.
	ID       int64
	DAGID    string
	From, To time.Time
	Conf     json.RawMessage
	// Reprocess says what becomes of dates that have a finished run: none (left alone), failed (run again if it failed) or
	// completed (run again).
	Reprocess     string
	MaxActiveRuns int
	// Reverse: the newest date first.
	Reverse          bool
	Paused           bool
	CreatedBy        string
	Created, Updated time.Time
	// Completed is nil while runs of it are live.
	Completed *time.Time
}

// BackfillRun is one date of a backfill: its run, or why it got none.
type BackfillRun struct {
	Ordinal     int
	LogicalDate time.Time
	RunID       string
	State       run.State // when read
	Reason      string
}

// Why a date of a backfill got no run.
const (
	BackfillInFlight = "in flight"
	BackfillExists   = "already exists"
)

func backfillDest(b *Backfill) []any {
	return []any{&b.ID, &b.DAGID, timeIn{&b.From}, timeIn{&b.To}, jsonIn{&b.Conf}, &b.Reprocess, &b.MaxActiveRuns, &b.Reverse, &b.Paused,
		&b.CreatedBy, timeIn{&b.Created}, timeIn{&b.Updated}, optTimeIn{&b.Completed}}
}

// CreateBackfill stores a backfill with its dates. The runs it names must exist.
func (tx *Tx) CreateBackfill(b *Backfill, dates []BackfillRun) error {
	fail := func(err error) error { return fmt.Errorf("create backfill %d of %s: %w", b.ID, b.DAGID, err) }
	row, err := tx.dagRow(b.DAGID)
	if err != nil {
		return fail(err)
	}
	b.Created, b.Updated = tx.Now, tx.Now
	if _, err := tx.s.exec(insertBackfill, b.ID, row.pk, micros(b.From), micros(b.To), conf(b.Conf), b.Reprocess, b.MaxActiveRuns,
		truth(b.Reverse), truth(b.Paused), b.CreatedBy, micros(tx.Now), micros(tx.Now)); err != nil {
		return fail(err)
	}
	for _, d := range dates {
		var pk any
		if d.RunID != "" {
			if pk, err = tx.s.runKey(b.DAGID, d.RunID); err != nil {
				return fail(err)
			}
		}
		if _, err := tx.s.exec(insertBackfillRun, b.ID, d.Ordinal, micros(d.LogicalDate), pk, d.Reason); err != nil {
			return fail(err)
		}
	}
	return tx.Emit(Event{Kind: "backfill.created", DAGID: b.DAGID, MapIndex: -1, Detail: detail{"backfill": b.ID, "from": b.From.UTC(), "to": b.To.UTC(),
		"reprocess": b.Reprocess, "dates": len(dates)}.json()})
}

// PauseBackfill pauses or unpauses a backfill that is not complete.
func (tx *Tx) PauseBackfill(b Backfill, paused bool) error {
	if _, err := tx.s.exec(pauseBackfill, truth(paused), micros(tx.Now), b.ID); err != nil {
		return fmt.Errorf("pause backfill %d: %w", b.ID, err)
	}
	kind := "backfill.unpaused"
	if paused {
		kind = "backfill.paused"
	}
	return tx.Emit(Event{Kind: kind, DAGID: b.DAGID, MapIndex: -1, Detail: detail{"backfill": b.ID}.json()})
}

// CompleteBackfill records that no run of a backfill is live any more, or that it is cancelled.
func (tx *Tx) CompleteBackfill(b Backfill, kind string) error {
	if _, err := tx.s.exec(completeBackfill, micros(tx.Now), micros(tx.Now), b.ID); err != nil {
		return fmt.Errorf("complete backfill %d: %w", b.ID, err)
	}
	return tx.Emit(Event{Kind: kind, DAGID: b.DAGID, MapIndex: -1, Detail: detail{"backfill": b.ID}.json()})
}

// OpenBackfills lists the backfills that are not complete, and the newest number ever given: what a scheduler rebuilds from.
func (db *DB) OpenBackfills(ctx context.Context) (open []Backfill, newest int64, err error) {
	if err := db.get(ctx, newestBackfill, nil, &newest); err != nil {
		return nil, 0, fmt.Errorf("read the newest backfill: %w", err)
	}
	err = db.each(ctx, openBackfills, nil, func(row scanner) error {
		var b Backfill
		err := row.Scan(backfillDest(&b)...)
		open = append(open, b)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read open backfills: %w", err)
	}
	return open, newest, nil
}

// Backfill returns one backfill.
func (db *DB) Backfill(ctx context.Context, id int64) (Backfill, error) {
	var b Backfill
	if err := db.get(ctx, getBackfill, []any{id}, backfillDest(&b)...); err != nil {
		return Backfill{}, fmt.Errorf("backfill %d: %w", id, err)
	}
	return b, nil
}

// BackfillRuns lists the dates of a backfill in their order.
func (db *DB) BackfillRuns(ctx context.Context, id int64) ([]BackfillRun, error) {
	var out []BackfillRun
	err := db.each(ctx, backfillRuns, []any{id}, func(row scanner) error {
		var r BackfillRun
		err := row.Scan(&r.Ordinal, timeIn{&r.LogicalDate}, &r.RunID, &r.State, &r.Reason)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the dates of backfill %d: %w", id, err)
	}
	return out, nil
}

// Backfills lists backfills of a DAG ("" or "~": of all), oldest first unless order says otherwise, and counts all that match.
func (db *DB) Backfills(ctx context.Context, dagID string, order []string, limit, offset int) ([]Backfill, int, error) {
	var w where
	w.equal("b.dag_pk = "+dagKeyOf, dagID)
	by, err := orderBy(order, map[string]string{"id": "b.backfill_id"}, "b.backfill_id")
	if err != nil {
		return nil, 0, fmt.Errorf("list backfills: %w", err)
	}
	var out []Backfill
	total, err := db.list(ctx, backfillColumns, fromBackfills, w, by, limit, offset, func(row scanner) error {
		var b Backfill
		err := row.Scan(backfillDest(&b)...)
		out = append(out, b)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list backfills: %w", err)
	}
	return out, total, nil
}
