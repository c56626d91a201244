package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// dagKeyOf and runKeyOf turn names into keys first, so that the listing walks an index of one DAG or one run.
const (
	dagKeyOf = `(SELECT k.dag_pk FROM dags k WHERE k.dag_id = ?)`
	runKeyOf = `(SELECT l.run_pk FROM dags k JOIN runs l ON l.dag_pk = k.dag_pk WHERE k.dag_id = ? AND l.run_id = ?)`
)

// list runs a listing and counts what it would give without limit and offset.
func (d *database) list(ctx context.Context, columns, from string, w where, order string, limit, offset int,
	scan func(scanner) error) (total int, err error) {
	rows := 0
	counting := func(row scanner) error { rows++; return scan(row) }
	if err := d.query(ctx, `SELECT `+columns+from+w.text()+order+page(limit, offset), w.args, counting); err != nil {
		return 0, err
	}
	if offset == 0 && (limit <= 0 || rows < limit) {
		return rows, nil
	}
	err = d.query(ctx, `SELECT count(*)`+from+w.text(), w.args, func(row scanner) error { return row.Scan(&total) })
	return total, err
}

func runOrder() map[string]string {
	return map[string]string{
		"id": "r.run_pk", "run_after": "r.run_after", "logical_date": "r.logical_date", "start_date": "r.start_date",
		"end_date": "r.end_date", "queued_at": "r.queued_at", "state": "r.state", "run_id": "r.run_id", "dag_run_id": "r.run_id",
		"dag_id": "d.dag_id", "run_type": "r.type", "data_interval_start": "r.data_interval_start",
		"data_interval_end": "r.data_interval_end", "updated_at": "r.end_date", "duration": "r.end_date - r.start_date",
	}
}

// Runs lists DAG runs, oldest created first unless OrderBy says otherwise, and counts all that match.
func (db *DB) Runs(ctx context.Context, f RunFilter) ([]run.DAGRun, int, error) {
	var w where
	w.equal("r.dag_pk = "+dagKeyOf, f.DAGID)
	if live := []run.State{run.RunQueued, run.RunRunning}; len(f.States) > 0 && subset(f.States, live) {
		w.add(isLive) // lets the index of live runs serve
	}
	in(&w, "r.state", f.States)
	in(&w, "r.type", f.Types)
	between(&w, "r.logical_date", f.LogicalDateGTE, f.LogicalDateLTE)
	between(&w, "r.start_date", f.StartDateGTE, f.StartDateLTE)
	between(&w, "r.run_after", f.RunAfterGTE, f.RunAfterLTE)
	w.equal("lower(r.run_id) LIKE lower(?)", f.RunIDPattern)
	in(&w, "r.run_id", f.RunIDs)
	onDates(&w, "r.logical_date", f.LogicalDates)
	last := "r.run_pk"
	if f.StartDateGTE != nil || f.RunAfterGTE != nil {
		last = "r.run_pk + 0" // keeps the planner from walking all runs in this order instead of the dates asked for
	}
	order, err := orderBy(f.OrderBy, runOrder(), last)
	if err != nil {
		return nil, 0, fmt.Errorf("list DAG runs: %w", err)
	}
	var rs []run.DAGRun
	total, err := db.list(ctx, runColumns, fromRuns, w, order, f.Limit, f.Offset, func(row scanner) error {
		r, err := scanRun(row)
		rs = append(rs, r)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list DAG runs: %w", err)
	}
	return rs, total, nil
}

func between(w *where, column string, from, to *time.Time) {
	if from != nil {
		w.add(column+" >= ?", micros(*from))
	}
	if to != nil {
		w.add(column+" <= ?", micros(*to))
	}
}

// onDates adds that column is one of dates, unless there are none.
func onDates(w *where, column string, dates []time.Time) {
	if len(dates) == 0 {
		return
	}
	args := make([]any, len(dates))
	for i, at := range dates {
		args[i] = micros(at)
	}
	w.add(column+" IN (?"+strings.Repeat(", ?", len(dates)-1)+")", args...)
}

func subset[T comparable](some, all []T) bool {
	return !slices.ContainsFunc(some, func(v T) bool { return !slices.Contains(all, v) })
}

func taskOrder() map[string]string {
	return map[string]string{
		"id": "t.ti_pk", "task_id": "t.task_id", "map_index": "t.map_index", "state": "t.state", "start_date": "t.start_date",
		"end_date": "t.end_date", "queued_dttm": "t.queued_at", "queued_at": "t.queued_at", "scheduled_dttm": "t.scheduled_at",
		"try_number": "t.try_number", "duration": "t.end_date - t.start_date", "run_after": "r.run_after",
		"logical_date": "r.logical_date", "run_id": "r.run_id", "dag_id": "d.dag_id", "rendered_map_index": "t.rendered_map_index",
		"data_interval_start": "r.data_interval_start",
	}
}

// liveStates are the states of instances that still have something to do.
func liveStates() []run.TaskState {
	return []run.TaskState{run.Scheduled, run.Queued, run.Running, run.UpForRetry, run.UpForReschedule, run.Deferred,
		run.AwaitingInput, run.Restarting}
}

// maybeLive is true of every instance in a live state: one that waits belongs to a live run, and one that runs has an
// open attempt. Both have small indexes, so no listing of what goes on now walks through history.
const maybeLive = `(t.run_pk IN (SELECT l.run_pk FROM runs l WHERE l.state = 'queued' OR l.state = 'running')
	OR t.ti_pk IN (SELECT a.ti_pk FROM attempts a WHERE a.ended_at IS NULL))`

// TaskInstances lists task instances, by run and order of declaration unless OrderBy says otherwise, and counts all
// that match.
func (db *DB) TaskInstances(ctx context.Context, f TIFilter) ([]run.TaskInstance, int, error) {
	w := taskWhere(f)
	order, err := orderBy(f.OrderBy, taskOrder(), "t.run_pk", "t.ti_pk")
	if err != nil {
		return nil, 0, fmt.Errorf("list task instances: %w", err)
	}
	if len(f.Pools) > 0 {
		return db.taskInstancesOfPools(ctx, f, w, order)
	}
	var ts []run.TaskInstance
	total, err := db.list(ctx, taskColumns, fromTasks, w, order, f.Limit, f.Offset, func(row scanner) error {
		t, err := scanTask(row)
		ts = append(ts, t)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list task instances: %w", err)
	}
	return ts, total, nil
}

// TaskInstancesAfter lists at most limit task instances in order of declaration, those after a place: zero, or what the last
// call returned as the next one. The next place is zero when there are no more. An instance that matches all the while is listed
// once, whatever comes and goes between two calls; limit, order and pools of the filter do not count.
func (db *DB) TaskInstancesAfter(ctx context.Context, f TIFilter, after int64, limit int) (ts []run.TaskInstance, next int64, err error) {
	w := taskWhere(f)
	w.add("t.ti_pk > ?", after)
	err = db.query(ctx, `SELECT t.ti_pk, `+taskColumns+fromTasks+w.text()+` ORDER BY t.ti_pk`+page(limit, 0), w.args, func(row scanner) error {
		var t run.TaskInstance
		err := row.Scan(append([]any{&next}, taskDest(&t)...)...)
		ts = append(ts, t)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list task instances: %w", err)
	}
	if len(ts) < limit {
		next = 0
	}
	return ts, next, nil
}

// TaskStates gives the state of every task instance that matches, a row at a time; limit, order and pools of the filter
// do not count. It stops at visit's first error and returns it.
func (db *DB) TaskStates(ctx context.Context, f TIFilter, visit func(run.Key, run.TaskState) error) error {
	w := taskWhere(f)
	err := db.query(ctx, `SELECT d.dag_id, r.run_id, t.task_id, t.map_index, t.state`+fromTasks+w.text(), w.args, func(row scanner) error {
		var k run.Key
		var s run.TaskState
		if err := row.Scan(&k.DAGID, &k.RunID, &k.TaskID, &k.MapIndex, &s); err != nil {
			return err
		}
		return visit(k, s)
	})
	if err != nil {
		return fmt.Errorf("read task states: %w", err)
	}
	return nil
}

func taskWhere(f TIFilter) where {
	var w where
	anyDAG, anyRun := f.DAGID == "" || f.DAGID == "~", f.RunID == "" || f.RunID == "~"
	switch {
	case !anyDAG && !anyRun:
		w.add("t.run_pk = "+runKeyOf, f.DAGID, f.RunID)
	case !anyDAG:
		w.add("r.dag_pk = "+dagKeyOf, f.DAGID)
	case !anyRun:
		w.add("r.run_id = ?", f.RunID)
	}
	w.equal("t.task_id = ?", f.TaskID)
	in(&w, "t.task_id", f.TaskIDs)
	in(&w, "r.run_id", f.RunIDs)
	onDates(&w, "r.logical_date", f.LogicalDates)
	if len(f.States) > 0 && subset(f.States, liveStates()) {
		w.add(maybeLive)
	}
	in(&w, "t.state", f.States)
	if f.MapIndex != nil {
		w.add("t.map_index = ?", *f.MapIndex)
	}
	return w
}

// taskInstancesOfPools filters by pool, which is the DAG version's to know, not the row's.
func (db *DB) taskInstancesOfPools(ctx context.Context, f TIFilter, w where, order string) ([]run.TaskInstance, int, error) {
	const version = `coalesce((SELECT v.dag_version_pk FROM dag_versions v WHERE v.dag_pk = r.dag_pk AND v.number = r.dag_version), 0), `
	var ts []run.TaskInstance
	var versions []int64
	err := db.query(ctx, `SELECT `+version+taskColumns+fromTasks+w.text()+order, w.args, func(row scanner) error {
		var t run.TaskInstance
		var pk int64
		if err := row.Scan(append([]any{&pk}, taskDest(&t)...)...); err != nil {
			return err
		}
		ts, versions = append(ts, t), append(versions, pk)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list task instances: %w", err)
	}
	var found []run.TaskInstance
	for i, t := range ts {
		pool, err := db.poolOf(ctx, versions[i], t.TaskID)
		if err != nil {
			return nil, 0, fmt.Errorf("list task instances: %w", err)
		}
		if slices.Contains(f.Pools, pool) {
			found = append(found, t)
		}
	}
	total := len(found)
	found = found[min(max(f.Offset, 0), total):]
	if f.Limit > 0 {
		found = found[:min(f.Limit, len(found))]
	}
	return found, total, nil
}

func (db *DB) poolOf(ctx context.Context, version int64, taskID string) (string, error) {
	if version == 0 {
		return DefaultPool, nil
	}
	d, err := db.dagBody(ctx, version)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(d.Tasks, func(t dag.Task) bool { return t.ID == taskID })
	if i < 0 || d.Tasks[i].Pool == "" {
		return DefaultPool, nil
	}
	return d.Tasks[i].Pool, nil
}

const (
	dagColumns = `d.dag_id, d.paused, d.removed, d.version, d.bundle, d.bundle_version, d.last_parsed, d.last_slot, d.next_logical,
	d.next_start, d.next_end, d.next_run_after, v.dag_version_pk,
	EXISTS (SELECT 1 FROM import_errors i WHERE i.bundle = d.bundle AND i.file = d.file)`
	fromDAGs   = ` FROM dags d JOIN dag_versions v ON v.dag_pk = d.dag_pk AND v.number = d.version`
	selectDAGs = `SELECT ` + dagColumns + fromDAGs
)

// dagListing is a DAG as read, before its body is fetched.
type dagListing struct {
	id      string
	info    DAGInfo
	version int64
}

func (l *dagListing) dest(next *[4]*time.Time) []any {
	i := &l.info
	return []any{&l.id, &i.Paused, &i.Removed, &i.Version, &i.Bundle, &i.BundleVersion, timeIn{&i.LastParsed},
		optTimeIn{&i.Schedule.LastSlot}, optTimeIn{&next[0]}, optTimeIn{&next[1]}, optTimeIn{&next[2]}, optTimeIn{&next[3]},
		&l.version, &i.HasErrors}
}

func (l *dagListing) setNext(next [4]*time.Time) {
	if next[0] != nil {
		l.info.Schedule.NextRun = &NextRun{LogicalDate: *next[0], IntervalStart: *next[1], IntervalEnd: *next[2], RunAfter: *next[3]}
	}
}

// DAGs lists DAGs by id unless OrderBy says otherwise, and counts all that match. Removed ones are left out unless asked
// for.
func (db *DB) DAGs(ctx context.Context, f DAGFilter) ([]DAGInfo, int, error) {
	var w where
	w.equal("lower(d.dag_id) LIKE lower(?)", f.IDPattern)
	if !f.IncludeRemoved {
		w.add("d.removed = 0")
	}
	if f.Paused != nil {
		w.add("d.paused = ?", truth(*f.Paused))
	}
	if len(f.Tags) > 0 {
		var tags where
		in(&tags, "g.tag", f.Tags)
		w.add("EXISTS (SELECT 1 FROM dag_tags g WHERE g.dag_pk = d.dag_pk AND "+tags.conds[0]+")", tags.args...)
	}
	order, err := orderBy(f.OrderBy, map[string]string{
		"dag_id": "d.dag_id", "dag_display_name": "d.dag_id", "next_dagrun": "d.next_run_after",
		"next_dagrun_create_after": "d.next_run_after", "last_parsed_time": "d.last_parsed",
		"last_run_start_date": "(SELECT max(l.start_date) FROM runs l WHERE l.dag_pk = d.dag_pk)",
		"last_run_run_after":  "(SELECT max(l.run_after) FROM runs l WHERE l.dag_pk = d.dag_pk)",
	}, "d.dag_id")
	if err != nil {
		return nil, 0, fmt.Errorf("list DAGs: %w", err)
	}
	var ls []dagListing
	total, err := db.list(ctx, dagColumns, fromDAGs, w, order, f.Limit, f.Offset, func(row scanner) error {
		var l dagListing
		var next [4]*time.Time
		err := row.Scan(l.dest(&next)...)
		l.setNext(next)
		ls = append(ls, l)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list DAGs: %w", err)
	}
	infos := make([]DAGInfo, len(ls))
	for i, l := range ls {
		if l.info.DAG, err = db.dagBody(ctx, l.version); err != nil {
			return nil, 0, fmt.Errorf("list DAGs: %s: %w", l.id, err)
		}
		infos[i] = l.info
	}
	return infos, total, nil
}

// DAG returns one DAG, also one whose file is gone.
func (db *DB) DAG(ctx context.Context, dagID string) (DAGInfo, error) {
	var l dagListing
	var next [4]*time.Time
	err := db.get(ctx, getDAG, []any{dagID}, l.dest(&next)...)
	if err == nil {
		l.setNext(next)
		l.info.DAG, err = db.dagBody(ctx, l.version)
	}
	if err != nil {
		return DAGInfo{}, fmt.Errorf("DAG %s: %w", dagID, err)
	}
	return l.info, nil
}

// EventLog lists events that match, newest first unless OldestFirst, and counts all that match.
func (db *DB) EventLog(ctx context.Context, f EventFilter) ([]Event, int, error) {
	var w where
	dagID := f.DAGID
	if dagID != "" && dagID != "~" && f.RunID != "" && f.RunID != "~" {
		w.add("e.run_pk = "+runKeyOf, dagID, f.RunID)
	} else {
		w.equal("e.run_id = ?", f.RunID)
		w.equal("e.dag_id = ?", dagID)
	}
	w.equal("e.task_id = ?", f.TaskID)
	w.equal("e.actor = ?", f.Actor)
	in(&w, "e.kind", f.Kinds)
	if f.MapIndex != nil {
		w.add("e.map_index = ?", *f.MapIndex)
	}
	if f.After > 0 {
		w.add("e.seq > ?", f.After)
	}
	order := " ORDER BY e.seq DESC"
	if f.OldestFirst {
		order = " ORDER BY e.seq"
	}
	var es []Event
	total, err := db.list(ctx, eventColumns, " FROM events e", w, order, f.Limit, f.Offset, func(row scanner) error {
		e, err := scanEvent(row)
		es = append(es, e)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events: %w", err)
	}
	return es, total, nil
}
