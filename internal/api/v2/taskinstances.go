package v2

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

var (
	taskStates = []run.TaskState{"removed", "scheduled", "queued", "running", "success", "restarting", "failed", "up_for_retry",
		"up_for_reschedule", "upstream_failed", "skipped", "deferred", "awaiting_input", "none", "no_status"}
	settableTask = []run.TaskState{run.Success, run.Failed, run.Skipped}
	tiOrder      = map[string]string{"id": "id", "state": "state", "start_date": "start_date", "end_date": "end_date", "map_index": "map_index",
		"try_number": "try_number", "logical_date": "logical_date", "run_after": "run_after", "duration": "duration"}
	tisUnserved = []string{"end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt", "start_date_gte", "start_date_gt", "start_date_lte", "start_date_lt",
		"run_after_gte", "run_after_gt", "run_after_lte", "run_after_lt", "logical_date_gte", "logical_date_gt", "logical_date_lte", "logical_date_lt",
		"duration_gte", "duration_gt", "duration_lte", "duration_lt", "updated_at_gte", "updated_at_gt", "updated_at_lte", "updated_at_lt",
		"task_display_name_pattern", "dag_id_pattern", "run_id_pattern", "pool_name_pattern", "queue", "queue_name_pattern", "executor",
		"version_number", "try_number", "operator", "operator_name_pattern", "cursor"}
)

// keyOf reads the path of a task instance.
func keyOf(r *request, mapIndex int) run.Key {
	return run.Key{DAGID: r.path("dag_id"), RunID: r.path("dag_run_id"), TaskID: r.path("task_id"), MapIndex: mapIndex}
}

// instance loads a task instance, or answers with Airflow's 404s: one for a mapped task asked for without its index.
func (a *API) instance(r *request, k run.Key) (run.TaskInstance, error) {
	ti, err := a.Store.TaskInstance(r.ctx(), k)
	if !errors.Is(err, store.ErrNotFound) {
		return ti, err
	}
	if k.MapIndex >= 0 {
		return ti, notFound("The Mapped Task Instance with dag_id: `%s`, run_id: `%s`, task_id: `%s`, and map_index: `%d` was not found", k.DAGID, k.RunID, k.TaskID, k.MapIndex)
	}
	_, n, err := a.Store.TaskInstances(r.ctx(), store.TIFilter{DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID, Limit: 1})
	if err != nil {
		return ti, fmt.Errorf("look for mapped instances of %s: %w", k.TaskID, err)
	}
	if n > 0 {
		return ti, notFound("Task instance is mapped, add the map_index value to the URL")
	}
	return ti, a.noInstance(r, k)
}

// noInstance is the 404 of a task that a run does not have.
func (a *API) noInstance(r *request, k run.Key) error {
	return notFound("The Task Instance with dag_id: `%s`, run_id: `%s` and task_id: `%s` was not found%s", k.DAGID, k.RunID, k.TaskID,
		a.nearestTask(r.ctx(), k.DAGID, k.RunID, k.TaskID))
}

// waits says what the instances of a live run wait for, asked of the scheduler once per request and run.
func (v *view) waits(k run.Key) string {
	rk := run.Key{DAGID: k.DAGID, RunID: k.RunID}
	reasons, ok := v.waiting[rk]
	if !ok {
		reasons = map[run.Key]string{}
		blocked, err := v.api.Scheduler.WhyWaiting(v.ctx, k.DAGID, k.RunID)
		if err != nil {
			v.api.Log.Debug("ask why a DAG run waits", "dag", k.DAGID, "run", k.RunID, "err", err)
		}
		for _, b := range blocked {
			reasons[b.Key] = b.Reason
		}
		v.waiting[rk] = reasons
	}
	return reasons[k]
}

func mayWait(s run.TaskState) bool {
	switch s {
	case run.None, run.Scheduled, run.Queued, run.UpForRetry, run.UpForReschedule, run.Deferred, run.AwaitingInput:
		return true
	}
	return false
}

// described is what answers say of a task beside its instance.
type described struct {
	task            *dag.Task
	ver             *version
	display, pool   string
	slots, priority int
	queue           string
}

func (v *view) describe(r run.DAGRun, taskID string) (described, error) {
	ver, err := v.version(r.DAGID, r.DAGVersion)
	if err != nil {
		return described{}, err
	}
	out := described{ver: ver, task: ver.task(taskID), display: taskID, pool: "default_pool", slots: 1, priority: 1, queue: "default"}
	if t := out.task; t != nil {
		out.display, out.pool, out.slots, out.queue = or(t.DisplayName, t.ID), or(t.Pool, "default_pool"), max(t.PoolSlots, 1), or(t.Queue, "default")
		out.priority = ver.priority(taskID)
	}
	return out, nil
}

func (v *view) wireTI(ti run.TaskInstance) (wire.TaskInstance, error) {
	r, err := v.run(ti.DAGID, ti.RunID)
	if err != nil {
		return wire.TaskInstance{}, err
	}
	d, err := v.describe(r, ti.TaskID)
	if err != nil {
		return wire.TaskInstance{}, err
	}
	out := wire.TaskInstance{
		ID: ti.TryID(), TaskID: ti.TaskID, DAGID: ti.DAGID, DagRunID: ti.RunID, MapIndex: ti.MapIndex, LogicalDate: wire.AtPtr(r.LogicalDate),
		RunAfter: wire.At(r.RunAfter), StartDate: wire.AtPtr(ti.StartDate), EndDate: wire.AtPtr(ti.EndDate), Duration: seconds(ti.StartDate, ti.EndDate),
		State: opt(string(ti.State)), TryNumber: ti.TryNumber, MaxTries: ti.MaxTries, TaskDisplayName: d.display, DagDisplayName: d.ver.display(ti.DAGID),
		Hostname: opt(ti.Hostname), Pool: d.pool, PoolSlots: d.slots, Queue: &d.queue, PriorityWeight: &d.priority,
		QueuedWhen: wire.AtPtr(ti.QueuedAt), ScheduledWhen: wire.AtPtr(ti.ScheduledAt), ExecutorConfig: emptyObject, Note: opt(ti.Note),
		RenderedMapIndex: renderedIndex(ti), RenderedFields: json.RawMessage(emptyObject),
		Ostro: wire.TIExtras{AttemptID: ti.AttemptID, Reason: ti.Reason, InfraRetries: ti.InfraRetries, NextAt: wire.AtPtr(ti.NextAt)},
	}
	if ti.PID > 0 {
		out.PID = &ti.PID
	}
	if d.task != nil {
		out.Operator, out.OperatorName, out.Executor = opt(d.task.Operator), opt(or(d.task.OperatorName, d.task.Operator)), opt(d.task.Executor)
		out.ExecutorConfig = string(rawOr(d.task.ExecutorConfig, emptyObject))
	}
	if d.ver != nil {
		w := wireVersion(d.ver.dag, d.ver.info)
		out.DagVersion = &w
	}
	if mayWait(ti.State) && !finishedRun[r.State] {
		out.Ostro.Waiting = v.waits(ti.Key)
	}
	return out, v.addAttempt(&out, ti)
}

// addAttempt adds what is known of the current attempt: rendered fields, notices, how its process came about and ended.
func (v *view) addAttempt(out *wire.TaskInstance, ti run.TaskInstance) error {
	if ti.AttemptID == "" {
		return nil
	}
	at, err := v.api.Store.Attempt(v.ctx, ti.AttemptID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load attempt %s: %w", ti.AttemptID, err)
	}
	out.RenderedFields = rawOr(at.Rendered, emptyObject)
	if out.PID == nil && at.PID > 0 {
		out.PID = &at.PID
	}
	if out.Hostname == nil {
		out.Hostname = opt(at.Hostname)
	}
	reason, waiting, next := out.Ostro.Reason, out.Ostro.Waiting, out.Ostro.NextAt
	out.Ostro = attemptExtras(at)
	out.Ostro.Waiting, out.Ostro.NextAt, out.Ostro.InfraRetries = waiting, next, ti.InfraRetries
	if reason != "" {
		out.Ostro.Reason = reason
	}
	return nil
}

func attemptExtras(at run.Attempt) wire.TIExtras {
	return wire.TIExtras{AttemptID: at.ID, Reason: at.Reason, Notices: at.Notices, Isolation: at.Isolation, IsolationReason: at.IsolationReason,
		ExitCode: at.ExitCode, Signal: at.Signal, Infra: at.Infra, MaxRSS: at.MaxRSS, CPUSeconds: at.CPUTime.Seconds(),
		GPUs: wireGPUs(at.GPUs), GPUUse: wireGPUUse(at.GPUUse)}
}

func renderedIndex(ti run.TaskInstance) *string {
	if ti.RenderedMapIndex != "" {
		return &ti.RenderedMapIndex
	}
	if ti.MapIndex >= 0 {
		s := strconv.Itoa(ti.MapIndex)
		return &s
	}
	return nil
}

func (v *view) wireTIs(tis []run.TaskInstance) ([]wire.TaskInstance, error) {
	out := make([]wire.TaskInstance, 0, len(tis))
	for _, ti := range tis {
		w, err := v.wireTI(ti)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// stateFilter maps Airflow's words for "no state yet" to the empty state.
func stateFilter(in []run.TaskState) []run.TaskState {
	for i, s := range in {
		if s == "none" || s == "no_status" {
			in[i] = run.None
		}
	}
	return in
}

func (a *API) listTIs(r *request) error {
	if err := r.unserved(append(tisUnserved, "task_group_id")...); err != nil {
		return err
	}
	return a.queryTIs(r, store.TIFilter{DAGID: r.path("dag_id"), RunID: r.path("dag_run_id"), TaskID: r.text("task_id")})
}

func (a *API) queryTIs(r *request, f store.TIFilter) error {
	f.States, f.Pools = stateFilter(enums(r, "state", taskStates)), r.query["pool"]
	if r.has("map_index") {
		n := r.mapIndex()
		f.MapIndex = &n
	}
	f.Limit, f.Offset = r.page()
	order, err := r.order("TaskInstance", tiOrder)
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
		if f.RunID != everyDAG {
			if _, err := a.dagRun(r.ctx(), f.DAGID, f.RunID); err != nil {
				return err
			}
		}
	}
	return a.answerTIs(r, f)
}

func (a *API) answerTIs(r *request, f store.TIFilter) error {
	empty := f.Limit == 0
	f.Limit = max(f.Limit, 1)
	tis, total, err := a.Store.TaskInstances(r.ctx(), f)
	if err != nil {
		return fmt.Errorf("list task instances: %w", err)
	}
	if empty {
		tis = nil
	}
	return a.answerInstances(r, tis, total)
}

// answerInstances answers with instances out of a total.
func (a *API) answerInstances(r *request, tis []run.TaskInstance, total int) error {
	out, err := a.view(r.ctx()).wireTIs(tis)
	if err != nil {
		return err
	}
	return r.ok(wire.TaskInstances{TaskInstances: out, Total: total})
}

// batchTIs is POST …/taskInstances/list, which exists for the wildcards only.
func (a *API) batchTIs(r *request) error {
	if err := onlyWildcard(r, "dag_id", "dag_run_id"); err != nil {
		return err
	}
	body, err := r.readBody()
	if err != nil {
		return err
	}
	f := store.TIFilter{Pools: body.texts("pool")}
	for _, s := range body.texts("state") {
		f.States = append(f.States, run.TaskState(s))
	}
	f.States = stateFilter(f.States)
	for name, into := range map[string]*string{"dag_ids": &f.DAGID, "dag_run_ids": &f.RunID, "task_ids": &f.TaskID} {
		if *into, err = onlyOne(name, body.texts(name)); err != nil {
			return err
		}
	}
	page := readPage(body)
	if err := body.unserved(append([]string{"executor", "queue"}, tisUnserved[:20]...)...); err != nil {
		return err
	}
	if err := body.done(); err != nil {
		return err
	}
	f.Limit, f.Offset = page.limit, page.offset
	if f.OrderBy, err = orderBy("TaskInstance", page.order, tiOrder); err != nil {
		return err
	}
	return a.answerTIs(r, f)
}

func (a *API) getTI(r *request) error { return a.oneTI(r, -1) }

func (a *API) getMappedTI(r *request) error {
	n := r.pathInt("map_index")
	if err := r.bad(); err != nil {
		return err
	}
	return a.oneTI(r, n)
}

func (a *API) oneTI(r *request, mapIndex int) error {
	ti, err := a.instance(r, keyOf(r, mapIndex))
	if err != nil {
		return err
	}
	w, err := a.view(r.ctx()).wireTI(ti)
	if err != nil {
		return err
	}
	return r.ok(w)
}

func (a *API) listMapped(r *request) error {
	if err := r.unserved(tisUnserved...); err != nil {
		return err
	}
	k := keyOf(r, -1)
	one, err := a.dagRun(r.ctx(), k.DAGID, k.RunID)
	if err != nil {
		return err
	}
	d, err := a.view(r.ctx()).describe(one, k.TaskID)
	if err != nil {
		return err
	}
	if d.task == nil {
		return notFound("Task id %s not found", k.TaskID)
	}
	if d.task.Mapped == nil && !inMappedGroup(d.ver.dag, d.task) {
		return notFound("Task id %s is not mapped", k.TaskID)
	}
	return a.queryTIs(r, store.TIFilter{DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID})
}

// tries is the history of an instance. A try that was rescheduled or deferred has had several processes; it is shown as
// one, as in Airflow: it began with the first and stands as the last does.
func (a *API) tries(r *request, mapIndex int) ([]wire.Try, error) {
	k := keyOf(r, mapIndex)
	ti, err := a.instance(r, k)
	if err != nil {
		return nil, err
	}
	v := a.view(r.ctx())
	one, err := v.run(k.DAGID, k.RunID)
	if err != nil {
		return nil, err
	}
	d, err := v.describe(one, k.TaskID)
	if err != nil {
		return nil, err
	}
	attempts, err := a.Store.Attempts(r.ctx(), k)
	if err != nil {
		return nil, fmt.Errorf("list attempts of %s: %w", k.TaskID, err)
	}
	out := []wire.Try{}
	var began *time.Time // of the try
	for i, at := range attempts {
		if i > 0 && attempts[i-1].TryNumber == at.TryNumber {
			out = out[:len(out)-1]
			at.StartedAt = firstTime(began, at.StartedAt)
		}
		began = at.StartedAt
		out = append(out, wireTry(ti, at, d))
	}
	return out, nil
}

func firstTime(a, b *time.Time) *time.Time {
	if a == nil {
		return b
	}
	return a
}

func wireTry(ti run.TaskInstance, at run.Attempt, d described) wire.Try {
	out := wire.Try{
		TaskID: at.TaskID, DAGID: at.DAGID, DagRunID: at.RunID, MapIndex: at.MapIndex, StartDate: wire.AtPtr(at.StartedAt), EndDate: wire.AtPtr(at.EndedAt),
		Duration: seconds(at.StartedAt, at.EndedAt), State: opt(string(at.State)), TryNumber: at.TryNumber, MaxTries: ti.MaxTries,
		TaskDisplayName: d.display, DagDisplayName: d.ver.display(at.DAGID), Hostname: opt(at.Hostname), Pool: d.pool, PoolSlots: d.slots,
		Queue: &d.queue, PriorityWeight: &d.priority, QueuedWhen: wire.AtPtr(&at.QueuedAt), Executor: opt(at.Executor), ExecutorConfig: emptyObject,
		Ostro: attemptExtras(at),
	}
	if at.ID == ti.AttemptID { // the attempt's own state says how its process ended; the instance's what became of it
		out.State, out.ScheduledWhen = opt(string(ti.State)), wire.AtPtr(ti.ScheduledAt)
	}
	if at.PID > 0 {
		out.PID = &at.PID
	}
	if d.task != nil {
		out.Operator, out.OperatorName = opt(d.task.Operator), opt(or(d.task.OperatorName, d.task.Operator))
	}
	if d.ver != nil {
		w := wireVersion(d.ver.dag, d.ver.info)
		out.DagVersion = &w
	}
	return out
}

// indexOf is the map index of a route that has it in the path, or else in the query.
func indexOf(r *request) int {
	if _, ok := r.params["map_index"]; ok {
		return r.pathInt("map_index")
	}
	return r.mapIndex()
}

// named loads the instance that a route names by its path, and perhaps by a map index in the query.
func (a *API) named(r *request) (run.TaskInstance, error) {
	n := indexOf(r)
	if err := r.bad(); err != nil {
		return run.TaskInstance{}, err
	}
	return a.instance(r, keyOf(r, n))
}

func (a *API) listTries(r *request) error {
	n := indexOf(r)
	if err := r.bad(); err != nil {
		return err
	}
	tries, err := a.tries(r, n)
	if err != nil {
		return err
	}
	return r.ok(wire.Tries{TaskInstances: tries, Total: len(tries)})
}

func (a *API) getTry(r *request) error {
	n, try := indexOf(r), r.pathInt("task_try_number")
	if err := r.bad(); err != nil {
		return err
	}
	tries, err := a.tries(r, n)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(tries, func(t wire.Try) bool { return t.TryNumber == try })
	if at < 0 {
		k := keyOf(r, n)
		return notFound("The Task Instance with dag_id: `%s`, run_id: `%s`, task_id: `%s`, try_number: `%d` and map_index: `%d` was not found", k.DAGID, k.RunID, k.TaskID, try, n)
	}
	return r.ok(tries[at])
}

// dependencies answers why an instance does not run.
func (a *API) dependencies(r *request) error {
	ti, err := a.named(r)
	if err != nil {
		return err
	}
	out := wire.Dependencies{Dependencies: []wire.Dependency{}}
	if mayWait(ti.State) {
		if reason := a.view(r.ctx()).waits(ti.Key); reason != "" {
			out.Dependencies = append(out.Dependencies, wire.Dependency{Name: "Scheduler", Reason: reason})
		}
	}
	if ti.Reason != "" && mayWait(ti.State) {
		out.Dependencies = append(out.Dependencies, wire.Dependency{Name: "Task Instance State", Reason: ti.Reason})
	}
	return r.ok(out)
}
