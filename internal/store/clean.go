package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// CleanReport says what Clean deleted, or would delete.
type CleanReport struct {
	Runs          int   `json:"dag_runs"`
	TaskInstances int   `json:"task_instances"`
	Attempts      int   `json:"attempts"`
	XComs         int   `json:"xcoms"`
	Events        int   `json:"events"`
	AssetEvents   int   `json:"asset_events"`
	Blobs         int   `json:"blobs"`
	BlobBytes     int64 `json:"blob_bytes"`
}

// Transactions of Clean are small: the scheduler commits between them.
const (
	cleanRuns   = 50
	cleanEvents = 5000
)

// Clean deletes DAG runs that ended before a time, with their task instances, attempts, XComs and callbacks, events older
// than it, asset events nobody needs, and large XCom values nobody refers to any more. With dryRun it only counts. Live runs are never touched.
func (db *DB) Clean(ctx context.Context, before time.Time, dryRun bool) (CleanReport, error) {
	var r CleanReport
	err := db.get(ctx, countOldRuns, []any{micros(before)}, &r.Runs, &r.TaskInstances, &r.Attempts, &r.XComs)
	if err != nil {
		return r, fmt.Errorf("clean: count old DAG runs: %w", err)
	}
	oldest, cutoff, err := db.eventsBefore(ctx, before)
	if err != nil {
		return r, fmt.Errorf("clean: find old events: %w", err)
	}
	r.Events = int(cutoff - oldest)
	if err := db.get(ctx, oldAssetEvents, []any{micros(before)}, &r.AssetEvents); err != nil {
		return r, fmt.Errorf("clean: find old asset events: %w", err)
	}
	if !dryRun {
		if err := db.deleteOldRuns(ctx, before); err != nil {
			return r, fmt.Errorf("clean: delete old DAG runs: %w", err)
		}
		if err := db.deleteOldEvents(ctx, oldest, cutoff); err != nil {
			return r, fmt.Errorf("clean: delete old events: %w", err)
		}
		if err := db.deleteOldAssetEvents(ctx, before); err != nil {
			return r, fmt.Errorf("clean: delete old asset events: %w", err)
		}
	}
	if r.Blobs, r.BlobBytes, err = db.collectBlobs(ctx, dryRun); err != nil {
		return r, fmt.Errorf("clean: collect large XCom values: %w", err)
	}
	if dryRun || r == (CleanReport{}) {
		return r, nil
	}
	err = db.Update(ctx, "clean", db.o.Now(), func(tx *Tx) error {
		return tx.Emit(Event{Kind: "db.cleaned", MapIndex: -1, Detail: detail{"before": before.UTC(), "runs": r.Runs,
			"task_instances": r.TaskInstances, "attempts": r.Attempts, "xcoms": r.XComs, "events": r.Events, "asset_events": r.AssetEvents,
			"blobs": r.Blobs}.json()})
	})
	return r, err
}

func (db *DB) deleteOldRuns(ctx context.Context, before time.Time) error {
	for {
		more := false
		err := db.Update(ctx, "clean", db.o.Now(), func(tx *Tx) error {
			var keys []int64
			err := tx.s.each(oldRuns, []any{micros(before), cleanRuns}, func(row scanner) error {
				var pk int64
				var dagID, runID string
				err := row.Scan(&pk, &dagID, &runID)
				keys = append(keys, pk)
				return err
			})
			if err != nil {
				return err
			}
			more = len(keys) == cleanRuns
			for _, pk := range keys {
				if _, err := tx.s.exec(deleteRunByKey, pk); err != nil {
					return err
				}
			}
			tx.s.forget()
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
}

// eventsBefore finds, by halving, the oldest event and the first that is not older than a time: numbers grow with time.
func (db *DB) eventsBefore(ctx context.Context, before time.Time) (oldest, cutoff int64, err error) {
	if err := db.get(ctx, oldestEvent, nil, &oldest); err != nil {
		return 0, 0, err
	}
	newest, err := db.LastEvent(ctx)
	if err != nil || newest == 0 {
		return 0, 0, err
	}
	lo, hi := oldest, newest // the newest stays, see the schema
	for lo < hi {
		mid := lo + (hi-lo)/2
		var seq int64
		var at time.Time
		if err := db.get(ctx, eventTime, []any{mid}, &seq, timeIn{&at}); err != nil {
			return 0, 0, err
		}
		if at.Before(before) {
			lo = seq + 1
		} else {
			hi = mid
		}
	}
	return oldest, lo, nil
}

func (db *DB) deleteOldEvents(ctx context.Context, oldest, cutoff int64) error {
	for at := oldest; at < cutoff; {
		at = min(at+cleanEvents, cutoff)
		err := db.Update(ctx, "clean", db.o.Now(), func(tx *Tx) error {
			_, err := tx.s.exec(deleteEvents, at)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteOldAssetEvents deletes events that no DAG waits for and no run there is has consumed.
func (db *DB) deleteOldAssetEvents(ctx context.Context, before time.Time) error {
	for {
		var n int64
		err := db.Update(ctx, "clean", db.o.Now(), func(tx *Tx) (err error) {
			n, err = tx.s.exec(deleteOldAssetEvents, micros(before), cleanEvents)
			return err
		})
		if err != nil || n < cleanEvents {
			return err
		}
	}
}

// collectBlobs deletes files no row refers to. A candidate is one that no committed row needs and that is not young; it is
// deleted in the writer's time, where no PutXCom can come between the last look and the deletion.
func (db *DB) collectBlobs(ctx context.Context, dryRun bool) (count int, bytes int64, err error) {
	used, err := db.usedBlobs(ctx)
	if err != nil {
		return 0, 0, err
	}
	young := db.o.Now().Add(-blobGrace)
	err = db.blobs.each(func(name, path string, info fs.FileInfo) error {
		if used[name] || info.ModTime().After(young) {
			return ctx.Err()
		}
		count++
		bytes += info.Size()
		if dryRun {
			return nil
		}
		return db.Update(ctx, "clean", db.o.Now(), func(tx *Tx) error {
			var refs int
			if err := tx.s.get(blobInUse, []any{name}, &refs); err != nil {
				return err
			}
			now, err := os.Stat(path)
			if refs > 0 || errors.Is(err, fs.ErrNotExist) || (err == nil && now.ModTime().After(young)) {
				return nil
			}
			if err != nil {
				return err
			}
			return os.Remove(path)
		})
	})
	return count, bytes, err
}
