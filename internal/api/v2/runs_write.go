package v2

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// runIDPattern is Airflow's [scheduler] allowed_run_id_pattern.
var runIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.~:+-]+$`)

func (a *API) triggerRun(r *request) error {
	dagID := r.path("dag_id")
	req, err := readTrigger(r)
	if err != nil {
		return err
	}
	info, err := a.Store.DAG(r.ctx(), dagID)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && info.Removed:
		return notFound("Dag with dag_id: '%s' not found%s", dagID, a.nearestDAG(r.ctx(), dagID))
	case err != nil:
		return fmt.Errorf("load DAG %s: %w", dagID, err)
	}
	req.DAGID = dagID
	if err := checkParams(info.DAG, req.Conf); err != nil {
		return badRequest("Invalid input for %s", err)
	}
	made, err := a.Scheduler.Trigger(r.ctx(), r.actor(), req)
	if errors.Is(err, scheduler.ErrConflict) || errors.Is(err, store.ErrConflict) {
		return duplicate("a DAG run of %s with this run id or logical date exists already", dagID)
	}
	if err != nil {
		return domain(err, "Dag with dag_id: '"+dagID+"'")
	}
	out, err := a.view(r.ctx()).wireRun(made)
	if err != nil {
		return err
	}
	// Airflow echoes the offset as it was sent, here only.
	out.LogicalDate = echo(out.LogicalDate, req.LogicalDate)
	out.DataIntervalStart, out.DataIntervalEnd = echo(out.DataIntervalStart, req.DataIntervalStart), echo(out.DataIntervalEnd, req.DataIntervalEnd)
	return r.ok(out)
}

func echo(w *wire.Time, sent *time.Time) *wire.Time {
	if w == nil || sent == nil || !w.Std().Equal(sent.Truncate(time.Microsecond)) {
		return w
	}
	t := wire.Time(*sent)
	return &t
}

func readTrigger(r *request) (scheduler.TriggerRequest, error) { return readTriggerBody(r, true) }

// readTriggerBody reads what creates a DAG run; only where it is triggered by hand must logical_date be given.
func readTriggerBody(r *request, dated bool) (scheduler.TriggerRequest, error) {
	body, err := r.readBody()
	if err != nil {
		return scheduler.TriggerRequest{}, err
	}
	req := scheduler.TriggerRequest{RunID: text(body.text("dag_run_id", 0)), Conf: body.dict("conf"), Note: text(body.text("note", maximumNote)), Type: run.TypeManual}
	if dated {
		body.must("logical_date")
	}
	req.LogicalDate = body.moment("logical_date")
	req.DataIntervalStart, req.DataIntervalEnd = body.moment("data_interval_start"), body.moment("data_interval_end")
	req.RunAfter = body.moment("run_after")
	if body.take("partition_key") != nil {
		return req, &refusal{status: http.StatusNotImplemented, detail: "The field partition_key is not served"}
	}
	if (req.DataIntervalStart == nil) != (req.DataIntervalEnd == nil) && len(r.faults) == 0 {
		r.fault(wire.Fault{Type: "value_error", Loc: []any{"body"}, Input: body.raw,
			Msg: "Value error, Either both data_interval_start and data_interval_end must be provided or both must be None", Ctx: map[string]any{"error": map[string]any{}}})
	}
	if err := body.done(); err != nil {
		return req, err
	}
	if req.RunID != "" && !runIDPattern.MatchString(req.RunID) {
		return req, badRequest("The run_id provided '%s' does not match regex pattern '%s'", req.RunID, runIDPattern)
	}
	return req, nil
}

func (a *API) patchRun(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	state, note := enum(body, "state", settableRun), body.text("note", maximumNote)
	withNote := body.given("note")
	if err := body.done(); err != nil {
		return err
	}
	one, err := a.dagRun(r.ctx(), r.path("dag_id"), r.path("dag_run_id"))
	if err != nil {
		return err
	}
	m := r.mask()
	if err := m.only("DAGRun", "state", "note"); err != nil {
		return err
	}
	if state != "" && m.covers("state") {
		if one, err = a.Scheduler.MarkRun(r.ctx(), r.actor(), one.DAGID, one.RunID, state); err != nil {
			return domain(err, "The DagRun "+one.RunID)
		}
	}
	if withNote && m.covers("note") {
		if one, err = a.Scheduler.SetRunNote(r.ctx(), r.actor(), r.path("dag_id"), r.path("dag_run_id"), text(note)); err != nil {
			return domain(err, "The DagRun "+r.path("dag_run_id"))
		}
	}
	return a.answerRun(r, one)
}

// only refuses an update_mask with a field that cannot be changed.
func (m mask) only(model string, names ...string) error {
	for _, n := range m {
		if !slices.Contains(names, n) {
			return badRequest("'%s' in update_mask is not a field of %s that can be changed", n, model)
		}
	}
	return nil
}

// clearRun lets a whole run go again: all its instances, or those that failed.
func (a *API) clearRun(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	req := scheduler.ClearRequest{DAGID: r.path("dag_id"), RunID: r.path("dag_run_id"), ResetDagRuns: true,
		DryRun: body.boolean("dry_run", true), OnlyFailed: body.boolean("only_failed", false),
		RunOnLatest: body.boolean("run_on_latest_version", false), Note: body.text("note", maximumNote)}
	if body.boolean("only_new", false) {
		return &refusal{status: http.StatusNotImplemented, detail: "The field only_new is not served"}
	}
	if err := body.done(); err != nil {
		return err
	}
	if _, err := a.dagRun(r.ctx(), req.DAGID, req.RunID); err != nil {
		return err
	}
	tis, err := a.Scheduler.Clear(r.ctx(), r.actor(), req)
	if err != nil {
		return domain(err, "The DagRun "+req.RunID)
	}
	if req.DryRun {
		return a.answerCleared(r, tis)
	}
	one, err := a.dagRun(r.ctx(), req.DAGID, req.RunID)
	if err != nil {
		return err
	}
	return a.answerRun(r, one)
}
