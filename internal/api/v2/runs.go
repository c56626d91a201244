package v2

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

var (
	runStates     = []run.State{run.RunQueued, run.RunRunning, run.RunSuccess, run.RunFailed}
	runTypes      = []run.Type{run.TypeBackfill, run.TypeScheduled, run.TypeManual, run.TypeAssetTriggered, run.TypeAssetMaterialization}
	settableRun   = []run.State{run.RunQueued, run.RunSuccess, run.RunFailed}
	finishedRun   = map[run.State]bool{run.RunSuccess: true, run.RunFailed: true}
	runOrder      = map[string]string{"id": "id", "run_after": "run_after", "logical_date": "logical_date", "start_date": "start_date", "end_date": "end_date", "state": "state", "dag_id": "dag_id", "run_id": "run_id", "dag_run_id": "run_id"}
	everyDAG      = "~"
	runsUnserved  = []string{"end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt", "duration_gte", "duration_gt", "duration_lte", "duration_lt", "updated_at_gte", "updated_at_gt", "updated_at_lte", "updated_at_lt", "conf_contains", "dag_version", "bundle_version", "triggering_user_name_pattern", "dag_id_pattern", "partition_key_pattern", "cursor"}
	microsecond   = time.Microsecond
	emptyObject   = "{}"
	maximumNote   = 1000
	maximumWaiter = 30 * time.Minute
)

func (v *view) wireRun(r run.DAGRun) (wire.DAGRun, error) {
	ver, err := v.version(r.DAGID, r.DAGVersion)
	if err != nil {
		return wire.DAGRun{}, err
	}
	out := wire.DAGRun{
		DagRunID: r.RunID, DAGID: r.DAGID, LogicalDate: wire.AtPtr(r.LogicalDate), QueuedAt: wire.AtPtr(&r.QueuedAt),
		StartDate: wire.AtPtr(r.StartDate), EndDate: wire.AtPtr(r.EndDate), Duration: seconds(r.StartDate, r.EndDate),
		DataIntervalStart: wire.AtPtr(r.DataIntervalStart), DataIntervalEnd: wire.AtPtr(r.DataIntervalEnd), RunAfter: wire.At(r.RunAfter),
		RunType: string(r.Type), State: string(r.State), Conf: rawOr(r.Conf, emptyObject), Note: opt(r.Note),
		DagVersions: []wire.DagVersion{}, BundleVersion: opt(r.BundleVersion), DagDisplayName: ver.display(r.DAGID),
		Ostro: wire.RunExtras{Actor: r.TriggeredBy, ClearNumber: r.ClearNumber},
	}
	out.TriggeredBy, out.TriggeringUserName = triggeredBy(r.TriggeredBy, r.Type)
	if ver != nil {
		out.DagVersions = append(out.DagVersions, wireVersion(ver.dag, ver.info))
	}
	return out, nil
}

// atLeast joins X_gte and X_gt, atMost X_lte and X_lt: times have microseconds, so "greater" is "at least one more".
func (r *request) atLeast(name string) *time.Time {
	if t := r.moment(name + "_gte"); t != nil {
		return t
	}
	if t := r.moment(name + "_gt"); t != nil {
		later := t.Add(microsecond)
		return &later
	}
	return nil
}

func (r *request) atMost(name string) *time.Time {
	if t := r.moment(name + "_lte"); t != nil {
		return t
	}
	if t := r.moment(name + "_lt"); t != nil {
		earlier := t.Add(-microsecond)
		return &earlier
	}
	return nil
}

func (a *API) listRuns(r *request) error {
	if err := r.unserved(runsUnserved...); err != nil {
		return err
	}
	f := store.RunFilter{DAGID: r.path("dag_id"), States: enums(r, "state", runStates), Types: enums(r, "run_type", runTypes),
		LogicalDateGTE: r.atLeast("logical_date"), LogicalDateLTE: r.atMost("logical_date"), StartDateGTE: r.atLeast("start_date"),
		StartDateLTE: r.atMost("start_date"), RunAfterGTE: r.atLeast("run_after"), RunAfterLTE: r.atMost("run_after"), RunIDPattern: r.text("run_id_pattern")}
	if f.RunIDPattern == everyDAG {
		f.RunIDPattern = ""
	}
	f.Limit, f.Offset = r.page()
	order, err := r.order("DagRun", runOrder)
	if err != nil {
		return err
	}
	f.OrderBy = order
	if err := r.bad(); err != nil {
		return err
	}
	if f.DAGID != everyDAG {
		if _, err := a.dagInfo(r.ctx(), f.DAGID); err != nil {
			return err
		}
	}
	return a.answerRuns(r, f)
}

// answerRuns answers with a page; limit 0 is an empty page with the real total, which the store cannot say itself.
func (a *API) answerRuns(r *request, f store.RunFilter) error {
	empty := f.Limit == 0
	f.Limit = max(f.Limit, 1)
	runs, total, err := a.Store.Runs(r.ctx(), f)
	if err != nil {
		return fmt.Errorf("list DAG runs: %w", err)
	}
	out := wire.DAGRuns{DagRuns: []wire.DAGRun{}, Total: total}
	v := a.view(r.ctx())
	for _, one := range runs {
		if empty {
			break
		}
		w, err := v.wireRun(one)
		if err != nil {
			return err
		}
		out.DagRuns = append(out.DagRuns, w)
	}
	return r.ok(out)
}

// batchRuns is POST …/dagRuns/list, which exists for the wildcard only.
func (a *API) batchRuns(r *request) error {
	if err := onlyWildcard(r, "dag_id"); err != nil {
		return err
	}
	body, err := r.readBody()
	if err != nil {
		return err
	}
	f := store.RunFilter{States: nil}
	limit, offset, order := body.integer("page_limit", 0), body.integer("page_offset", 0), body.text("order_by", 0)
	for _, s := range body.texts("states") {
		f.States = append(f.States, run.State(s))
	}
	ids := body.texts("dag_ids")
	f.LogicalDateGTE, f.LogicalDateLTE = body.between("logical_date")
	f.StartDateGTE, f.StartDateLTE = body.between("start_date")
	f.RunAfterGTE, f.RunAfterLTE = body.between("run_after")
	if err := body.unserved("end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt", "duration_gte", "duration_gt", "duration_lte", "duration_lt", "conf_contains"); err != nil {
		return err
	}
	if len(ids) > 1 {
		return &refusal{status: http.StatusNotImplemented, detail: "More than one element in dag_ids is not served"}
	}
	if len(ids) == 1 {
		f.DAGID = ids[0]
	}
	if err := body.done(); err != nil {
		return err
	}
	f.Limit, f.Offset = limitOf(limit), offsetOf(offset)
	if order != nil {
		if f.OrderBy, err = orderBy("DagRun", []string{*order}, runOrder); err != nil {
			return err
		}
	}
	return a.answerRuns(r, f)
}

func limitOf(n *int) int {
	if n == nil {
		return maximumLimit
	}
	return min(*n, maximumLimit)
}

func offsetOf(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

func onlyWildcard(r *request, names ...string) error {
	for _, n := range names {
		if got := r.path(n); got != everyDAG {
			r.fault(wire.Fault{Type: "literal_error", Loc: []any{"path", n}, Msg: "Input should be '~'", Input: quoted(got), Ctx: map[string]any{"expected": "'~'"}})
		}
	}
	return r.bad()
}

// between reads NAME_gte/_gt and NAME_lte/_lt of a body.
func (f *fields) between(name string) (from, to *time.Time) {
	if from = f.moment(name + "_gte"); from == nil {
		if t := f.moment(name + "_gt"); t != nil {
			later := t.Add(microsecond)
			from = &later
		}
	}
	if to = f.moment(name + "_lte"); to == nil {
		if t := f.moment(name + "_lt"); t != nil {
			earlier := t.Add(-microsecond)
			to = &earlier
		}
	}
	return from, to
}

// unserved refuses members that Airflow has and that would change the answer here if they had an effect.
func (f *fields) unserved(names ...string) error {
	for _, n := range names {
		if v := f.take(n); v != nil && string(v) != "[]" {
			return &refusal{status: http.StatusNotImplemented, detail: fmt.Sprintf("The field %s is not served", n)}
		}
	}
	return nil
}

func (a *API) getRun(r *request) error {
	one, err := a.dagRun(r.ctx(), r.path("dag_id"), r.path("dag_run_id"))
	if err != nil {
		return err
	}
	w, err := a.view(r.ctx()).wireRun(one)
	if err != nil {
		return err
	}
	return r.ok(w)
}

func (a *API) deleteRun(r *request) error {
	one, err := a.dagRun(r.ctx(), r.path("dag_id"), r.path("dag_run_id"))
	if err != nil {
		return err
	}
	if one.State == run.RunRunning {
		return badRequest("The DagRun with dag_id: `%s` and run_id: `%s` cannot be deleted in %s state", one.DAGID, one.RunID, one.State)
	}
	if err := a.Scheduler.DeleteRun(r.ctx(), r.actor(), one.DAGID, one.RunID); err != nil {
		return domain(err, "The DagRun "+one.RunID)
	}
	return r.nothing()
}

// waitRun streams a line now, one at least every interval, and one with the results when the run has ended. The end is
// told at once: the server waits for commits, it does not poll.
func (a *API) waitRun(r *request) error {
	interval, err := r.interval()
	if err != nil {
		return err
	}
	one, err := a.dagRun(r.ctx(), r.path("dag_id"), r.path("dag_run_id"))
	if err != nil {
		return err
	}
	out := newLines(r.w)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for first := true; ; first = false {
		changed := a.Store.Changed()
		next, err := a.Store.Run(r.ctx(), one.DAGID, one.RunID)
		if err != nil {
			return nil // the run is gone or the client is: the stream just ends
		}
		if finishedRun[next.State] {
			results, err := a.results(r, one.DAGID, one.RunID)
			if err != nil {
				a.Log.Warn("read results of a DAG run", "dag", one.DAGID, "run", one.RunID, "err", err)
			}
			_ = out.write(wire.Waited{State: string(next.State), Results: results})
			return nil
		}
		if first || next.State != one.State {
			if out.write(wire.Waited{State: string(next.State)}) != nil {
				return nil
			}
		}
		one = next
		select {
		case <-changed:
		case <-tick.C:
			if out.write(wire.Waited{State: string(next.State)}) != nil {
				return nil
			}
		case <-r.ctx().Done():
			return nil
		}
	}
}

func (r *request) interval() (time.Duration, error) {
	if !r.has("interval") {
		return 0, faults(wire.Fault{Type: "missing", Loc: []any{"query", "interval"}, Msg: "Field required", Input: json.RawMessage("null")})
	}
	var s float64
	if err := json.Unmarshal([]byte(r.text("interval")), &s); err != nil {
		return 0, faults(wire.Fault{Type: "float_parsing", Loc: []any{"query", "interval"},
			Msg: "Input should be a valid number, unable to parse string as a number", Input: quoted(r.text("interval"))})
	}
	if s <= 0 {
		return 0, faults(wire.Fault{Type: "greater_than", Loc: []any{"query", "interval"}, Msg: "Input should be greater than 0",
			Input: quoted(r.text("interval")), Ctx: map[string]any{"gt": 0.0}})
	}
	return max(time.Duration(min(s, maximumWaiter.Seconds())*float64(time.Second)), 10*time.Millisecond), nil
}

// results are the return values of the tasks named by ?result=.
func (a *API) results(r *request, dagID, runID string) (map[string]json.RawMessage, error) {
	tasks := r.query["result"]
	if len(tasks) == 0 {
		return nil, nil
	}
	out := map[string]json.RawMessage{}
	for _, id := range tasks {
		xs, err := a.Store.XComsOfTask(r.ctx(), dagID, runID, id, "return_value")
		if err != nil {
			return nil, fmt.Errorf("read XComs of task %s: %w", id, err)
		}
		switch {
		case len(xs) == 0:
			out[id] = json.RawMessage("null")
		case len(xs) == 1 && xs[0].Key.MapIndex < 0:
			out[id] = rawOr(xs[0].Value, "null")
		default:
			values := make([]json.RawMessage, len(xs))
			for i, x := range xs {
				values[i] = rawOr(x.Value, "null")
			}
			list, err := encode(values)
			if err != nil {
				return nil, fmt.Errorf("write the results of task %s: %w", id, err)
			}
			out[id] = list
		}
	}
	return out, nil
}

// lines writes newline-delimited JSON, each line at once.
type lines struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	return &lines{w: w, rc: http.NewResponseController(w)}
}

func (l *lines) write(v any) error {
	if err := l.add(v); err != nil {
		return err
	}
	return l.rc.Flush()
}

// add writes a line without sending it yet.
func (l *lines) add(v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// accepts tells whether the client asks for a media type by name.
func (r *request) accepts(kind string) bool {
	return strings.Contains(r.Header.Get("Accept"), kind)
}
