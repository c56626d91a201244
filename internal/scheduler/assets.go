package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// assetBoard is what is known of assets: which there are, and what has been updated since each DAG's last run by assets.
type assetBoard struct {
	known   map[dag.AssetKey]bool
	aliases map[string]map[dag.AssetKey]bool
	queued  map[string]map[dag.AssetKey]time.Time // by DAG
	// consumers are the DAGs that assets schedule, in order.
	consumers []string
	// dirty: a DAG with something in its queue may be ready for a run.
	dirty bool
}

func (s *Scheduler) loadAssets(ctx context.Context, st *state) error {
	stored, err := s.store.AssetState(ctx)
	if err != nil {
		return fmt.Errorf("read assets: %w", err)
	}
	a := assetBoard{known: map[dag.AssetKey]bool{}, aliases: map[string]map[dag.AssetKey]bool{},
		queued: map[string]map[dag.AssetKey]time.Time{}, dirty: true}
	for _, k := range stored.Known {
		a.known[k] = true
	}
	for name, keys := range stored.Aliases {
		for _, k := range keys {
			a.link(name, k)
		}
	}
	for _, q := range stored.Queued {
		a.queue(q.DAGID, q.Key, q.At)
	}
	for id, d := range st.dags {
		if d.info.DAG.Schedule.Assets != nil && !d.info.Removed {
			a.consumers = append(a.consumers, id)
		}
	}
	slices.Sort(a.consumers)
	st.assets = a
	return nil
}

func (a *assetBoard) link(alias string, k dag.AssetKey) {
	if a.aliases[alias] == nil {
		a.aliases[alias] = map[dag.AssetKey]bool{}
	}
	a.aliases[alias][k] = true
}

// queue reports whether the asset was not in the DAG's queue before.
func (a *assetBoard) queue(dagID string, k dag.AssetKey, at time.Time) bool {
	if a.queued[dagID] == nil {
		a.queued[dagID] = map[dag.AssetKey]time.Time{}
	}
	if _, there := a.queued[dagID][k]; there {
		return false
	}
	a.queued[dagID][k] = at
	return true
}

// updated says whether an asset, or one that an alias has led to, is in a DAG's queue.
func (a *assetBoard) updated(dagID string) func(dag.AssetRef) bool {
	return func(ref dag.AssetRef) bool {
		for k := range a.queued[dagID] {
			if ref.Matches(k) || (ref.Alias && a.aliases[ref.Name][k]) {
				return true
			}
		}
		return false
	}
}

// outletEvent is an asset event as a task reports it.
type outletEvent struct {
	Name       string          `json:"name"`
	URI        string          `json:"uri"`
	Group      string          `json:"group"`
	AssetExtra json.RawMessage `json:"asset_extra"`
	Extra      json.RawMessage `json:"extra"`
	Alias      string          `json:"alias"`
}

// outletEvents folds the asset events of a task that has succeeded.
func (s *Scheduler) outletEvents(b *batch, source run.Key, raw json.RawMessage) {
	var reported []outletEvent
	if err := json.Unmarshal(raw, &reported); err != nil {
		s.log.Error("the asset events of a task cannot be read", "dag", source.DAGID, "run", source.RunID, "task", source.TaskID, "error", err)
		return
	}
	var events []store.AssetEvent
	for _, o := range reported {
		k, ok := s.st.assets.resolve(dag.AssetRef{Name: o.Name, URI: o.URI})
		if !ok {
			s.log.Warn("a task names an outlet that no DAG declares; it makes no event", "dag", source.DAGID, "task", source.TaskID,
				"name", o.Name, "uri", o.URI)
			continue
		}
		e := store.AssetEvent{Key: k, Group: o.Group, AssetExtra: o.AssetExtra, Extra: o.Extra, Source: source}
		if o.Alias != "" {
			e.Aliases = []string{o.Alias}
			if i := slices.IndexFunc(events, func(have store.AssetEvent) bool {
				return have.Key == k && len(have.Aliases) > 0 && string(have.Extra) == string(e.Extra)
			}); i >= 0 { // one update by several aliases is one event
				if !slices.Contains(events[i].Aliases, o.Alias) {
					events[i].Aliases = append(events[i].Aliases, o.Alias)
				}
				continue
			}
		}
		events = append(events, e)
	}
	for i := range events {
		s.addAssetEvent(b, &events[i])
	}
}

// resolve finds the asset a reference means; a complete one means itself.
func (a *assetBoard) resolve(ref dag.AssetRef) (dag.AssetKey, bool) {
	if k, ok := ref.Key(); ok {
		return k, true
	}
	var found []dag.AssetKey
	for k := range a.known {
		if ref.Matches(k) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		return dag.AssetKey{}, false
	}
	return slices.MinFunc(found, func(x, y dag.AssetKey) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.URI, y.URI))
	}), true
}

// addAssetEvent stores an update with the batch and queues it for the DAGs that it schedules. A paused DAG queues nothing;
// the events are still its own to consume once one that comes later brings about a run, as in Airflow.
func (s *Scheduler) addAssetEvent(b *batch, e *store.AssetEvent) {
	st := s.st
	st.assets.known[e.Key] = true
	for _, alias := range e.Aliases {
		st.assets.link(alias, e.Key)
	}
	b.assets = append(b.assets, func(tx *store.Tx) error { return tx.AddAssetEvent(e) })
	for _, id := range st.assets.consumers {
		d := st.dags[id]
		if d == nil || d.info.Paused || !listens(d.info.DAG.Schedule.Assets, e) {
			continue
		}
		st.assets.dirty = true
		if k := e.Key; st.assets.queue(id, k, b.now) {
			b.assets = append(b.assets, func(tx *store.Tx) error { return tx.QueueAsset(id, k) })
		}
	}
}

// listens says whether an event is of an asset that an expression names, or came by an alias that it names.
func listens(x *dag.AssetExpr, e *store.AssetEvent) bool {
	for ref := range x.Refs() {
		if ref.Matches(e.Key) || (ref.Alias && slices.Contains(e.Aliases, ref.Name)) {
			return true
		}
	}
	return false
}

// createByAssets creates the runs of DAGs whose assets have been updated. It says whether it created any.
func (s *Scheduler) createByAssets(b *batch) bool {
	board := &s.st.assets
	if !board.dirty || s.held {
		return false
	}
	board.dirty = false
	created := false
	for _, id := range slices.Sorted(maps.Keys(board.queued)) {
		d := s.st.dags[id]
		if len(board.queued[id]) == 0 || d == nil || !d.automatic() || !d.info.DAG.Schedule.Assets.Satisfied(board.updated(id)) {
			continue
		}
		if s.st.active[id] >= d.maxActiveRuns(s.cfg.Limits) {
			continue // recount looks again when a run ends; until then events gather
		}
		if err := s.createAssetRun(b, d); err != nil {
			s.log.Error("a run by asset events could not be created", "dag", id, "error", err)
			continue
		}
		created = true
	}
	return created
}

// createAssetRun creates the run that consumes all a DAG has in its queue, in the same commit.
func (s *Scheduler) createAssetRun(b *batch, d *dagState) error {
	id, expr := d.info.DAG.ID, d.info.DAG.Schedule.Assets
	var newest time.Time
	for _, at := range s.st.assets.queued[id] {
		if at.After(newest) {
			newest = at
		}
	}
	row := run.DAGRun{DAGID: id, Type: run.TypeAssetTriggered, RunAfter: newest, TriggeredBy: actorScheduler}
	row.RunID = runID(row)
	if err := s.createRun(b, d, row); err != nil {
		return err
	}
	delete(s.st.assets.queued, id)
	lr := s.st.runs[runKey(row)]
	b.change(lr).consume = expr
	return nil
}

// wireAssetEvent is an asset event as a task sees it.
type wireAssetEvent struct {
	ID             int64           `json:"id"`
	Asset          wireAsset       `json:"asset"`
	Extra          json.RawMessage `json:"extra"`
	SourceDAGID    *string         `json:"source_dag_id"`
	SourceTaskID   *string         `json:"source_task_id"`
	SourceRunID    *string         `json:"source_run_id"`
	SourceMapIndex int             `json:"source_map_index"`
	SourceAliases  []wireAlias     `json:"source_aliases"`
	Timestamp      time.Time       `json:"timestamp"`
}

type wireAsset struct {
	Name  string          `json:"name"`
	URI   string          `json:"uri"`
	Group string          `json:"group"`
	Extra json.RawMessage `json:"extra"`
}

type wireAlias struct {
	Name string `json:"name"`
}

// WireAssetEvents encodes asset events for tasks.
func WireAssetEvents(events []store.AssetEvent) (json.RawMessage, error) {
	out := make([]wireAssetEvent, 0, len(events))
	for _, e := range events {
		w := wireAssetEvent{ID: e.ID, Asset: wireAsset{e.Key.Name, e.Key.URI, e.Group, e.AssetExtra}, Extra: e.Extra,
			SourceMapIndex: e.Source.MapIndex, SourceAliases: []wireAlias{}, Timestamp: e.At}
		if e.Source.DAGID != "" {
			w.SourceDAGID, w.SourceTaskID, w.SourceRunID = &e.Source.DAGID, &e.Source.TaskID, &e.Source.RunID
		}
		for _, name := range e.Aliases {
			w.SourceAliases = append(w.SourceAliases, wireAlias{name})
		}
		out = append(out, w)
	}
	return json.Marshal(out)
}

// fillAssetEvents gives an order of a run by assets the events the run has consumed. They are read after the commit that
// stored them, once a run.
func (s *Scheduler) fillAssetEvents(ctx context.Context, a *openAttempt) error {
	r := &a.order.Startup.Context.DagRun
	if r.RunType != string(run.TypeAssetTriggered) || r.ConsumedAssetEvent != nil {
		return nil
	}
	lr := s.st.runs[keyOf(a.row.Key)]
	if lr != nil && lr.consumed != nil {
		r.ConsumedAssetEvent = lr.consumed
		return nil
	}
	events, err := s.store.ConsumedAssetEvents(ctx, a.row.DAGID, a.row.RunID)
	if err != nil {
		return err
	}
	if r.ConsumedAssetEvent, err = WireAssetEvents(events); err != nil {
		return err
	}
	if lr != nil {
		lr.consumed = r.ConsumedAssetEvent
	}
	return nil
}

// AddAssetEvent stores an update of an asset that came from outside and returns it. ErrNotFound when there is no such asset.
func (s *Scheduler) AddAssetEvent(ctx context.Context, actor string, k dag.AssetKey, extra json.RawMessage) (store.AssetEvent, error) {
	var out store.AssetEvent
	err := s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		if !s.st.assets.known[k] {
			return fmt.Errorf("there is no asset %q (%s): %w", k.Name, k.URI, ErrNotFound)
		}
		e := &store.AssetEvent{Key: k, Extra: extra, Source: run.Key{MapIndex: -1}}
		s.addAssetEvent(b, e)
		b.after = append(b.after, func() { out = *e })
		return nil
	}})
	return answered(&out, err)
}

// UnqueueAssets takes what has been updated out of queues: of one DAG, one asset, or both, and only what was queued before
// a time, if one is given. ErrNotFound when there is nothing.
func (s *Scheduler) UnqueueAssets(ctx context.Context, actor, dagID string, asset *dag.AssetKey, before *time.Time) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		found := false
		for id, queue := range s.st.assets.queued {
			if dagID != "" && id != dagID {
				continue
			}
			for k, at := range queue {
				if (asset != nil && k != *asset) || (before != nil && !at.Before(*before)) {
					continue
				}
				found = true
				delete(queue, k)
				b.assets = append(b.assets, func(tx *store.Tx) error { return tx.UnqueueAsset(id, k) })
			}
		}
		if !found {
			return fmt.Errorf("nothing is queued: %w", ErrNotFound)
		}
		return nil
	}})
}

// Materialize triggers the one DAG that has an asset among its outlets. ErrNotFound when there is none, ErrConflict when
// there are several.
func (s *Scheduler) Materialize(ctx context.Context, actor string, k dag.AssetKey, r TriggerRequest) (run.DAGRun, error) {
	producer := ""
	err := s.call(ctx, message{actor: actor, read: true, fold: func(*batch) error {
		var ids []string
		for id, d := range s.st.dags {
			if !d.info.Removed && produces(d.info.DAG, k) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		switch len(ids) {
		case 0:
			return fmt.Errorf("no DAG has asset %q among its outlets: %w", k.Name, ErrNotFound)
		case 1:
			producer = ids[0]
			return nil
		}
		return fmt.Errorf("more than one DAG has asset %q among its outlets (%s, %s): trigger one of them: %w", k.Name, ids[0], ids[1], ErrConflict)
	}})
	if err != nil {
		return run.DAGRun{}, err
	}
	r.DAGID, r.Type = producer, run.TypeAssetMaterialization
	created, err := s.Trigger(ctx, actor, r)
	if errors.Is(err, ErrNotFound) {
		return created, fmt.Errorf("trigger the producer of %q: %w", k.Name, err)
	}
	return created, err
}

func produces(d *dag.DAG, k dag.AssetKey) bool {
	for i := range d.Tasks {
		for _, ref := range d.Tasks[i].Outlets {
			if own, ok := ref.Key(); ok && own == k {
				return true
			}
		}
	}
	return false
}
