package simtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/protocol"
)

// says is what a task does, in every DAG run alike. The zero value succeeds and returns nothing.
type says struct {
	Fails   int      // so many of its author's tries fail before one succeeds; always: all do
	Final   bool     // a failure is final
	Skips   bool     // it raises AirflowSkipException
	Returns int      // it returns a list of so many elements, plus one; 0: nothing
	Text    bool     // it returns a text instead
	Past    []string // the tasks after it that it does not follow
	Defers  bool     // it waits for a moment without a process, first
	Looks   int      // it looks so often, and goes to sleep in between, before it goes on
	Asks    bool     // it asks a person, who does not answer in time
}

const always = 1 << 20

// list makes a task return so many elements.
func list(n int) says { return says{Returns: n + 1} }

// A story is what the tasks of a DAG do, by id.
type story map[string]says

// stage plays stories, by DAG, and watches what runs beside each other.
type stage struct {
	b       *bubble
	stories map[string]story
	mu      sync.Mutex
	pools   map[string]int // processes by pool
	most    map[string]int
}

func (s *stage) script(a executor.Attempt) scripted.Behaviour {
	ti, c := a.Startup.TI, a.Startup.Context
	told := s.stories[ti.DAGID][ti.TaskID]
	b := scripted.Behaviour{For: time.Duration(1+len(ti.TaskID)%3) * time.Second, Begun: func() { s.count(ti.Pool, 1) }, Gone: func() { s.count(ti.Pool, -1) }}
	now := time.Now()
	resumed := c.NextMethod != ""
	in10 := 10.0
	switch {
	case a.Startup.Kind != protocol.KindTask:
		return scripted.Behaviour{For: time.Second}
	case told.Defers && !resumed:
		moment := fmt.Sprintf(`{"moment":%q}`, now.Add(20*time.Second).UTC().Format(time.RFC3339Nano))
		b.Result = &executor.Result{State: run.Deferred, Reported: true, Defer: &protocol.DeferTask{
			Classpath: "airflow.providers.standard.triggers.temporal.DateTimeTrigger", TriggerKwargs: json.RawMessage(moment), NextMethod: "later"}}
	case told.Asks && !resumed:
		b.Result = &executor.Result{State: run.AwaitingInput, Reported: true, Defer: &protocol.DeferTask{
			Input: json.RawMessage(`{"subject":"well?","options":["yes"],"defaults":["yes"]}`), TriggerTime: &in10, NextMethod: "later"}}
	case c.TaskRescheduleCount < told.Looks:
		at := now.Add(20 * time.Second)
		b.Result = &executor.Result{State: run.UpForReschedule, Reported: true, RescheduleAt: &at}
	case authorTry(a, s.retries(ti.DAGID, ti.TaskID)) <= told.Fails:
		b.Exit, b.Final = 1, told.Final
	case told.Skips:
		b.Result = &executor.Result{State: run.Skipped, Reported: true}
	default:
		s.succeed(&b, told, a)
	}
	return b
}

func (s *stage) succeed(b *scripted.Behaviour, told says, a executor.Attempt) {
	r := executor.Result{State: run.Success, Reported: true}
	if told.Returns > 0 {
		r.XComs = []protocol.XComValue{{Key: "return_value", Value: json.RawMessage(`[]`), MapLength: told.Returns - 1}}
	}
	if told.Text {
		r.XComs = []protocol.XComValue{{Key: "return_value", Value: json.RawMessage(`"text"`), MapLength: -1}}
	}
	for _, t := range told.Past {
		r.SkipTasks = append(r.SkipTasks, json.RawMessage(fmt.Sprintf("%q", t)))
	}
	if a.Startup.TI.TaskID == "makes" {
		r.OutletEvents = json.RawMessage(fmt.Sprintf(`[{"name":"made","uri":"made","extra":{"run":%q}}]`, a.Startup.TI.RunID))
	}
	b.Result = &r
}

// authorTry is which of the author's tries an attempt is, from 1: a try lost with a worker is none.
func authorTry(a executor.Attempt, retries int) int {
	return retries - (a.Startup.Context.MaxTries - a.Startup.TI.TryNumber)
}

func (s *stage) retries(dagID, taskID string) int {
	for _, d := range s.b.dags {
		if d.ID == dagID && d.Task(taskID) != nil {
			return d.Task(taskID).Retries
		}
	}
	return 0
}

func (s *stage) count(pool string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pools == nil {
		s.pools, s.most = map[string]int{}, map[string]int{}
	}
	s.pools[pool] += n
	s.most[pool] = max(s.most[pool], s.pools[pool])
}

// tries is how many of its author's tries a task takes when it runs.
func (t says) tries(retries int) int {
	switch {
	case t.Fails > 0 && t.Final:
		return 1
	case t.Fails > retries:
		return retries + 1
	}
	return t.Fails + 1
}

// end is the state a task ends in when it runs.
func (t says) end(retries int) run.TaskState {
	switch {
	case t.Fails > 0 && t.Final, t.Fails > retries:
		return run.Failed
	case t.Skips:
		return run.Skipped
	}
	return run.Success
}

// These build DAGs in few words.

func hand(id string, tasks ...dag.Task) *dag.DAG {
	return &dag.DAG{ID: id, File: id + ".py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}, Tasks: tasks}
}

func task(id string, up ...string) dag.Task {
	slices.Sort(up)
	return dag.Task{ID: id, Operator: "X", Upstream: up, RetryDelay: sec(5 * time.Second)}
}

func with(t dag.Task, edit func(*dag.Task)) dag.Task { edit(&t); return t }

func ruled(t dag.Task, r dag.TriggerRule) dag.Task { t.TriggerRule = r; return t }

func retried(t dag.Task, n int) dag.Task { t.Retries = n; return t }

func over(source string) *dag.Mapping {
	return &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: -1, Source: &dag.MapSource{Op: dag.MapXCom, Task: source, Key: "return_value"}}}}
}

func mapped(t dag.Task, source string) dag.Task { t.Mapped = over(source); return t }

func grouped(t dag.Task, group string) dag.Task { t.Group = group; return t }
