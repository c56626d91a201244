package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
)

const runColumns = `d.dag_id, r.run_id, r.type, r.state, r.logical_date, r.data_interval_start, r.data_interval_end,
	r.run_after, r.queued_at, r.start_date, r.end_date, r.conf, r.note, r.triggered_by, r.dag_version, r.bundle_version,
	r.clear_number, r.backfill_id, r.version`

func runDest(r *run.DAGRun) []any {
	return []any{&r.DAGID, &r.RunID, &r.Type, &r.State, optTimeIn{&r.LogicalDate}, optTimeIn{&r.DataIntervalStart},
		optTimeIn{&r.DataIntervalEnd}, timeIn{&r.RunAfter}, timeIn{&r.QueuedAt}, optTimeIn{&r.StartDate}, optTimeIn{&r.EndDate},
		jsonIn{&r.Conf}, &r.Note, &r.TriggeredBy, &r.DAGVersion, &r.BundleVersion, &r.ClearNumber, &r.BackfillID, &r.Version}
}

func scanRun(row scanner) (run.DAGRun, error) {
	var r run.DAGRun
	err := row.Scan(runDest(&r)...)
	return r, err
}

// conf is a run's configuration as kept: a JSON object, never nothing.
func conf(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "{}"
	}
	return string(raw)
}

// CreateRun inserts a DAG run and its task instances, and sets their versions to 1. ErrConflict when the run id or
// (dag, logical date) exists; ErrNotFound when the DAG was never published.
func (tx *Tx) CreateRun(r *run.DAGRun, tis []run.TaskInstance) error {
	d, err := tx.dagRow(r.DAGID)
	if err != nil {
		return fmt.Errorf("create DAG run %s/%s: %w", r.DAGID, r.RunID, err)
	}
	r.Conf = json.RawMessage(conf(r.Conf))
	var pk int64
	err = tx.s.get(insertRun, []any{d.pk, r.RunID, string(r.Type), string(r.State), optMicros(r.LogicalDate),
		optMicros(r.DataIntervalStart), optMicros(r.DataIntervalEnd), micros(r.RunAfter), micros(r.QueuedAt),
		optMicros(r.StartDate), optMicros(r.EndDate), string(r.Conf), r.Note, r.TriggeredBy, r.DAGVersion, r.BundleVersion,
		r.ClearNumber, r.BackfillID}, &pk)
	if err != nil {
		return fmt.Errorf("create DAG run %s/%s: %w", r.DAGID, r.RunID, err)
	}
	r.Version = 1
	tx.s.remember(runRef{r.DAGID, r.RunID}, pk)
	for i := range tis {
		if err := tx.insertTask(pk, &tis[i]); err != nil {
			return err
		}
	}
	return tx.emit(pk, Event{Kind: "run.created", DAGID: r.DAGID, RunID: r.RunID, MapIndex: -1, To: string(r.State),
		Detail: detail{"type": r.Type, "tasks": len(tis), "triggered_by": r.TriggeredBy}.json()})
}

// ChangeRun applies a guarded change; the stored version becomes Before.Version+1. ErrConflict when the guard fails.
func (tx *Tx) ChangeRun(c plan.RunChange) error {
	r := c.After
	pk, err := tx.s.runKey(c.Before.DAGID, c.Before.RunID)
	if err != nil {
		return fmt.Errorf("change: %w", err)
	}
	guarded := func(changed int64) error {
		if changed == 0 {
			return fmt.Errorf("change DAG run %s/%s: it is no longer at version %d: %w", c.Before.DAGID, c.Before.RunID,
				c.Before.Version, ErrConflict)
		}
		return nil
	}
	err = tx.s.send(updateRun, guarded, string(r.Type), string(r.State), optMicros(r.LogicalDate), optMicros(r.DataIntervalStart),
		optMicros(r.DataIntervalEnd), micros(r.RunAfter), micros(r.QueuedAt), optMicros(r.StartDate), optMicros(r.EndDate),
		conf(r.Conf), r.Note, r.TriggeredBy, r.DAGVersion, r.BundleVersion, r.ClearNumber, r.BackfillID, pk, c.Before.Version)
	if err != nil {
		return fmt.Errorf("change DAG run %s/%s: %w", r.DAGID, r.RunID, err)
	}
	e := Event{Kind: "run.state", DAGID: c.Before.DAGID, RunID: c.Before.RunID, MapIndex: -1, From: string(c.Before.State),
		To: string(r.State)}
	switch {
	case c.Before.State != r.State:
	case c.Before.Note != r.Note:
		e.Kind, e.From, e.To = "run.note", "", ""
	default:
		e.Kind, e.From, e.To = "run.changed", "", ""
	}
	return tx.emit(pk, e)
}

// DeleteRun deletes a finished run with its instances, attempts, XComs and callbacks; its events stay. ErrConflict when
// the run is not finished.
func (tx *Tx) DeleteRun(dagID, runID string) error {
	pk, err := tx.s.runKey(dagID, runID)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	n, err := tx.s.exec(deleteRun, pk)
	if err != nil {
		return fmt.Errorf("delete DAG run %s/%s: %w", dagID, runID, err)
	}
	if n == 0 {
		return fmt.Errorf("delete DAG run %s/%s: it is not finished: %w", dagID, runID, ErrConflict)
	}
	tx.s.forget()
	return tx.emit(pk, Event{Kind: "run.deleted", DAGID: dagID, RunID: runID, MapIndex: -1})
}

// LiveRuns returns every DAG run that is queued or running, with all its task instances: what a scheduler rebuilds from.
func (db *DB) LiveRuns(ctx context.Context) ([]LiveRun, error) {
	var live []LiveRun
	err := db.snapshot(ctx, func(tx *sql.Tx) error {
		at := map[int64]int{}
		err := db.eachIn(ctx, tx, liveRuns, nil, func(row scanner) error {
			var pk int64
			var l LiveRun
			if err := row.Scan(append([]any{&pk}, runDest(&l.Run)...)...); err != nil {
				return err
			}
			at[pk] = len(live)
			live = append(live, l)
			return nil
		})
		if err != nil {
			return err
		}
		return db.eachIn(ctx, tx, liveInstances, nil, func(row scanner) error {
			var pk int64
			var t run.TaskInstance
			if err := row.Scan(append([]any{&pk}, taskDest(&t)...)...); err != nil {
				return err
			}
			l := &live[at[pk]]
			l.Instances = append(l.Instances, t)
			return nil
		})
	}, liveRuns, liveInstances)
	if err != nil {
		return nil, fmt.Errorf("read live DAG runs: %w", err)
	}
	return live, nil
}

// Run returns one DAG run.
func (db *DB) Run(ctx context.Context, dagID, runID string) (run.DAGRun, error) {
	var r run.DAGRun
	if err := db.get(ctx, getRun, []any{dagID, runID}, runDest(&r)...); err != nil {
		return run.DAGRun{}, fmt.Errorf("DAG run %s/%s: %w", dagID, runID, err)
	}
	return r, nil
}

// RunStats counts a DAG's runs by state.
func (db *DB) RunStats(ctx context.Context, dagID string) (map[run.State]int, error) {
	counts := map[run.State]int{}
	err := db.each(ctx, runStats, []any{dagID}, func(row scanner) error {
		var s run.State
		var n int
		err := row.Scan(&s, &n)
		counts[s] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count the runs of %s: %w", dagID, err)
	}
	return counts, nil
}

// LatestRuns returns, by DAG id, the run of every DAG that is due last.
func (db *DB) LatestRuns(ctx context.Context) (map[string]run.DAGRun, error) {
	latest := map[string]run.DAGRun{}
	err := db.each(ctx, latestRuns, nil, func(row scanner) error {
		r, err := scanRun(row)
		latest[r.DAGID] = r
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the latest DAG runs: %w", err)
	}
	return latest, nil
}

// ignoreNotFound drops ErrNotFound of a lookup that only wanted to know.
func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
