package scheduler

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

// taskOrder is what an executor needs to run an attempt of a task.
func (s *Scheduler) taskOrder(lr *liveRun, ti run.TaskInstance, a *openAttempt) *executor.Attempt {
	o := s.order(lr, ti, a)
	o.Startup.Kind = protocol.KindTask
	o.LogPath = LogPath(ti.Key, ti.TryNumber)
	task := lr.run.Task(ti.Key)
	if task == nil {
		return o
	}
	o.Callbacks, o.GPUs = callbackNames(task.Callbacks), a.row.GPUs
	if task.Isolation != "" {
		o.Isolation = task.Isolation
	}
	if task.ExecutionTimeout != nil {
		o.ExecutionTimeout = task.ExecutionTimeout.Duration()
		o.Startup.ExecutionTimeout = o.ExecutionTimeout.Seconds()
	}
	return o
}

// callbackNames lists the callbacks the author gave that can be owed.
func callbackNames(c dag.Callbacks) []string {
	var names []string
	for name, given := range map[string]bool{
		"on_failure_callback": c.OnFailure, "on_success_callback": c.OnSuccess,
		"on_retry_callback": c.OnRetry, "on_skipped_callback": c.OnSkipped,
	} {
		if given {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// order fills in what tasks and callbacks have in common.
func (s *Scheduler) order(lr *liveRun, ti run.TaskInstance, a *openAttempt) *executor.Attempt {
	g := lr.run.Index().DAG
	compat := g.Compat
	if compat == "" {
		compat = s.cfg.Compat
	}
	return &executor.Attempt{
		ID: a.row.ID, Token: a.token, Instance: a.row.Instance, Interpreter: s.cfg.Interpreter, Isolation: s.cfg.Isolation, Grace: s.cfg.Grace,
		Compat: compat,
		Startup: protocol.StartupDetails{
			Type: "StartupDetails", TI: s.taskRef(lr, ti, a), DagRelPath: g.File,
			Bundle: protocol.BundleInfo{
				Name: s.cfg.BundleName, Version: lr.run.Row().BundleVersion, Path: s.cfg.BundlePath(lr.run.Row().BundleVersion),
				Shown: s.cfg.BundleShown,
			},
			StartDate: s.now(), Context: s.context(lr, ti), BaseURL: s.cfg.BaseURL, Compat: compat, Defaults: s.cfg.Defaults,
		},
	}
}

func (s *Scheduler) taskRef(lr *liveRun, ti run.TaskInstance, a *openAttempt) protocol.TaskRef {
	ref := protocol.TaskRef{
		ID: ti.TryID(), AttemptID: a.row.ID, DAGID: lr.key.DAGID, RunID: lr.key.RunID, TaskID: ti.TaskID, MapIndex: ti.MapIndex,
		TryNumber: ti.TryNumber, Pool: plan.DefaultPool, PoolSlots: 1, PriorityWeight: 1,
	}
	x := lr.run.Index()
	if pos, ok := x.Pos(ti.TaskID); ok {
		t := x.At(pos)
		ref.Queue, ref.Pool, ref.PoolSlots, ref.PriorityWeight = t.Queue, t.PoolName(), t.Slots(), x.Weight(pos)
	}
	return ref
}

// context is what the task's templates and callables see of its run.
func (s *Scheduler) context(lr *liveRun, ti run.TaskInstance) protocol.TIRunContext {
	c := protocol.TIRunContext{
		DagRun: WireRun(lr.run.Row()), MaxTries: ti.MaxTries, ShouldRetry: lr.run.WillRetry(ti.Key),
		TaskRescheduleCount: ti.RescheduleCount, NextMethod: ti.NextMethod, NextKwargs: ti.NextKwargs,
	}
	if ti.RescheduleCount > 0 || ti.NextMethod != "" {
		c.FirstStartDate = ti.StartDate
	}
	if n, ok := lr.run.MapCount(ti.TaskID); ok {
		c.ExpandedTICount = &n
	}
	x := lr.run.Index()
	if pos, ok := x.Pos(ti.TaskID); ok && ti.MapIndex >= 0 {
		for _, up := range x.Upstream(pos) {
			if x.Paired(pos, up) {
				if c.UpstreamMapIndexes == nil {
					c.UpstreamMapIndexes = map[string]json.RawMessage{}
				}
				c.UpstreamMapIndexes[x.At(up).ID] = fmt.Appendf(nil, "%d", ti.MapIndex)
			}
		}
	}
	n := s.neighboursOf(lr)
	if n.hasPrev {
		c.PrevIntervalStart, c.PrevIntervalEnd = utc(n.prev.Interval.Start), utc(n.prev.Interval.End)
	}
	if n.hasNext {
		c.NextIntervalStart, c.NextIntervalEnd = utc(n.next.Interval.Start), utc(n.next.Interval.End)
	}
	return c
}

func utc(t time.Time) *time.Time {
	t = t.UTC()
	return &t
}

// WireRun is a DAG run as tasks see it.
func WireRun(r run.DAGRun) protocol.DagRun {
	conf := r.Conf
	if len(conf) == 0 {
		conf = json.RawMessage("{}")
	}
	queued := r.QueuedAt
	return protocol.DagRun{
		DAGID: r.DAGID, RunID: r.RunID, RunType: string(r.Type), State: string(r.State),
		LogicalDate: r.LogicalDate, DataIntervalStart: r.DataIntervalStart, DataIntervalEnd: r.DataIntervalEnd,
		RunAfter: r.RunAfter, QueuedAt: &queued, StartDate: r.StartDate, EndDate: r.EndDate, ClearNumber: r.ClearNumber,
		Conf: conf, TriggeringUser: r.TriggeredBy, Note: r.Note,
	}
}

// callbackLogPath is where a callback's output goes: beside the log of the attempt it is about, or in the run's folder.
func callbackLogPath(c plan.Callback, id int64, attemptTry int) string {
	if c.Task != nil {
		return CallbackLogPath(*c.Task, attemptTry, c.Kind)
	}
	return path.Join("dag_id="+c.DAGID, "run_id="+c.RunID, fmt.Sprintf("%s-%d.log", c.Kind, id))
}

// TaskCallbacks are the callbacks a task's attempt may owe when it has ended, in the order in which their output is shown.
var TaskCallbacks = []string{"on_retry_callback", "on_failure_callback", "on_success_callback", "on_skipped_callback"}

// CallbackLogPath is where the output of a callback of an attempt lies that was run in a process of its own, below the log
// root.
func CallbackLogPath(k run.Key, try int, kind string) string {
	return strings.TrimSuffix(LogPath(k, try), "log") + kind + ".log"
}

// LogPath is where the log of an attempt lies below the log root, in Airflow's layout.
func LogPath(k run.Key, try int) string {
	p := path.Join("dag_id="+k.DAGID, "run_id="+k.RunID, "task_id="+k.TaskID)
	if k.MapIndex >= 0 {
		p = path.Join(p, fmt.Sprintf("map_index=%d", k.MapIndex))
	}
	return path.Join(p, fmt.Sprintf("attempt=%d.log", try))
}
