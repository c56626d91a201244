package v2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

func put(path string, h func(*request) error) Route {
	return Route{Method: "PUT", Path: path, handle: h}
}

func (a *API) assetRoutes() []Route {
	const ofAsset, ofDAG, ofBoth = "/assets/{asset_id}/queuedEvents", "/dags/{dag_id}/assets/queuedEvents", "/dags/{dag_id}/assets/{asset_id}/queuedEvents"
	return []Route{
		get("/assets", a.listAssets),
		get("/assets/aliases", a.listAliases),
		get("/assets/aliases/{asset_alias_id}", a.getAlias),
		get("/assets/events", a.listAssetEvents),
		post("/assets/events", a.createAssetEvent),
		get("/assets/{asset_id}", a.getAsset),
		post("/assets/{asset_id}/materialize", a.materialize),
		get(ofAsset, a.listQueued), get(ofDAG, a.listQueued), get(ofBoth, a.getQueued),
		del(ofAsset, a.deleteQueued), del(ofDAG, a.deleteQueued), del(ofBoth, a.deleteQueued),
		get(dr+"/{dag_run_id}/upstreamAssetEvents", a.upstreamEvents),
	}
}

func wireAsset(x store.Asset) wire.Asset {
	out := wire.Asset{ID: x.ID, Name: x.Key.Name, URI: x.Key.URI, Group: x.Group, Extra: rawOr(x.Extra, "{}"), CreatedAt: wire.At(x.Created),
		UpdatedAt: wire.At(x.Updated), ScheduledDags: []wire.AssetDAG{}, ProducingTasks: wireUses(x.Producers),
		ConsumingTasks: wireUses(x.Readers), Aliases: []wire.AssetAlias{}, Watchers: []any{}}
	for _, u := range x.Schedules {
		out.ScheduledDags = append(out.ScheduledDags, wire.AssetDAG{DAGID: u.DAGID, CreatedAt: wire.At(u.Created), UpdatedAt: wire.At(u.Updated)})
	}
	for _, l := range x.Aliases {
		out.Aliases = append(out.Aliases, wire.AssetAlias{ID: l.ID, Name: l.Name, Group: l.Group})
	}
	if x.LastEvent > 0 {
		out.LastAssetEvent = wire.LastAssetEvent{ID: &x.LastEvent, Timestamp: wire.AtPtr(&x.LastEventAt)}
	}
	return out
}

func wireUses(uses []store.AssetUse) []wire.AssetTask {
	out := []wire.AssetTask{}
	for _, u := range uses {
		out = append(out, wire.AssetTask{DAGID: u.DAGID, TaskID: u.TaskID, CreatedAt: wire.At(u.Created), UpdatedAt: wire.At(u.Updated)})
	}
	return out
}

func (a *API) listAssets(r *request) error {
	limit, offset := r.page()
	order, err := r.order("AssetModel", map[string]string{"id": "id", "name": "name", "uri": "uri", "created_at": "created_at", "updated_at": "updated_at"})
	if err != nil {
		return err
	}
	if err := r.unserved("name_prefix_pattern", "uri_prefix_pattern"); err != nil {
		return err
	}
	f := store.AssetFilter{NamePattern: r.text("name_pattern"), URIPattern: r.text("uri_pattern"), DAGIDs: r.query["dag_ids"],
		OnlyActive: r.boolean("only_active", true), OrderBy: order, Limit: limit, Offset: offset}
	if err := r.bad(); err != nil {
		return err
	}
	assets, total, err := a.Store.Assets(r.ctx(), f)
	if err != nil {
		return err
	}
	out := wire.Assets{Assets: []wire.Asset{}, Total: total}
	for _, x := range assets {
		out.Assets = append(out.Assets, wireAsset(x))
	}
	return r.ok(out)
}

// asset is the asset the path names.
func (a *API) asset(r *request, id int) (store.Asset, error) {
	if err := r.bad(); err != nil {
		return store.Asset{}, err
	}
	x, err := a.Store.Asset(r.ctx(), int64(id))
	if errors.Is(err, store.ErrNotFound) {
		return x, notFound("The Asset with ID: `%d` was not found", id)
	}
	return x, err
}

func (a *API) getAsset(r *request) error {
	x, err := a.asset(r, r.pathInt("asset_id"))
	if err != nil {
		return err
	}
	return r.ok(wireAsset(x))
}

func (a *API) listAliases(r *request) error {
	limit, offset := r.page()
	order, err := r.order("AssetAliasModel", map[string]string{"id": "id", "name": "name"})
	if err != nil {
		return err
	}
	if err := r.unserved("name_prefix_pattern"); err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	aliases, total, err := a.Store.AssetAliases(r.ctx(), r.text("name_pattern"), order, limit, offset)
	if err != nil {
		return err
	}
	out := wire.AssetAliases{Aliases: []wire.AssetAlias{}, Total: total}
	for _, l := range aliases {
		out.Aliases = append(out.Aliases, wire.AssetAlias{ID: l.ID, Name: l.Name, Group: l.Group})
	}
	return r.ok(out)
}

func (a *API) getAlias(r *request) error {
	id := r.pathInt("asset_alias_id")
	if err := r.bad(); err != nil {
		return err
	}
	l, err := a.Store.AssetAlias(r.ctx(), int64(id))
	if errors.Is(err, store.ErrNotFound) {
		return notFound("The Asset Alias with ID: `%d` was not found", id)
	}
	if err != nil {
		return err
	}
	return r.ok(wire.AssetAlias{ID: l.ID, Name: l.Name, Group: l.Group})
}

func (a *API) listAssetEvents(r *request) error {
	limit, offset := r.page()
	order, err := r.order("AssetEvent", map[string]string{"timestamp": "timestamp", "source_dag_id": "source_dag_id", "source_run_id": "source_run_id",
		"source_task_id": "source_task_id", "source_map_index": "source_map_index"})
	if err != nil {
		return err
	}
	if err := r.unserved("name_prefix_pattern"); err != nil {
		return err
	}
	f := store.AssetEventFilter{AssetID: int64(r.intFrom("asset_id", 0, 0)), NamePattern: r.text("name_pattern"), DAGID: r.text("source_dag_id"),
		RunID: r.text("source_run_id"), TaskID: r.text("source_task_id"), From: r.moment("timestamp_gte"), To: r.moment("timestamp_lte"),
		OrderBy: order, Limit: limit, Offset: offset}
	if t := r.moment("timestamp_gt"); t != nil {
		f.From = latest(f.From, t.Add(time.Microsecond))
	}
	if t := r.moment("timestamp_lt"); t != nil {
		f.To = earliest(f.To, t.Add(-time.Microsecond))
	}
	if r.has("source_map_index") {
		n := r.intFrom("source_map_index", -1, -1)
		f.MapIndex = &n
	}
	if err := r.bad(); err != nil {
		return err
	}
	events, total, err := a.Store.AssetEvents(r.ctx(), f)
	if err != nil {
		return err
	}
	return a.answerEvents(r, events, total)
}

func latest(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.After(b) {
		return a
	}
	return &b
}

func earliest(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.Before(b) {
		return a
	}
	return &b
}

func (a *API) answerEvents(r *request, events []store.AssetEvent, total int) error {
	out := wire.AssetEvents{Events: []wire.AssetEvent{}, Total: total}
	newest := map[run.Key]int64{} // the event that a run was created for, by its run
	for _, e := range events {
		w := wireAssetEvent(e)
		for i, x := range e.Runs {
			k := run.Key{DAGID: x.DAGID, RunID: x.RunID}
			if _, known := newest[k]; !known {
				consumed, err := a.Store.ConsumedAssetEvents(r.ctx(), x.DAGID, x.RunID)
				if err != nil {
					return err
				}
				newest[k] = consumed[len(consumed)-1].ID
			}
			w.CreatedDagruns[i].Triggering = newest[k] == e.ID
		}
		out.Events = append(out.Events, w)
	}
	return r.ok(out)
}

func wireAssetEvent(e store.AssetEvent) wire.AssetEvent {
	out := wire.AssetEvent{ID: e.ID, AssetID: e.AssetID, URI: e.Key.URI, Name: e.Key.Name, Group: e.Group, Extra: rawOr(e.Extra, "{}"),
		SourceTaskID: opt(e.Source.TaskID), SourceDAGID: opt(e.Source.DAGID), SourceRunID: opt(e.Source.RunID), SourceMapIndex: e.Source.MapIndex,
		CreatedDagruns: []wire.AssetEventRun{}, Timestamp: wire.At(e.At)}
	for _, x := range e.Runs {
		start := x.QueuedAt
		if x.StartDate != nil {
			start = *x.StartDate
		}
		out.CreatedDagruns = append(out.CreatedDagruns, wire.AssetEventRun{RunID: x.RunID, DAGID: x.DAGID, LogicalDate: wire.AtPtr(x.LogicalDate),
			StartDate: wire.At(start), EndDate: wire.AtPtr(x.EndDate), State: string(x.State), DataIntervalStart: wire.AtPtr(x.DataIntervalStart),
			DataIntervalEnd: wire.AtPtr(x.DataIntervalEnd)})
	}
	return out
}

func (a *API) upstreamEvents(r *request) error {
	dagID, runID := r.path("dag_id"), r.path("dag_run_id")
	if _, err := a.dagRun(r.ctx(), dagID, runID); err != nil {
		return err
	}
	events, err := a.Store.ConsumedAssetEvents(r.ctx(), dagID, runID)
	if err != nil {
		return err
	}
	for i := range events { // the run's own answer names no other runs
		kept := events[i].Runs[:0]
		for _, x := range events[i].Runs {
			if x.DAGID == dagID && x.RunID == runID {
				kept = append(kept, x)
			}
		}
		events[i].Runs = kept
	}
	return a.answerEvents(r, events, len(events))
}

func (a *API) createAssetEvent(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	id := 0
	if body.must("asset_id") {
		if n := body.integer("asset_id", 0); n != nil {
			id = *n
		}
	}
	given := body.dict("extra")
	if body.take("partition_key") != nil {
		return &refusal{status: http.StatusNotImplemented, detail: "The field partition_key is not served"}
	}
	if body.take("access_control") != nil {
		return noTeams()
	}
	if err := body.done(); err != nil {
		return err
	}
	extra := map[string]json.RawMessage{}
	if len(given) > 0 {
		if err := json.Unmarshal(given, &extra); err != nil {
			return badRequest("extra: %v", err)
		}
	}
	extra["from_rest_api"] = json.RawMessage("true")
	raw, err := json.Marshal(extra)
	if err != nil {
		return fmt.Errorf("encode extra: %w", err)
	}
	x, err := a.Store.Asset(r.ctx(), int64(id))
	if errors.Is(err, store.ErrNotFound) {
		return notFound("Asset with ID: `%d` was not found", id)
	}
	if err != nil {
		return err
	}
	e, err := a.Scheduler.AddAssetEvent(r.ctx(), r.actor(), x.Key, raw)
	if err != nil {
		return domain(err, fmt.Sprintf("Asset with ID: `%d`", id))
	}
	e.Group = x.Group
	return r.ok(wireAssetEvent(e))
}

func (a *API) materialize(r *request) error {
	id := r.pathInt("asset_id")
	req := scheduler.TriggerRequest{}
	if r.ContentLength != 0 {
		var err error
		if req, err = readTriggerBody(r, false); err != nil {
			return err
		}
	}
	if err := r.bad(); err != nil {
		return err
	}
	x, err := a.Store.Asset(r.ctx(), int64(id))
	if errors.Is(err, store.ErrNotFound) {
		return notFound("No Dag materializes asset with ID: %d", id)
	}
	if err != nil {
		return err
	}
	if len(x.Producers) > 0 {
		if info, err := a.Store.DAG(r.ctx(), x.Producers[0].DAGID); err == nil {
			if err := checkParams(info.DAG, req.Conf); err != nil {
				return badRequest("Invalid input for %s", err)
			}
		}
	}
	made, err := a.Scheduler.Materialize(r.ctx(), r.actor(), x.Key, req)
	switch {
	case errors.Is(err, scheduler.ErrNotFound):
		return notFound("No Dag materializes asset with ID: %d", id)
	case err != nil:
		return domain(err, x.Key.Name)
	}
	out, err := a.view(r.ctx()).wireRun(made)
	if err != nil {
		return err
	}
	return r.ok(out)
}

// queued lists what the path and ?before= select.
func (a *API) queued(r *request) ([]store.QueuedAsset, *time.Time, error) {
	id, before := 0, r.moment("before")
	if _, ok := r.params["asset_id"]; ok {
		id = r.pathInt("asset_id")
	}
	if err := r.bad(); err != nil {
		return nil, nil, err
	}
	all, err := a.Store.QueuedAssets(r.ctx())
	if err != nil {
		return nil, nil, err
	}
	var out []store.QueuedAsset
	for _, q := range all {
		if (id == 0 || q.AssetID == int64(id)) && (r.path("dag_id") == "" || q.DAGID == r.path("dag_id")) && (before == nil || q.At.Before(*before)) {
			out = append(out, q)
		}
	}
	return out, before, nil
}

func (a *API) wireQueued(r *request, q store.QueuedAsset) (wire.QueuedEvent, error) {
	out := wire.QueuedEvent{DAGID: q.DAGID, AssetID: q.AssetID, CreatedAt: wire.At(q.At), DagDisplayName: q.DAGID}
	info, err := a.Store.DAG(r.ctx(), q.DAGID)
	if err != nil {
		return out, err
	}
	if info.DAG.DisplayName != "" {
		out.DagDisplayName = info.DAG.DisplayName
	}
	return out, nil
}

func (a *API) listQueued(r *request) error {
	queued, _, err := a.queued(r)
	if err != nil {
		return err
	}
	out := wire.QueuedEvents{Events: []wire.QueuedEvent{}, Total: len(queued)}
	for _, q := range queued {
		w, err := a.wireQueued(r, q)
		if err != nil {
			return err
		}
		out.Events = append(out.Events, w)
	}
	return r.ok(out)
}

func (a *API) getQueued(r *request) error {
	queued, _, err := a.queued(r)
	if err != nil {
		return err
	}
	if len(queued) == 0 {
		return notFound("Queued event with dag_id: `%s` and asset_id: `%s` was not found", r.path("dag_id"), r.path("asset_id"))
	}
	w, err := a.wireQueued(r, queued[0])
	if err != nil {
		return err
	}
	return r.ok(w)
}

func (a *API) deleteQueued(r *request) error {
	queued, before, err := a.queued(r)
	if err != nil {
		return err
	}
	none := notFound("Queue event with dag_id: `%s` was not found", r.path("dag_id"))
	var key *dag.AssetKey
	if id, ok := r.params["asset_id"]; ok {
		none = notFound("Queue event with asset_id: `%s` was not found", id)
		if r.path("dag_id") != "" {
			none = notFound("Queued event with dag_id: `%s` and asset_id: `%s` was not found", r.path("dag_id"), id)
		}
		if len(queued) > 0 {
			key = &queued[0].Key
		}
	}
	if len(queued) == 0 {
		return none
	}
	err = a.Scheduler.UnqueueAssets(r.ctx(), r.actor(), r.path("dag_id"), key, before)
	if errors.Is(err, scheduler.ErrNotFound) {
		return none
	}
	if err != nil {
		return err
	}
	return r.nothing()
}
