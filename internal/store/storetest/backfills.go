package storetest

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func testBackfills(f *fixture) {
	f.publish("bf", "a")
	f.start("bf", "r1", "a")
	_, newest, err := f.db.OpenBackfills(f.ctx)
	f.must(err)
	f.same("no number was given", int64(0), newest)
	day := func(n int) time.Time { return Epoch.AddDate(0, 0, n) }
	b := store.Backfill{ID: 1, DAGID: "bf", From: day(0), To: day(2), Conf: json.RawMessage(`{"k":1}`), Reprocess: "failed", MaxActiveRuns: 3,
		Reverse: true, CreatedBy: "tester"}
	dates := []store.BackfillRun{{Ordinal: 1, LogicalDate: day(1), RunID: "r1"}, {Ordinal: 2, LogicalDate: day(0), Reason: store.BackfillExists}}
	f.update(func(tx *store.Tx) error { return tx.CreateBackfill(&b, dates) })
	again := b
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.CreateBackfill(&again, nil) })
	other := store.Backfill{ID: 2, DAGID: "bf", From: day(0), To: day(0), Reprocess: "none", MaxActiveRuns: 1}
	f.update(func(tx *store.Tx) error { return tx.CreateBackfill(&other, nil) })
	other.Conf = json.RawMessage("{}")

	open, newest, err := f.db.OpenBackfills(f.ctx)
	f.must(err)
	f.same("open", []store.Backfill{b, other}, open)
	f.same("newest", int64(2), newest)
	dates[0].State = run.RunRunning
	got, err := f.db.BackfillRuns(f.ctx, 1)
	f.must(err)
	f.same("dates", dates, got)

	f.update(func(tx *store.Tx) error { return tx.PauseBackfill(b, true) })
	b.Paused, b.Updated = true, f.now
	read, err := f.db.Backfill(f.ctx, 1)
	f.must(err)
	f.same("paused", b, read)
	f.update(func(tx *store.Tx) error { return tx.CompleteBackfill(b, "backfill.cancelled") })
	f.update(func(tx *store.Tx) error { return tx.PauseBackfill(b, false) })
	open, _, err = f.db.OpenBackfills(f.ctx)
	f.must(err)
	f.same("still open", []store.Backfill{other}, open)
	read, err = f.db.Backfill(f.ctx, 1)
	f.must(err)
	f.same("a complete one stays as it is", []any{true, true}, []any{read.Paused, read.Completed != nil})
	_, err = f.db.Backfill(f.ctx, 9)
	f.isErr(store.ErrNotFound, err)

	list, n, err := f.db.Backfills(f.ctx, "bf", []string{"-id"}, 1, 0)
	f.must(err)
	f.same("listed", []any{2, int64(2)}, []any{n, list[0].ID})
	_, n, err = f.db.Backfills(f.ctx, "~", nil, 0, 0)
	f.must(err)
	f.same("of all DAGs", 2, n)
	_, _, err = f.db.Backfills(f.ctx, "", []string{"nonsense"}, 0, 0)
	f.isErr(store.ErrInvalid, err)
}
