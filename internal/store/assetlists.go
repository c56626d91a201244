package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// AssetFilter selects assets.
type AssetFilter struct {
	Name, URI               string // exactly
	NamePattern, URIPattern string // SQL LIKE
	DAGIDs                  []string
	// OnlyActive leaves out assets that no DAG names any more and no alias has led to.
	OnlyActive    bool
	OrderBy       []string // "id", "name", "uri", "created_at", "updated_at"
	Limit, Offset int
}

// AssetEventFilter selects asset events.
type AssetEventFilter struct {
	AssetID       int64
	Name, URI     string
	Alias         string
	NamePattern   string
	DAGID, RunID  string
	TaskID        string
	MapIndex      *int
	From, To      *time.Time // inclusive
	OrderBy       []string   // "timestamp", "source_task_id", …
	Limit, Offset int
}

// Assets lists assets and counts all that match.
func (db *DB) Assets(ctx context.Context, f AssetFilter) ([]Asset, int, error) {
	var w where
	w.equal("s.name = ?", f.Name)
	w.equal("s.uri = ?", f.URI)
	w.equal("lower(s.name) LIKE lower(?)", f.NamePattern)
	w.equal("lower(s.uri) LIKE lower(?)", f.URIPattern)
	if len(f.DAGIDs) > 0 {
		var dags where
		in(&dags, "d.dag_id", f.DAGIDs)
		w.add(`s.asset_id IN (SELECT u.asset_id FROM asset_uses u JOIN dags d ON d.dag_pk = u.dag_pk`+dags.text()+`)`, dags.args...)
	}
	if f.OnlyActive {
		w.add(`(EXISTS (SELECT 1 FROM asset_uses u JOIN dags d ON d.dag_pk = u.dag_pk WHERE u.asset_id = s.asset_id AND d.removed = 0)
			OR EXISTS (SELECT 1 FROM asset_alias_assets x WHERE x.asset_id = s.asset_id))`)
	}
	order, err := orderBy(f.OrderBy, map[string]string{"id": "s.asset_id", "name": "s.name", "uri": "s.uri",
		"created_at": "s.created_at", "updated_at": "s.updated_at"}, "s.asset_id")
	if err != nil {
		return nil, 0, fmt.Errorf("list assets: %w", err)
	}
	var out []Asset
	total, err := db.list(ctx, assetColumns, ` FROM assets s`, w, order, f.Limit, f.Offset, func(row scanner) error {
		a, err := scanAsset(row)
		out = append(out, a)
		return err
	})
	for i := range out {
		err = errors.Join(err, db.completeAsset(ctx, &out[i]))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list assets: %w", err)
	}
	return out, total, nil
}

// Asset returns one asset by its number.
func (db *DB) Asset(ctx context.Context, id int64) (Asset, error) {
	var a Asset
	err := db.get(ctx, getAsset, []any{id}, assetDest(&a)...)
	if err == nil {
		err = db.completeAsset(ctx, &a)
	}
	if err != nil {
		return Asset{}, fmt.Errorf("asset %d: %w", id, err)
	}
	return a, nil
}

func assetDest(a *Asset) []any {
	return []any{&a.ID, &a.Key.Name, &a.Key.URI, &a.Group, jsonIn{&a.Extra}, timeIn{&a.Created}, timeIn{&a.Updated}}
}

func scanAsset(row scanner) (Asset, error) {
	var a Asset
	err := row.Scan(assetDest(&a)...)
	return a, err
}

// completeAsset reads what belongs to an asset.
func (db *DB) completeAsset(ctx context.Context, a *Asset) error {
	err := db.each(ctx, usesOfAsset, []any{a.ID}, func(row scanner) error {
		var u AssetUse
		var kind string
		err := row.Scan(&kind, &u.DAGID, &u.TaskID, timeIn{&u.Created}, timeIn{&u.Updated})
		switch kind {
		case "schedule":
			a.Schedules = append(a.Schedules, u)
		case "outlet":
			a.Producers = append(a.Producers, u)
		default:
			a.Readers = append(a.Readers, u)
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.Aliases, err = all(ctx, db.database, aliasesOfAsset, []any{a.ID}, scanAlias); err != nil {
		return err
	}
	return ignoreNotFound(db.get(ctx, lastEventOfAsset, []any{a.ID}, &a.LastEvent, timeIn{&a.LastEventAt}))
}

func scanAlias(row scanner) (AssetAlias, error) {
	var l AssetAlias
	err := row.Scan(&l.ID, &l.Name, &l.Group)
	return l, err
}

// AssetAliases lists aliases and counts all that match.
func (db *DB) AssetAliases(ctx context.Context, namePattern string, order []string, limit, offset int) ([]AssetAlias, int, error) {
	var w where
	w.equal("lower(l.name) LIKE lower(?)", namePattern)
	by, err := orderBy(order, map[string]string{"id": "l.alias_id", "name": "l.name"}, "l.alias_id")
	if err != nil {
		return nil, 0, fmt.Errorf("list asset aliases: %w", err)
	}
	var out []AssetAlias
	total, err := db.list(ctx, `l.alias_id, l.name, l.asset_group`, ` FROM asset_aliases l`, w, by, limit, offset, func(row scanner) error {
		l, err := scanAlias(row)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list asset aliases: %w", err)
	}
	return out, total, nil
}

// AssetAlias returns one alias by its number.
func (db *DB) AssetAlias(ctx context.Context, id int64) (AssetAlias, error) {
	var l AssetAlias
	if err := db.get(ctx, getAssetAlias, []any{id}, &l.ID, &l.Name, &l.Group); err != nil {
		return AssetAlias{}, fmt.Errorf("asset alias %d: %w", id, err)
	}
	return l, nil
}

// AssetEvents lists asset events with their aliases and the runs that consumed them, oldest first unless OrderBy says
// otherwise, and counts all that match.
func (db *DB) AssetEvents(ctx context.Context, f AssetEventFilter) ([]AssetEvent, int, error) {
	var w where
	if f.AssetID != 0 {
		w.add("v.asset_id = ?", f.AssetID)
	}
	w.equal("s.name = ?", f.Name)
	w.equal("s.uri = ?", f.URI)
	w.equal("lower(s.name) LIKE lower(?)", f.NamePattern)
	w.equal(`v.asset_event_id IN (SELECT x.asset_event_id FROM asset_event_aliases x JOIN asset_aliases l
		ON l.alias_id = x.alias_id WHERE l.name = ?)`, f.Alias)
	w.equal("v.dag_id = ?", f.DAGID)
	w.equal("v.run_id = ?", f.RunID)
	w.equal("v.task_id = ?", f.TaskID)
	if f.MapIndex != nil {
		w.add("v.map_index = ?", *f.MapIndex)
	}
	between(&w, "v.at", f.From, f.To)
	order, err := orderBy(f.OrderBy, map[string]string{"id": "v.asset_event_id", "timestamp": "v.at", "source_dag_id": "v.dag_id",
		"source_run_id": "v.run_id", "source_task_id": "v.task_id", "source_map_index": "v.map_index"}, "v.asset_event_id")
	if err != nil {
		return nil, 0, fmt.Errorf("list asset events: %w", err)
	}
	var out []AssetEvent
	total, err := db.list(ctx, assetEventColumns, fromAssetEvents, w, order, f.Limit, f.Offset, func(row scanner) error {
		e, err := scanAssetEvent(row)
		out = append(out, e)
		return err
	})
	if err == nil {
		err = db.completeEvents(ctx, out)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list asset events: %w", err)
	}
	return out, total, nil
}

// ConsumedAssetEvents lists the events a DAG run has consumed, oldest first.
func (db *DB) ConsumedAssetEvents(ctx context.Context, dagID, runID string) ([]AssetEvent, error) {
	out, err := all(ctx, db.database, eventsOfRun, []any{dagID, runID}, scanAssetEvent)
	if err == nil {
		err = db.completeEvents(ctx, out)
	}
	if err != nil {
		return nil, fmt.Errorf("read the asset events of DAG run %s/%s: %w", dagID, runID, err)
	}
	return out, nil
}

func scanAssetEvent(row scanner) (AssetEvent, error) {
	var e AssetEvent
	err := row.Scan(&e.ID, &e.AssetID, &e.Key.Name, &e.Key.URI, &e.Group, jsonIn{&e.AssetExtra}, timeIn{&e.At}, jsonIn{&e.Extra},
		&e.Source.DAGID, &e.Source.RunID, &e.Source.TaskID, &e.Source.MapIndex)
	return e, err
}

func (db *DB) completeEvents(ctx context.Context, es []AssetEvent) error {
	for i := range es {
		e := &es[i]
		var err error
		if e.Aliases, err = all(ctx, db.database, aliasesOfEvent, []any{e.ID}, scanText); err != nil {
			return err
		}
		if e.Runs, err = all(ctx, db.database, runsOfEvent, []any{e.ID}, scanRun); err != nil {
			return err
		}
	}
	return nil
}
