package v2

import (
	"errors"
	"fmt"
	"net/http"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

func (a *API) backfillRoutes() []Route {
	pause := func(paused bool) func(*request) error {
		return func(r *request) error {
			return a.changeBackfill(r, func(id int64) error { return a.Scheduler.PauseBackfill(r.ctx(), r.actor(), id, paused) })
		}
	}
	return []Route{
		get("/backfills", a.listBackfills),
		post("/backfills", a.createBackfill),
		post("/backfills/dry_run", a.dryBackfill),
		get("/backfills/{backfill_id}", a.getBackfill),
		put("/backfills/{backfill_id}/pause", pause(true)),
		put("/backfills/{backfill_id}/unpause", pause(false)),
		put("/backfills/{backfill_id}/cancel", func(r *request) error {
			return a.changeBackfill(r, func(id int64) error { return a.Scheduler.CancelBackfill(r.ctx(), r.actor(), id) })
		}),
	}
}

func (a *API) wireBackfill(r *request, b store.Backfill) (wire.Backfill, error) {
	out := wire.Backfill{ID: b.ID, DAGID: b.DAGID, FromDate: wire.At(b.From), ToDate: wire.At(b.To), DagRunConf: rawOr(b.Conf, "{}"),
		IsPaused: b.Paused, Reprocess: b.Reprocess, MaxActiveRuns: b.MaxActiveRuns, CreatedAt: wire.At(b.Created), CompletedAt: wire.AtPtr(b.Completed),
		UpdatedAt: wire.At(b.Updated), DagDisplayName: b.DAGID, Ostro: wire.BackfillExtras{Actor: b.CreatedBy, Reverse: b.Reverse}}
	info, err := a.Store.DAG(r.ctx(), b.DAGID)
	if err != nil {
		return out, fmt.Errorf("load DAG %s: %w", b.DAGID, err)
	}
	if info.DAG.DisplayName != "" {
		out.DagDisplayName = info.DAG.DisplayName
	}
	return out, nil
}

func (a *API) listBackfills(r *request) error {
	limit, offset := r.page()
	order, err := r.order("Backfill", map[string]string{"id": "id"})
	if err != nil {
		return err
	}
	if !r.has("dag_id") {
		r.fault(wire.Fault{Type: "missing", Loc: []any{"query", "dag_id"}, Msg: "Field required", Input: quoted("")})
	}
	if err := r.bad(); err != nil {
		return err
	}
	found, total, err := a.Store.Backfills(r.ctx(), r.text("dag_id"), order, limit, offset)
	if err != nil {
		return err
	}
	out := wire.Backfills{Backfills: []wire.Backfill{}, Total: total}
	for _, b := range found {
		w, err := a.wireBackfill(r, b)
		if err != nil {
			return err
		}
		out.Backfills = append(out.Backfills, w)
	}
	return r.ok(out)
}

// answerBackfill answers with one backfill and its dates.
func (a *API) answerBackfill(r *request, id int64) error {
	b, err := a.Store.Backfill(r.ctx(), id)
	if errors.Is(err, store.ErrNotFound) {
		return notFound("Backfill not found")
	}
	if err != nil {
		return err
	}
	out, err := a.wireBackfill(r, b)
	if err != nil {
		return err
	}
	dates, err := a.Store.BackfillRuns(r.ctx(), id)
	if err != nil {
		return err
	}
	for _, d := range dates {
		out.Ostro.Dates = append(out.Ostro.Dates, wire.BackfillDate{LogicalDate: wire.At(d.LogicalDate), RunID: d.RunID, State: string(d.State), Reason: d.Reason})
	}
	return r.ok(out)
}

func (a *API) getBackfill(r *request) error {
	id := r.pathInt("backfill_id")
	if err := r.bad(); err != nil {
		return err
	}
	return a.answerBackfill(r, int64(id))
}

func (a *API) changeBackfill(r *request, change func(id int64) error) error {
	id := int64(r.pathInt("backfill_id"))
	if err := r.bad(); err != nil {
		return err
	}
	switch err := change(id); {
	case errors.Is(err, scheduler.ErrNotFound):
		return notFound("Backfill not found")
	case errors.Is(err, scheduler.ErrConflict):
		return refuse(http.StatusConflict, "Backfill is already completed.")
	case err != nil:
		return err
	}
	return a.answerBackfill(r, id)
}

// readBackfill reads the body of a backfill and checks its conf against the DAG's params.
func (a *API) readBackfill(r *request) (scheduler.BackfillRequest, error) {
	body, err := r.readBody()
	if err != nil {
		return scheduler.BackfillRequest{}, err
	}
	req := scheduler.BackfillRequest{DAGID: body.mustText("dag_id", 0), Reverse: body.boolean("run_backwards", false), Conf: body.dict("dag_run_conf")}
	if body.must("from_date") {
		if t := body.moment("from_date"); t != nil {
			req.From = *t
		}
	}
	if body.must("to_date") {
		if t := body.moment("to_date"); t != nil {
			req.To = *t
		}
	}
	req.Reprocess = enum(body, "reprocess_behavior", []string{"failed", "completed", "none"})
	if n := body.integer("max_active_runs", 1); n != nil {
		req.MaxActiveRuns = *n
	}
	req.KeepVersion = body.given("run_on_latest_version") && !body.boolean("run_on_latest_version", true)
	if err := body.done(); err != nil {
		return req, err
	}
	info, err := a.Store.DAG(r.ctx(), req.DAGID)
	if errors.Is(err, store.ErrNotFound) || err == nil && info.Removed {
		return req, notFound("Could not find dag %s", req.DAGID)
	}
	if err != nil {
		return req, fmt.Errorf("load DAG %s: %w", req.DAGID, err)
	}
	if len(req.Conf) > 0 {
		if err := checkParams(info.DAG, req.Conf); err != nil {
			return req, refuse(http.StatusUnprocessableEntity, "Invalid input for %s", err)
		}
	}
	return req, nil
}

// refusedBackfill maps the scheduler's refusal; what makes no sense is a 422, as in Airflow.
func refusedBackfill(err error, dagID string) error {
	switch {
	case errors.Is(err, scheduler.ErrNotFound):
		return notFound("Could not find dag %s", dagID)
	case errors.Is(err, scheduler.ErrConflict), errors.Is(err, store.ErrConflict):
		return refuse(http.StatusConflict, "There is already a running backfill for dag %s", dagID)
	case errors.Is(err, scheduler.ErrInvalid):
		return refuse(http.StatusUnprocessableEntity, "%s", plain(err, scheduler.ErrInvalid))
	}
	return err
}

func (a *API) createBackfill(r *request) error {
	req, err := a.readBackfill(r)
	if err != nil {
		return err
	}
	made, err := a.Scheduler.CreateBackfill(r.ctx(), r.actor(), req)
	if err != nil {
		return refusedBackfill(err, req.DAGID)
	}
	return a.answerBackfill(r, made.ID)
}

func (a *API) dryBackfill(r *request) error {
	req, err := a.readBackfill(r)
	if err != nil {
		return err
	}
	dates, err := a.Scheduler.PlanBackfill(r.ctx(), req)
	if err != nil {
		return refusedBackfill(err, req.DAGID)
	}
	out := wire.DryBackfills{Backfills: []wire.DryBackfill{}, Total: len(dates)}
	for _, t := range dates {
		out.Backfills = append(out.Backfills, wire.DryBackfill{LogicalDate: wire.At(t)})
	}
	return r.ok(out)
}
