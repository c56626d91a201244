package v2

import (
	"encoding/json"
	"fmt"
	"net/http"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// patchedTI is the body of PATCH on a task instance.
type patchedTI struct {
	mark     scheduler.MarkRequest
	note     *string
	withNote bool
}

func readPatchTI(r *request) (patchedTI, error) {
	body, err := r.readBody()
	if err != nil {
		return patchedTI{}, err
	}
	p := patchedTI{withNote: body.given("note")}
	p.mark = scheduler.MarkRequest{DAGID: r.path("dag_id"), RunID: r.path("dag_run_id"), State: enum(body, "new_state", settableTask),
		IncludeUpstream: body.boolean("include_upstream", false), IncludeDownstream: body.boolean("include_downstream", false),
		IncludeFuture: body.boolean("include_future", false), IncludePast: body.boolean("include_past", false)}
	p.note = body.text("note", maximumNote)
	if err := body.done(); err != nil {
		return p, err
	}
	m := r.mask()
	if err := m.only("TaskInstance", "new_state", "note"); err != nil {
		return p, err
	}
	if !m.covers("new_state") {
		p.mark.State = ""
	}
	p.withNote = p.withNote && m.covers("note")
	return p, nil
}

// addressed are the instances a PATCH names: one, or all of a mapped task when the path has no index.
func (a *API) addressed(r *request) ([]run.TaskInstance, []scheduler.TaskSel, error) {
	var index *int
	if _, ok := r.params["map_index"]; ok {
		n := r.pathInt("map_index")
		index = &n
	} else if r.has("map_index") {
		if n := r.mapIndex(); n >= 0 {
			index = &n
		}
	}
	if err := r.bad(); err != nil {
		return nil, nil, err
	}
	k := keyOf(r, -1)
	sel := []scheduler.TaskSel{{TaskID: k.TaskID, MapIndex: index}}
	if index != nil {
		k.MapIndex = *index
		ti, err := a.instance(r, k)
		return []run.TaskInstance{ti}, sel, err
	}
	tis, _, err := a.Store.TaskInstances(r.ctx(), store.TIFilter{DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID})
	if err != nil {
		return nil, nil, fmt.Errorf("list instances of task %s: %w", k.TaskID, err)
	}
	if len(tis) == 0 {
		return nil, nil, a.noInstance(r, k)
	}
	return tis, sel, nil
}

func (a *API) patchTI(r *request) error {
	p, err := readPatchTI(r)
	if err != nil {
		return err
	}
	tis, sel, err := a.addressed(r)
	if err != nil {
		return err
	}
	if p.mark.State != "" {
		if err := alreadyIn(tis, p.mark.State); err != nil {
			return err
		}
		p.mark.Tasks = sel
		if _, err := a.Scheduler.MarkTasks(r.ctx(), r.actor(), p.mark); err != nil {
			return domain(err, "The Task Instance "+r.path("task_id"))
		}
	}
	if p.withNote {
		for _, ti := range tis {
			if _, err := a.Scheduler.SetTaskNote(r.ctx(), r.actor(), ti.Key, text(p.note)); err != nil {
				return domain(err, "The Task Instance "+r.path("task_id"))
			}
		}
	}
	if tis, _, err = a.addressed(r); err != nil { // as they are now; the answer lists the addressed ones only
		return err
	}
	return a.answerInstances(r, tis, len(tis))
}

func alreadyIn(tis []run.TaskInstance, s run.TaskState) error {
	for _, ti := range tis {
		if ti.State != s {
			return nil
		}
	}
	return refuse(http.StatusConflict, "Task id %s is already in %s state", tis[0].TaskID, s)
}

func (a *API) dryPatchTI(r *request) error {
	p, err := readPatchTI(r)
	if err != nil {
		return err
	}
	tis, sel, err := a.addressed(r)
	if err != nil {
		return err
	}
	if p.mark.State != "" {
		p.mark.Tasks, p.mark.DryRun = sel, true
		if tis, err = a.Scheduler.MarkTasks(r.ctx(), r.actor(), p.mark); err != nil {
			return domain(err, "The Task Instance "+r.path("task_id"))
		}
	}
	return a.answerInstances(r, tis, len(tis))
}

// clearTIs is POST …/clearTaskInstances. As in Airflow it previews unless told otherwise, and takes failed ones only.
func (a *API) clearTIs(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	req := scheduler.ClearRequest{DAGID: r.path("dag_id"), RunID: text(body.text("dag_run_id", 0)), DryRun: body.boolean("dry_run", true),
		StartDate: body.moment("start_date"), EndDate: body.moment("end_date"), OnlyFailed: body.boolean("only_failed", true),
		OnlyRunning: body.boolean("only_running", false), ResetDagRuns: body.boolean("reset_dag_runs", true),
		IncludeUpstream: body.boolean("include_upstream", false), IncludeDownstream: body.boolean("include_downstream", false),
		IncludeFuture: body.boolean("include_future", false), IncludePast: body.boolean("include_past", false),
		RunOnLatest: body.boolean("run_on_latest_version", false), Note: body.text("note", maximumNote)}
	gentle := body.boolean("prevent_running_task", false)
	for i, raw := range body.list("task_ids") {
		req.TaskIDs = append(req.TaskIDs, body.selection(i, raw))
	}
	if err := body.done(); err != nil {
		return err
	}
	if err := a.checkClear(r, &req, gentle); err != nil {
		return err
	}
	tis, err := a.Scheduler.Clear(r.ctx(), r.actor(), req)
	if err != nil {
		return domain(err, "The DagRun "+req.RunID)
	}
	return a.answerCleared(r, tis)
}

func (a *API) checkClear(r *request, req *scheduler.ClearRequest, gentle bool) error {
	if _, err := a.dagInfo(r.ctx(), req.DAGID); err != nil {
		return err
	}
	if req.RunID != "" {
		if _, err := a.dagRun(r.ctx(), req.DAGID, req.RunID); err != nil {
			return err
		}
	}
	if !gentle {
		return nil
	}
	preview := *req
	preview.DryRun = true
	tis, err := a.Scheduler.Clear(r.ctx(), r.actor(), preview)
	if err != nil {
		return domain(err, "The DagRun "+req.RunID)
	}
	for _, ti := range tis {
		if ti.State == run.Running {
			return refuse(http.StatusConflict, "Task %s is running, cannot clear it with prevent_running_task", ti.TaskID)
		}
	}
	return nil
}

// selection is an element of task_ids: an id, or [id, map index].
func (f *fields) selection(i int, raw json.RawMessage) scheduler.TaskSel {
	var id string
	if json.Unmarshal(raw, &id) == nil {
		return scheduler.TaskSel{TaskID: id}
	}
	var pair []json.RawMessage
	var index int
	if json.Unmarshal(raw, &pair) == nil && len(pair) == 2 && json.Unmarshal(pair[0], &id) == nil && json.Unmarshal(pair[1], &index) == nil {
		return scheduler.TaskSel{TaskID: id, MapIndex: &index}
	}
	f.r.fault(wire.Fault{Type: "string_type", Loc: append(f.at("task_ids"), i), Msg: "Input should be a valid string", Input: raw})
	return scheduler.TaskSel{}
}

func (a *API) answerCleared(r *request, tis []run.TaskInstance) error {
	out, err := a.view(r.ctx()).wireTIs(tis)
	if err != nil {
		return err
	}
	return r.ok(wire.ClearedInstances{TaskInstances: out, Total: len(out)})
}
