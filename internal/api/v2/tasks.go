package v2

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/dag"
)

func delta(s dag.Seconds) *wire.TimeDelta {
	d := s.Duration()
	days := int(d / (24 * time.Hour))
	d -= time.Duration(days) * 24 * time.Hour
	return &wire.TimeDelta{Type: "TimeDelta", Days: days, Seconds: int(d / time.Second), Microseconds: int(d % time.Second / time.Microsecond)}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func wireTask(d *dag.DAG, t *dag.Task) wire.Task {
	ref, _ := json.Marshal(map[string]string{"module_path": t.Module, "class_name": t.Operator}) // strings always have a JSON form
	out := wire.Task{
		ClassRef: ref, TaskID: t.ID, TaskDisplayName: or(t.DisplayName, t.ID), OperatorName: or(t.OperatorName, t.Operator), Owner: t.Owner,
		StartDate: wire.AtPtr(t.StartDate), EndDate: wire.AtPtr(t.EndDate), TriggerRule: or(string(t.TriggerRule), string(dag.AllSuccess)),
		DependsOnPast: t.DependsOnPast, WaitForDownstream: t.WaitForDownstream, Retries: wire.Float(t.Retries), Queue: or(t.Queue, "default"),
		Pool: or(t.Pool, "default_pool"), PoolSlots: wire.Float(max(t.PoolSlots, 1)), RetryDelay: delta(t.RetryDelay),
		RetryBackoff: wire.Float(t.RetryExponentialFactor), PriorityWeight: wire.Float(max(t.PriorityWeight, 1)), WeightRule: or(t.WeightRule, "downstream"),
		UIColor: or(t.UIColor, "#fff"), UIFgColor: or(t.UIFgColor, "#000"), TemplateFields: t.TemplateFields, DownstreamTaskIDs: downstream(d, t.ID),
		DocMD: opt(t.DocMD), Params: paramsJSON(t.Params), IsMapped: t.Mapped != nil || inMappedGroup(d, t), ExtraLinks: []string{},
	}
	if t.ExecutionTimeout != nil {
		out.ExecutionTimeout = delta(*t.ExecutionTimeout)
	}
	if out.StartDate == nil {
		out.StartDate = wire.AtPtr(d.StartDate)
	}
	if out.EndDate == nil {
		out.EndDate = wire.AtPtr(d.EndDate)
	}
	if out.TemplateFields == nil {
		out.TemplateFields = []string{}
	}
	return out
}

func downstream(d *dag.DAG, id string) []string {
	out := []string{}
	for i := range d.Tasks {
		if slices.Contains(d.Tasks[i].Upstream, id) {
			out = append(out, d.Tasks[i].ID)
		}
	}
	slices.Sort(out)
	return out
}

func inMappedGroup(d *dag.DAG, t *dag.Task) bool {
	for id := t.Group; id != ""; {
		at := slices.IndexFunc(d.Groups, func(g dag.TaskGroup) bool { return g.ID == id })
		if at < 0 {
			return false
		}
		if d.Groups[at].Mapped != nil {
			return true
		}
		id = d.Groups[at].Parent
	}
	return false
}

func (a *API) listTasks(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	name, desc := strings.CutPrefix(or(r.text("order_by"), "task_id"), "-")
	less := map[string]func(x, y wire.Task) int{
		"task_id":           func(x, y wire.Task) int { return strings.Compare(x.TaskID, y.TaskID) },
		"task_display_name": func(x, y wire.Task) int { return strings.Compare(x.TaskDisplayName, y.TaskDisplayName) },
		"owner":             func(x, y wire.Task) int { return strings.Compare(x.Owner, y.Owner) },
		"operator_name":     func(x, y wire.Task) int { return strings.Compare(x.OperatorName, y.OperatorName) },
		"trigger_rule":      func(x, y wire.Task) int { return strings.Compare(x.TriggerRule, y.TriggerRule) },
		"start_date":        func(x, y wire.Task) int { return compareTimes(x.StartDate, y.StartDate) },
	}[name]
	if less == nil {
		return badRequest("'%s' is not a valid attribute to order tasks by", name)
	}
	out := wire.Tasks{Tasks: []wire.Task{}, Total: len(info.DAG.Tasks)}
	for i := range info.DAG.Tasks {
		out.Tasks = append(out.Tasks, wireTask(info.DAG, &info.DAG.Tasks[i]))
	}
	slices.SortStableFunc(out.Tasks, less)
	if desc {
		slices.Reverse(out.Tasks)
	}
	return r.ok(out)
}

func compareTimes(x, y *wire.Time) int {
	if x == nil || y == nil {
		return 0
	}
	return x.Std().Compare(y.Std())
}

func (a *API) getTask(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	for i := range info.DAG.Tasks {
		if info.DAG.Tasks[i].ID == r.path("task_id") {
			return r.ok(wireTask(info.DAG, &info.DAG.Tasks[i]))
		}
	}
	return notFound("Task with id %s was not found in Dag `%s`%s", r.path("task_id"), info.DAG.ID, meant(r.path("task_id"), taskIDs(info.DAG)))
}
