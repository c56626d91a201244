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

// between reads the range of a date from NAME_gte or _gt to NAME_lte or _lt: times have microseconds, so "greater" is "at
// least one more". moment reads one member of a query or a body.
func between(name string, moment func(string) *time.Time) (from, to *time.Time) {
	bound := func(with, without string, step time.Duration) *time.Time {
		if t := moment(name + with); t != nil {
			return t
		}
		if t := moment(name + without); t != nil {
			next := t.Add(step)
			return &next
		}
		return nil
	}
	return bound("_gte", "_gt", microsecond), bound("_lte", "_lt", -microsecond)
}

// dates reads the ranges that runs are chosen by.
func dates(f *store.RunFilter, moment func(string) *time.Time) {
	f.LogicalDateGTE, f.LogicalDateLTE = between("logical_date", moment)
	f.StartDateGTE, f.StartDateLTE = between("start_date", moment)
	f.RunAfterGTE, f.RunAfterLTE = between("run_after", moment)
}

func (a *API) listRuns(r *request) error {
	if err := r.unserved(runsUnserved...); err != nil {
		return err
	}
	f := store.RunFilter{DAGID: r.path("dag_id"), States: enums(r, "state", runStates), Types: enums(r, "run_type", runTypes),
		RunIDPattern: r.text("run_id_pattern")}
	dates(&f, r.moment)
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
	var f store.RunFilter
	page := readPage(body)
	for _, s := range body.texts("states") {
		f.States = append(f.States, run.State(s))
	}
	ids := body.texts("dag_ids")
	dates(&f, body.moment)
	if err := body.unserved("end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt", "duration_gte", "duration_gt", "duration_lte", "duration_lt", "conf_contains"); err != nil {
		return err
	}
	if f.DAGID, err = onlyOne("dag_ids", ids); err != nil {
		return err
	}
	if err := body.done(); err != nil {
		return err
	}
	f.Limit, f.Offset = page.limit, page.offset
	if f.OrderBy, err = orderBy("DagRun", page.order, runOrder); err != nil {
		return err
	}
	return a.answerRuns(r, f)
}

// bodyPage is which part of a list a body asks for, and in which order.
type bodyPage struct {
	limit, offset int
	order         []string
}

func readPage(body *fields) bodyPage {
	p := bodyPage{limit: maximumLimit}
	if n := body.integer("page_limit", 0); n != nil {
		p.limit = min(*n, maximumLimit)
	}
	if n := body.integer("page_offset", 0); n != nil {
		p.offset = *n
	}
	if order := body.text("order_by", 0); order != nil {
		p.order = []string{*order}
	}
	return p
}

// onlyOne is the element of a list in a body that may have one; empty when it has none.
func onlyOne(name string, list []string) (string, error) {
	switch len(list) {
	case 0:
		return "", nil
	case 1:
		return list[0], nil
	}
	return "", &refusal{status: http.StatusNotImplemented, detail: "More than one element in " + name + " is not served"}
}

func onlyWildcard(r *request, names ...string) error {
	for _, n := range names {
		if got := r.path(n); got != everyDAG {
			r.fault(wire.Fault{Type: "literal_error", Loc: []any{"path", n}, Msg: "Input should be '~'", Input: quoted(got), Ctx: map[string]any{"expected": "'~'"}})
		}
	}
	return r.bad()
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
	return a.answerRun(r, one)
}

// answerRun answers with one run.
func (a *API) answerRun(r *request, one run.DAGRun) error {
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
