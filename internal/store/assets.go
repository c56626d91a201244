package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// Asset is an asset as listed, with who names it.
type Asset struct {
	ID                 int64
	Key                dag.AssetKey
	Group              string
	Extra              json.RawMessage
	Created, Updated   time.Time
	Schedules          []AssetUse // DAGs that run when it is updated
	Producers, Readers []AssetUse // tasks with it in their outlets, inlets
	Aliases            []AssetAlias
	// LastEvent is 0 before the first.
	LastEvent   int64
	LastEventAt time.Time
}

// AssetUse is one DAG, or one task, that names an asset.
type AssetUse struct {
	DAGID, TaskID    string
	Created, Updated time.Time
}

// AssetAlias is a name that tasks resolve to assets while they run.
type AssetAlias struct {
	ID          int64
	Name, Group string
}

// AssetEvent is one update of an asset.
type AssetEvent struct {
	ID      int64
	AssetID int64
	Key     dag.AssetKey
	// Group and AssetExtra describe the asset; they are written only where the event is the first to name it.
	Group      string
	AssetExtra json.RawMessage
	Extra      json.RawMessage
	At         time.Time
	// Source is the task instance that did it; without a DAG id it came from outside.
	Source run.Key
	// Aliases are the names it came by.
	Aliases []string
	// Runs are the DAG runs that have consumed it.
	Runs []run.DAGRun
}

// QueuedAsset is an asset that was updated since a DAG's last run by assets.
type QueuedAsset struct {
	DAGID   string
	AssetID int64
	Key     dag.AssetKey
	At      time.Time
}

// AssetState is what a scheduler must know of assets beside the DAGs.
type AssetState struct {
	Known  []dag.AssetKey
	Queued []QueuedAsset
	// Aliases lists, by name, the assets that events have come to by way of an alias.
	Aliases map[string][]dag.AssetKey
}

type assetUse struct {
	kind, taskID string
	asset        int64
}

// noteAssets records the assets and aliases a DAG names, and since when it waits for events. unchanged: the DAG is as it
// was published before, and what does not name assets needs nothing.
func (tx *Tx) noteAssets(dagKey int64, d *dag.DAG, unchanged bool) error {
	uses, err := tx.namedAssets(d)
	if err != nil {
		return fmt.Errorf("record the assets of %s: %w", d.ID, err)
	}
	if unchanged && len(uses) == 0 && d.Schedule.Assets == nil {
		return nil
	}
	if err := tx.setAssetUses(dagKey, uses); err != nil {
		return fmt.Errorf("record the assets of %s: %w", d.ID, err)
	}
	if err := tx.setConsumer(dagKey, d); err != nil {
		return fmt.Errorf("record what schedules %s: %w", d.ID, err)
	}
	return nil
}

// setConsumer records that a DAG waits for events from now on; with catch-up also for those there are.
func (tx *Tx) setConsumer(dagKey int64, d *dag.DAG) error {
	if d.Schedule.Assets == nil {
		if _, err := tx.s.exec(deleteConsumer, dagKey); err != nil {
			return err
		}
		_, err := tx.s.exec(unqueueAssets, dagKey)
		return err
	}
	var consumed int64
	if !d.Catchup {
		if err := tx.s.get(newestAssetEvent, nil, &consumed); err != nil {
			return err
		}
	}
	_, err := tx.s.exec(putConsumer, dagKey, consumed)
	return err
}

func (tx *Tx) setAssetUses(dagKey int64, uses map[assetUse]bool) error {
	have := map[assetUse]bool{}
	err := tx.s.each(assetUsesOfDAG, []any{dagKey}, func(row scanner) error {
		var u assetUse
		err := row.Scan(&u.kind, &u.taskID, &u.asset)
		have[u] = true
		return err
	})
	if err != nil {
		return err
	}
	for u := range have {
		if uses[u] {
			continue
		}
		if _, err := tx.s.exec(deleteAssetUse, dagKey, u.kind, u.taskID, u.asset); err != nil {
			return err
		}
	}
	for u := range uses {
		if have[u] {
			continue
		}
		if _, err := tx.s.exec(putAssetUse, dagKey, u.kind, u.taskID, u.asset, micros(tx.Now), micros(tx.Now)); err != nil {
			return err
		}
	}
	return nil
}

// namedAssets records the assets and aliases a DAG names and returns where it does so. A reference by name or URI alone
// declares nothing.
func (tx *Tx) namedAssets(d *dag.DAG) (map[assetUse]bool, error) {
	uses := map[assetUse]bool{}
	note := func(kind, taskID string, ref dag.AssetRef) error {
		if ref.Alias {
			_, err := tx.aliasID(ref.Name, ref.Group)
			return err
		}
		k, ok := ref.Key()
		if !ok {
			return nil
		}
		id, err := tx.putAsset(k, ref.Group, ref.Extra)
		uses[assetUse{kind, taskID, id}] = true
		return err
	}
	for ref := range d.Schedule.Assets.Refs() {
		if err := note("schedule", "", ref); err != nil {
			return nil, err
		}
	}
	for i := range d.Tasks {
		t := &d.Tasks[i]
		for _, ref := range t.Inlets {
			if err := note("inlet", t.ID, ref); err != nil {
				return nil, err
			}
		}
		for _, ref := range t.Outlets {
			if err := note("outlet", t.ID, ref); err != nil {
				return nil, err
			}
		}
	}
	return uses, nil
}

func (tx *Tx) putAsset(k dag.AssetKey, group string, extra json.RawMessage) (id int64, err error) {
	if group == "" {
		group = "asset"
	}
	if _, err := tx.s.exec(putAsset, k.Name, k.URI, group, conf(extra), micros(tx.Now), micros(tx.Now)); err != nil {
		return 0, fmt.Errorf("put asset %s: %w", k.Name, err)
	}
	return id, tx.s.get(getAssetID, []any{k.Name, k.URI}, &id)
}

func (tx *Tx) aliasID(name, group string) (id int64, err error) {
	if group == "" {
		group = "asset"
	}
	if _, err := tx.s.exec(putAssetAlias, name, group); err != nil {
		return 0, fmt.Errorf("put asset alias %s: %w", name, err)
	}
	return id, tx.s.get(getAssetAliasID, []any{name}, &id)
}

// AddAssetEvent stores an update and sets its number, its asset's number and its time. An asset nobody has declared is
// created.
func (tx *Tx) AddAssetEvent(e *AssetEvent) error {
	fail := func(err error) error { return fmt.Errorf("store an event of asset %s: %w", e.Key.Name, err) }
	err := tx.s.get(getAssetID, []any{e.Key.Name, e.Key.URI}, &e.AssetID)
	if errors.Is(err, ErrNotFound) {
		e.AssetID, err = tx.putAsset(e.Key, e.Group, e.AssetExtra)
	}
	if err != nil {
		return fail(err)
	}
	e.At = tx.Now
	err = tx.s.get(insertAssetEvent, []any{e.AssetID, micros(tx.Now), conf(e.Extra), e.Source.DAGID, e.Source.RunID, e.Source.TaskID,
		e.Source.MapIndex}, &e.ID)
	if err != nil {
		return fail(err)
	}
	for _, name := range e.Aliases {
		alias, err := tx.aliasID(name, "")
		if err != nil {
			return fail(err)
		}
		if _, err := tx.s.exec(linkAssetAlias, alias, e.AssetID); err != nil {
			return fail(err)
		}
		if _, err := tx.s.exec(linkAssetEvent, alias, e.ID); err != nil {
			return fail(err)
		}
	}
	return tx.Emit(Event{Kind: "asset.updated", DAGID: e.Source.DAGID, RunID: e.Source.RunID, TaskID: e.Source.TaskID,
		MapIndex: e.Source.MapIndex, Detail: detail{"asset": e.Key.Name, "uri": e.Key.URI, "asset_event": e.ID}.json()})
}

// QueueAsset records that an asset has been updated since a DAG's last run by assets. Repeating it changes nothing.
func (tx *Tx) QueueAsset(dagID string, k dag.AssetKey) error {
	dagKey, asset, err := tx.queueKeys(dagID, k)
	if err == nil {
		_, err = tx.s.exec(queueAsset, dagKey, asset, micros(tx.Now))
	}
	if err != nil {
		return fmt.Errorf("queue asset %s for %s: %w", k.Name, dagID, err)
	}
	return nil
}

// UnqueueAsset takes that back.
func (tx *Tx) UnqueueAsset(dagID string, k dag.AssetKey) error {
	dagKey, asset, err := tx.queueKeys(dagID, k)
	if err == nil {
		_, err = tx.s.exec(unqueueAsset, dagKey, asset)
	}
	if err != nil {
		return fmt.Errorf("take asset %s out of the queue of %s: %w", k.Name, dagID, err)
	}
	return tx.Emit(Event{Kind: "asset.unqueued", DAGID: dagID, MapIndex: -1, Detail: detail{"asset": k.Name, "uri": k.URI}.json()})
}

func (tx *Tx) queueKeys(dagID string, k dag.AssetKey) (dagKey, asset int64, err error) {
	row, err := tx.dagRow(dagID)
	if err != nil {
		return 0, 0, err
	}
	err = tx.s.get(getAssetID, []any{k.Name, k.URI}, &asset)
	return row.pk, asset, err
}

// ConsumeAssets gives a new run of a DAG every event of the assets that schedule it, which no run of it has consumed, and
// empties the DAG's queue.
func (tx *Tx) ConsumeAssets(dagID, runID string, expr *dag.AssetExpr) error {
	fail := func(err error) error { return fmt.Errorf("give DAG run %s/%s its asset events: %w", dagID, runID, err) }
	row, err := tx.dagRow(dagID)
	if err != nil {
		return fail(err)
	}
	pk, err := tx.s.runKey(dagID, runID)
	if err != nil {
		return fail(err)
	}
	for ref := range expr.Refs() {
		st, args := consumeAsset, []any{pk, ref.Name, ref.URI, row.pk}
		switch {
		case ref.Alias:
			st, args = consumeAlias, []any{pk, ref.Name, row.pk}
		case ref.URI == "":
			st, args = consumeAssetByName, []any{pk, ref.Name, row.pk}
		case ref.Name == "":
			st, args = consumeAssetByURI, []any{pk, ref.URI, row.pk}
		}
		if _, err := tx.s.exec(st, args...); err != nil {
			return fail(err)
		}
	}
	var newest int64
	if err := tx.s.get(newestAssetEvent, nil, &newest); err != nil {
		return fail(err)
	}
	if _, err := tx.s.exec(moveConsumer, newest, row.pk); err != nil {
		return fail(err)
	}
	if _, err := tx.s.exec(unqueueAssets, row.pk); err != nil {
		return fail(err)
	}
	return nil
}

// AssetState returns what a scheduler rebuilds from.
func (db *DB) AssetState(ctx context.Context) (AssetState, error) {
	st := AssetState{Aliases: map[string][]dag.AssetKey{}}
	err := db.each(ctx, assetKeys, nil, func(row scanner) error {
		var k dag.AssetKey
		err := row.Scan(&k.Name, &k.URI)
		st.Known = append(st.Known, k)
		return err
	})
	if err != nil {
		return st, fmt.Errorf("read the known assets: %w", err)
	}
	err = db.each(ctx, assetAliasLinks, nil, func(row scanner) error {
		var name string
		var k dag.AssetKey
		err := row.Scan(&name, &k.Name, &k.URI)
		st.Aliases[name] = append(st.Aliases[name], k)
		return err
	})
	if err != nil {
		return st, fmt.Errorf("read the asset aliases: %w", err)
	}
	st.Queued, err = db.QueuedAssets(ctx)
	return st, err
}

// QueuedAssets lists, by DAG, what has been updated since its last run by assets.
func (db *DB) QueuedAssets(ctx context.Context) ([]QueuedAsset, error) {
	var out []QueuedAsset
	err := db.each(ctx, queuedAssets, nil, func(row scanner) error {
		var q QueuedAsset
		err := row.Scan(&q.DAGID, &q.AssetID, &q.Key.Name, &q.Key.URI, timeIn{&q.At})
		out = append(out, q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the queued assets: %w", err)
	}
	return out, nil
}
