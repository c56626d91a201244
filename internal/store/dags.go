package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"ostro.dev/ostro/internal/core/dag"
)

// dagRow is what writes need to know of a DAG.
type dagRow struct {
	pk                    int64
	paused, removed       bool
	version               int
	bundle, bundleVersion string
}

func (tx *Tx) dagRow(dagID string) (dagRow, error) {
	var d dagRow
	err := tx.s.get(getDAGKey, []any{dagID}, &d.pk, &d.paused, &d.removed, &d.version, &d.bundle, &d.bundleVersion)
	if err != nil {
		return dagRow{}, fmt.Errorf("DAG %s: %w", dagID, err)
	}
	return d, nil
}

// PutDAG publishes a DAG: a new version when the canonical hash differs from the newest's, else only the bundle version
// moves. The first publication sets paused from the DAG or else from pausedDefault.
func (tx *Tx) PutDAG(d *dag.DAG, bundle, bundleVersion string, pausedDefault bool) (version int, created bool, err error) {
	fail := func(err error) (int, bool, error) { return 0, false, fmt.Errorf("publish DAG %s: %w", d.ID, err) }
	body, err := json.Marshal(d)
	if err != nil {
		return fail(err)
	}
	hash := dag.Hash(d)
	row, err := tx.dagRow(d.ID)
	if ignoreNotFound(err) != nil {
		return fail(err)
	}
	fresh := err != nil
	if fresh {
		paused := pausedDefault
		if d.PausedUponCreation != nil {
			paused = *d.PausedUponCreation
		}
		if err := tx.s.get(insertDAG, []any{d.ID, truth(paused), bundle, bundleVersion, d.File, micros(tx.Now)}, &row.pk); err != nil {
			return fail(err)
		}
	} else {
		var newest string
		if err := tx.s.get(getNewestHash, []any{row.pk, row.version}, &newest); err != nil {
			return fail(err)
		}
		if newest == hash {
			if err := tx.moveDAG(d, row, bundle, bundleVersion); err != nil {
				return 0, false, err
			}
			return row.version, false, tx.noteAssets(row.pk, d, true)
		}
	}
	version = row.version + 1
	if _, err := tx.s.exec(updateDAG, version, bundle, bundleVersion, d.File, micros(tx.Now), row.pk); err != nil {
		return fail(err)
	}
	if _, err := tx.s.exec(insertDAGVersion, row.pk, version, hash, bundle, bundleVersion, micros(tx.Now), body); err != nil {
		return fail(err)
	}
	if err := tx.setTags(row.pk, d.Tags); err != nil {
		return fail(err)
	}
	if err := tx.noteAssets(row.pk, d, false); err != nil {
		return fail(err)
	}
	return version, true, tx.Emit(Event{Kind: "dag.published", DAGID: d.ID, MapIndex: -1,
		Detail: detail{"version": version, "hash": hash, "bundle": bundle, "bundle_version": bundleVersion}.json()})
}

// moveDAG records that an unchanged DAG now comes from another version of its bundle, or is back.
func (tx *Tx) moveDAG(d *dag.DAG, row dagRow, bundle, bundleVersion string) error {
	if _, err := tx.s.exec(updateDAG, row.version, bundle, bundleVersion, d.File, micros(tx.Now), row.pk); err != nil {
		return fmt.Errorf("publish DAG %s: %w", d.ID, err)
	}
	moved := row.bundle != bundle || row.bundleVersion != bundleVersion
	if moved {
		if _, err := tx.s.exec(moveDAGVersion, bundle, bundleVersion, row.pk, row.version); err != nil {
			return fmt.Errorf("publish DAG %s: %w", d.ID, err)
		}
	}
	if !moved && !row.removed {
		return nil
	}
	kind := "dag.moved"
	if row.removed {
		kind = "dag.restored"
	}
	return tx.Emit(Event{Kind: kind, DAGID: d.ID, MapIndex: -1,
		Detail: detail{"version": row.version, "bundle": bundle, "bundle_version": bundleVersion}.json()})
}

func (tx *Tx) setTags(pk int64, tags []string) error {
	if _, err := tx.s.exec(deleteTags, pk); err != nil {
		return err
	}
	for _, tag := range tags {
		if _, err := tx.s.exec(insertTag, pk, tag); err != nil {
			return err
		}
	}
	return nil
}

// RemoveDAG marks a DAG whose file is gone; its history stays. Repeating it changes nothing.
func (tx *Tx) RemoveDAG(dagID string) error {
	return tx.switchDAG(removeDAG, "dag.removed", dagID, dagID)
}

// SetPaused pauses or unpauses. Repeating it changes nothing.
func (tx *Tx) SetPaused(dagID string, paused bool) error {
	row, err := tx.dagRow(dagID)
	if err != nil {
		return err
	}
	if row.paused == paused {
		return nil
	}
	kind := "dag.unpaused"
	if paused {
		kind = "dag.paused"
	}
	return tx.switchDAG(setPaused, kind, dagID, truth(paused), dagID)
}

func (tx *Tx) switchDAG(id statement, kind, dagID string, args ...any) error {
	if _, err := tx.dagRow(dagID); err != nil {
		return err
	}
	n, err := tx.s.exec(id, args...)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, dagID, err)
	}
	if n == 0 {
		return nil
	}
	return tx.Emit(Event{Kind: kind, DAGID: dagID, MapIndex: -1})
}

// DeleteDAG deletes a DAG with its versions and all its history except the events. ErrConflict while a run is live.
func (tx *Tx) DeleteDAG(dagID string) error {
	row, err := tx.dagRow(dagID)
	if err != nil {
		return err
	}
	var live int
	if err := tx.s.get(countLiveRuns, []any{row.pk}, &live); err != nil {
		return fmt.Errorf("delete DAG %s: %w", dagID, err)
	}
	if live > 0 {
		return fmt.Errorf("delete DAG %s: %d of its runs are not finished: %w", dagID, live, ErrConflict)
	}
	if _, err := tx.s.exec(deleteDAG, row.pk); err != nil {
		return fmt.Errorf("delete DAG %s: %w", dagID, err)
	}
	tx.s.forget()
	tx.deleted = true
	tx.db.dags.clear()
	return tx.Emit(Event{Kind: "dag.deleted", DAGID: dagID, MapIndex: -1})
}

// SetNextRun records the next slot shown to people and the last automatic slot already created. It is no event: it
// follows from the run that was created.
func (tx *Tx) SetNextRun(dagID string, s ScheduleState) error {
	args := []any{optMicros(s.LastSlot), nil, nil, nil, nil, dagID}
	if n := s.NextRun; n != nil {
		args = []any{optMicros(s.LastSlot), micros(n.LogicalDate), micros(n.IntervalStart), micros(n.IntervalEnd),
			micros(n.RunAfter), dagID}
	}
	n, err := tx.s.exec(setNextRun, args...)
	if err != nil {
		return fmt.Errorf("set the next run of %s: %w", dagID, err)
	}
	if n == 0 {
		return fmt.Errorf("DAG %s: %w", dagID, ErrNotFound)
	}
	return nil
}

// DAGVersion returns one version; number 0 is the newest. The DAG is shared: it must not be changed.
func (db *DB) DAGVersion(ctx context.Context, dagID string, number int) (*dag.DAG, DAGVersionInfo, error) {
	var v DAGVersionInfo
	var pk int64
	err := db.get(ctx, getDAGVersion, []any{dagID, number, number}, &pk, &v.Number, &v.Hash, &v.Bundle, &v.BundleVersion,
		timeIn{&v.CreatedAt})
	if err != nil {
		return nil, DAGVersionInfo{}, fmt.Errorf("DAG %s version %d: %w", dagID, number, err)
	}
	d, err := db.dagBody(ctx, pk)
	if err != nil {
		return nil, DAGVersionInfo{}, fmt.Errorf("DAG %s version %d: %w", dagID, number, err)
	}
	return d, v, nil
}

// DAGVersions lists all versions of a DAG, newest first.
func (db *DB) DAGVersions(ctx context.Context, dagID string) ([]DAGVersionInfo, error) {
	var vs []DAGVersionInfo
	err := db.each(ctx, dagVersions, []any{dagID}, func(row scanner) error {
		var v DAGVersionInfo
		err := row.Scan(&v.Number, &v.Hash, &v.Bundle, &v.BundleVersion, timeIn{&v.CreatedAt})
		vs = append(vs, v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the versions of %s: %w", dagID, err)
	}
	return vs, nil
}

// dagCache holds decoded DAG versions, which never change. It forgets everything when it is full, and when a DAG is
// deleted: a key may then be given to another version. What was read before that must not come in after it.
type dagCache struct {
	mu    sync.Mutex
	dags  map[int64]*dag.DAG
	clean uint64 // how often it was cleared
}

const maxCachedDAGs = 2000

// get returns what is kept for a key, and the time for put.
func (c *dagCache) get(pk int64) (*dag.DAG, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dags[pk], c.clean
}

// put keeps a version that was read at a time.
func (c *dagCache) put(pk int64, d *dag.DAG, at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at != c.clean {
		return
	}
	if c.dags == nil || len(c.dags) >= maxCachedDAGs {
		c.dags = map[int64]*dag.DAG{}
	}
	c.dags[pk] = d
}

func (c *dagCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dags, c.clean = nil, c.clean+1
}

func (db *DB) dagBody(ctx context.Context, pk int64) (*dag.DAG, error) {
	kept, at := db.dags.get(pk)
	if kept != nil {
		return kept, nil
	}
	var body []byte
	if err := db.get(ctx, getDAGBody, []any{pk}, &body); err != nil {
		return nil, err
	}
	d := new(dag.DAG)
	if err := json.Unmarshal(body, d); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	db.dags.put(pk, d, at)
	return d, nil
}
