package taskapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/taskapi"
	"ostro.dev/ostro/protocol"
)

// fakeScheduler creates runs straight in the store.
type fakeScheduler struct {
	taskapi.Scheduler
	db      *store.DB
	pushed  map[string]int
	keys    map[string]bool
	resets  int
	stopped bool
}

func (f *fakeScheduler) Trigger(ctx context.Context, actor string, r scheduler.TriggerRequest) (run.DAGRun, error) {
	if f.stopped {
		return run.DAGRun{}, errors.Join(scheduler.ErrStopped, errors.New("the commit was interrupted"))
	}
	if have, err := f.db.Run(ctx, r.DAGID, r.RunID); err == nil && r.Key != "" && f.keys[actor+" "+r.Key] {
		return have, nil
	}
	f.keys[actor+" "+r.Key] = true
	if r.DAGID != "d" {
		return run.DAGRun{}, fmt.Errorf("there is no DAG %q: %w", r.DAGID, scheduler.ErrNotFound)
	}
	row := run.DAGRun{DAGID: r.DAGID, RunID: r.RunID, Type: run.TypeManual, State: run.RunQueued, RunAfter: time.Now(),
		QueuedAt: time.Now(), LogicalDate: r.LogicalDate, TriggeredBy: actor, DAGVersion: 1}
	err := f.db.Update(ctx, actor, time.Now(), func(tx *store.Tx) error { return tx.CreateRun(&row, nil) })
	if errors.Is(err, store.ErrConflict) && r.Reset {
		f.resets++
		return f.db.Run(ctx, r.DAGID, r.RunID)
	}
	if errors.Is(err, store.ErrConflict) {
		err = fmt.Errorf("it exists: %w", scheduler.ErrConflict)
	}
	return row, err
}

func (f *fakeScheduler) Pushed(_, key string, n int) { f.pushed[key] = n }

func (f *fakeScheduler) CallbackAttempt(id, token string) (run.Attempt, bool) {
	return run.Attempt{ID: id, Key: run.Key{DAGID: "d", RunID: "r2", TaskID: "t", MapIndex: -1}}, id == "callback" && token == "callback token"
}

type world struct {
	t     *testing.T
	db    *store.DB
	sched *fakeScheduler
	api   *taskapi.Service

	scratch string
}

const (
	attempt = "01890a5d-ac96-774b-bcce-b302099a8057"
	token   = "the token"
)

// newWorld has DAG d with runs r1 (success) and r2 (running), whose task t runs as attempt; task m has three instances.
func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "control.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{t: t, db: db, scratch: t.TempDir(), sched: &fakeScheduler{db: db, pushed: map[string]int{}, keys: map[string]bool{}}}
	w.api = taskapi.New(db, w.sched, w.scratch, slog.New(slog.DiscardHandler))
	d := &dag.DAG{ID: "d", File: "d.py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}, Tasks: []dag.Task{{ID: "t"}, {ID: "m"}}}
	now := time.Date(2024, 1, 3, 0, 0, 0, 0, time.UTC)
	w.update(func(tx *store.Tx) error {
		if _, _, err := tx.PutDAG(d, "b", "v", false); err != nil {
			return err
		}
		for i, state := range []run.State{run.RunSuccess, run.RunRunning} {
			at := now.AddDate(0, 0, i)
			r := &run.DAGRun{DAGID: "d", RunID: fmt.Sprintf("r%d", i+1), Type: run.TypeManual, State: state, LogicalDate: &at,
				DataIntervalStart: &at, DataIntervalEnd: &at, RunAfter: at, QueuedAt: at, DAGVersion: 1, BundleVersion: "v"}
			var tis []run.TaskInstance
			for j, k := range []run.Key{{TaskID: "t", MapIndex: -1}, {TaskID: "m", MapIndex: 0}, {TaskID: "m", MapIndex: 1}, {TaskID: "m", MapIndex: 2}} {
				k.DAGID, k.RunID = "d", r.RunID
				tis = append(tis, run.TaskInstance{Key: k, ID: fmt.Sprint(i, j), State: run.Success, TryNumber: 1})
			}
			if err := tx.CreateRun(r, tis); err != nil {
				return err
			}
		}
		k := run.Key{DAGID: "d", RunID: "r2", TaskID: "t", MapIndex: -1}
		if err := tx.CreateAttempt(run.Attempt{Key: k, ID: attempt, TryNumber: 1, QueuedAt: now}, scheduler.HashToken(token)); err != nil {
			return err
		}
		for i := range 3 {
			k := run.Key{DAGID: "d", RunID: "r2", TaskID: "m", MapIndex: i}
			if err := tx.PutXCom(k, "return_value", json.RawMessage(fmt.Sprint(10*i)), -1); err != nil {
				return err
			}
		}
		return tx.PutConnection(store.Connection{ID: "warehouse", Type: "postgres", Host: "h", Password: "secret"})
	})
	return w
}

func (w *world) update(f func(*store.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), "test", time.Now(), f); err != nil {
		w.t.Fatal(err)
	}
}

// ask returns the answer as JSON text, or the code of the refusal.
func (w *world) ask(request string) string {
	w.t.Helper()
	return w.askAs(attempt, token, request)
}

func (w *world) askAs(id, token, request string) string {
	w.t.Helper()
	answer, err := w.api.Call(w.t.Context(), id, token, json.RawMessage(request))
	var refused *protocol.Error
	switch {
	case errors.As(err, &refused):
		return refused.Code
	case err != nil:
		w.t.Fatalf("an error that is no protocol error: %v", err)
	}
	return string(answer)
}

// UNAVAILABLE has the worker ask again; any other code would fail the task.
func TestAServerThatStopsHasTheTasksRequestAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.sched.stopped = true
	if got := w.ask(`{"type":"TriggerDagRun","dag_id":"d","run_id":"new"}`); got != protocol.CodeUnavailable {
		t.Errorf("the answer is %s", got)
	}
}

func TestRequests(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ name, request, want string }{
		{"an unknown request", `{"type":"Fly"}`, protocol.CodeNotSupported},
		{"no JSON", `{`, protocol.CodeInvalid},
		{"push", `{"type":"SetXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"k","value":[1,2],"map_length":2}`, `{"type":"OKResponse","ok":true}`},
		{"pull", `{"type":"GetXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"k"}`, `{"type":"XComResult","key":"k","value":[1,2],"found":true}`},
		{"pull nothing", `{"type":"GetXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"other"}`, `{"type":"XComResult","key":"other","value":null,"found":false}`},
		{"pull by map index", `{"type":"GetXCom","dag_id":"d","run_id":"r2","task_id":"m","map_index":2,"key":"return_value"}`, `{"type":"XComResult","key":"return_value","value":20,"found":true}`},
		{"count", `{"type":"GetXComCount","dag_id":"d","run_id":"r2","task_id":"m","key":"return_value"}`, `{"type":"XComCountResponse","len":3}`},
		{"last item", `{"type":"GetXComSequenceItem","dag_id":"d","run_id":"r2","task_id":"m","key":"return_value","offset":-1}`, `{"type":"XComResult","key":"return_value","value":20,"found":true}`},
		{"no such item", `{"type":"GetXComSequenceItem","dag_id":"d","run_id":"r2","task_id":"m","key":"return_value","offset":3}`, protocol.CodeXComNotFound},
		{"slice", `{"type":"GetXComSequenceSlice","dag_id":"d","run_id":"r2","task_id":"m","key":"return_value","start":1}`, `{"type":"XComSequenceSliceResult","root":[10,20]}`},
		{"slice backwards", `{"type":"GetXComSequenceSlice","dag_id":"d","run_id":"r2","task_id":"m","key":"return_value","step":-1}`, `{"type":"XComSequenceSliceResult","root":[20,10,0]}`},
		{"delete", `{"type":"DeleteXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"k"}`, `{"type":"OKResponse","ok":true}`},
		{"deleted", `{"type":"GetXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"k"}`, `{"type":"XComResult","key":"k","value":null,"found":false}`},
		{"no variable", `{"type":"GetVariable","key":"v"}`, protocol.CodeVariableNotFound},
		{"put variable", `{"type":"PutVariable","key":"v","value":"x"}`, `{"type":"OKResponse","ok":true}`},
		{"variable", `{"type":"GetVariable","key":"v"}`, `{"type":"VariableResult","key":"v","value":"x"}`},
		{"delete variable", `{"type":"DeleteVariable","key":"v"}`, `{"type":"OKResponse","ok":true}`},
		{"delete it again", `{"type":"DeleteVariable","key":"v"}`, `{"type":"OKResponse","ok":true}`},
		{"connection", `{"type":"GetConnection","conn_id":"warehouse"}`, `{"type":"ConnectionResult","conn_id":"warehouse","conn_type":"postgres","host":"h","password":"secret"}`},
		{"no connection", `{"type":"GetConnection","conn_id":"x"}`, protocol.CodeConnectionNotFound},
		{"run state", `{"type":"GetDagRunState","dag_id":"d","run_id":"r1"}`, `{"type":"DagRunStateResult","state":"success"}`},
		{"no run", `{"type":"GetDagRunState","dag_id":"d","run_id":"x"}`, protocol.CodeNotFound},
		{"instances", `{"type":"GetTICount","dag_id":"d","run_ids":["r2"],"task_ids":["m"]}`, `{"type":"TICount","count":3}`},
		{"runs", `{"type":"GetDRCount","dag_id":"d","states":["success"]}`, `{"type":"DRCount","count":1}`},
		{"instances of no DAG", `{"type":"GetTICount"}`, protocol.CodeInvalid},
		{"instances by map index", `{"type":"GetTICount","dag_id":"d","map_index":1}`, `{"type":"TICount","count":2}`},
		{"instances by date and state", `{"type":"GetTICount","dag_id":"d","logical_dates":["2024-01-03T00:00:00Z"],"states":["success"]}`, `{"type":"TICount","count":4}`},
		{"instances without a state", `{"type":"GetTICount","dag_id":"d","states":["null"]}`, `{"type":"TICount","count":0}`},
		{"runs by id", `{"type":"GetDRCount","dag_id":"d","run_ids":["r1","r2","r9"]}`, `{"type":"DRCount","count":2}`},
		{"runs by date", `{"type":"GetDRCount","dag_id":"d","logical_dates":["2024-01-04T00:00:00Z","2024-02-01T00:00:00Z"]}`, `{"type":"DRCount","count":1}`},
		{"runs of no DAG", `{"type":"GetDRCount"}`, protocol.CodeInvalid},
		{"states of mapped tasks", `{"type":"GetTaskStates","dag_id":"d","run_ids":["r1"],"task_ids":["m"]}`, `{"type":"TaskStatesResult","task_states":{"r1":{"m_0":"success","m_1":"success","m_2":"success"}}}`},
		{"states", `{"type":"GetTaskStates","dag_id":"d","run_ids":["r1"],"task_ids":["t"]}`, `{"type":"TaskStatesResult","task_states":{"r1":{"t":"success"}}}`},
		{"instances of a run", `{"type":"GetTaskInstances","dag_id":"d","run_id":"r1","offset":2,"limit":1}`, `{"type":"TaskInstancesResult","task_instances":[{"task_id":"m","map_index":1,"state":"success","try_number":1,"max_tries":0}],"total":4}`},
		{"instances, the first", `{"type":"GetTaskInstances","dag_id":"d","run_id":"r1","place":0,"limit":3,"states":["failed"]}`, `{"type":"TaskInstancesResult","task_instances":[],"next":0}`},
		{"instances of one's own run", `{"type":"GetTaskInstances","dag_id":"d","task_ids":["t"]}`, `{"type":"TaskInstancesResult","task_instances":[{"task_id":"t","map_index":-1,"state":"success","try_number":1,"max_tries":0}],"total":1}`},
		{"instances in a state", `{"type":"GetTaskInstances","dag_id":"d","run_id":"r1","states":["null","failed"]}`, `{"type":"TaskInstancesResult","task_instances":[],"total":0}`},
		{"instances of any DAG", `{"type":"GetTaskInstances","dag_id":"~","run_id":"~"}`, protocol.CodeInvalid},
		{"instances of any run", `{"type":"GetTaskInstances","dag_id":"d","run_id":"~"}`, protocol.CodeInvalid},
		{"success before", `{"type":"GetPrevSuccessfulDagRun","ti_id":"x"}`, `{"type":"PrevSuccessfulDagRunResult","data_interval_start":"2024-01-03T00:00:00Z","data_interval_end":"2024-01-03T00:00:00Z","start_date":null,"end_date":null}`},
		{"none before", `{"type":"GetPreviousDagRun","dag_id":"d","logical_date":"2024-01-03T00:00:00Z"}`, `{"type":"PreviousDagRunResult","dag_run":null}`},
		{"trigger an unknown DAG", `{"type":"TriggerDagRun","dag_id":"x"}`, protocol.CodeNotFound},
	} {
		if diff := cmp.Diff(tt.want, w.ask(tt.request)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if w.sched.pushed["k"] != 2 {
		t.Errorf("the scheduler was not told of the length: %v", w.sched.pushed)
	}
}

func TestAPullWithPriorDatesFindsTheNewestEarlierValue(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *store.Tx) error {
		return tx.PutXCom(run.Key{DAGID: "d", RunID: "r1", TaskID: "t", MapIndex: -1}, "k", json.RawMessage(`"old"`), -1)
	})
	got := w.ask(`{"type":"GetXCom","dag_id":"d","run_id":"r2","task_id":"t","key":"k","include_prior_dates":true}`)
	if got != `{"type":"XComResult","key":"k","value":"old","found":true}` {
		t.Error(got)
	}
}

func TestATokenIsGoodForItsLiveAttemptOnly(t *testing.T) {
	w := newWorld(t)
	const question = `{"type":"GetDagRunState","dag_id":"d","run_id":"r1"}`
	const answer = `{"type":"DagRunStateResult","state":"success"}`
	for _, tt := range []struct{ name, id, token, want string }{
		{"its own", attempt, token, answer},
		{"another attempt's id", "01890a5d-ac96-774b-bcce-b302099a8058", token, protocol.CodePermission},
		{"another token", attempt, "guess", protocol.CodePermission},
		{"no token", attempt, "", protocol.CodePermission},
		{"a callback's", "callback", "callback token", answer},
	} {
		if got := w.askAs(tt.id, tt.token, question); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	k := run.Key{DAGID: "d", RunID: "r2", TaskID: "t", MapIndex: -1}
	w.update(func(tx *store.Tx) error {
		at := time.Now()
		return tx.EndAttempt(run.Attempt{Key: k, ID: attempt, State: run.Success, EndedAt: &at})
	})
	if got := w.ask(question); got != protocol.CodePermission {
		t.Errorf("after its end: %s", got)
	}
}

func TestATriggerThatArrivesTwiceCreatesOneRun(t *testing.T) {
	w := newWorld(t)
	for _, request := range []string{
		`{"type":"TriggerDagRun","dag_id":"d","request_id":"a/1"}`,
		`{"type":"TriggerDagRun","dag_id":"d","run_id":"mine","request_id":"a/2"}`,
	} {
		first, second := w.ask(request), w.ask(request)
		if first != second || first == protocol.CodeDagRunExists {
			t.Errorf("%s and then %s", first, second)
		}
	}
	if got := w.ask(`{"type":"TriggerDagRun","dag_id":"d","run_id":"r1","request_id":"a/3"}`); got != protocol.CodeDagRunExists {
		t.Errorf("somebody else's run: %s", got)
	}
	_, n, err := w.db.Runs(t.Context(), store.RunFilter{DAGID: "d"})
	if err != nil || n != 4 {
		t.Errorf("%d runs, want 4: %v", n, err)
	}
}

func TestAResetThatArrivesTwiceResetsOnce(t *testing.T) {
	w := newWorld(t)
	const request = `{"type":"TriggerDagRun","dag_id":"d","run_id":"r1","reset_dag_run":true,"request_id":"a/1"}`
	if first, second := w.ask(request), w.ask(request); first != second || w.sched.resets != 1 {
		t.Errorf("%s and then %s, %d resets", first, second, w.sched.resets)
	}
	if w.ask(strings.Replace(request, "a/1", "a/2", 1)); w.sched.resets != 2 {
		t.Errorf("another request: %d resets", w.sched.resets)
	}
}

// narrow is a store that refuses to read rows where a count will do.
type narrow struct {
	*store.DB
	t *testing.T
}

func (n narrow) Runs(ctx context.Context, f store.RunFilter) ([]run.DAGRun, int, error) {
	if f.Limit == 0 || f.Limit > 1 {
		n.t.Errorf("DAG runs are read without bounds: %+v", f)
	}
	return n.DB.Runs(ctx, f)
}

func (n narrow) TaskInstances(ctx context.Context, f store.TIFilter) ([]run.TaskInstance, int, error) {
	if f.Limit == 0 || f.Limit > 1 {
		n.t.Errorf("task instances are read without bounds: %+v", f)
	}
	return n.DB.TaskInstances(ctx, f)
}

func TestWhatIsCountedIsNotRead(t *testing.T) {
	w := newWorld(t)
	w.api = taskapi.New(narrow{w.db, t}, w.sched, w.scratch, slog.New(slog.DiscardHandler))
	for request, want := range map[string]string{
		`{"type":"GetTICount","dag_id":"d"}`:                                                              `{"type":"TICount","count":8}`,
		`{"type":"GetDRCount","dag_id":"d"}`:                                                              `{"type":"DRCount","count":2}`,
		`{"type":"GetDRCount","dag_id":"d","run_ids":["r2"],"states":["success"]}`:                        `{"type":"DRCount","count":0}`,
		`{"type":"GetTaskStates","dag_id":"d","logical_dates":["2024-01-03T00:00:00Z"],"task_ids":["t"]}`: `{"type":"TaskStatesResult","task_states":{"r1":{"t":"success"}}}`,
	} {
		if got := w.ask(request); got != want {
			t.Errorf("%s: %s", request, got)
		}
	}
}

func TestAFileThatIsImportedReadsVariablesAndConnectionsAndNothingElse(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *store.Tx) error {
		return errors.Join(tx.PutVariable(store.Variable{Key: "v", Value: "1"}), tx.PutConnection(store.Connection{ID: "c", Type: "http", Host: "h"}))
	})
	for _, c := range []struct{ request, answer, code string }{
		{`{"type":"GetVariable","key":"v"}`, `{"type":"VariableResult","key":"v","value":"1"}`, ""},
		{`{"type":"GetConnection","conn_id":"c"}`, `{"type":"ConnectionResult","conn_id":"c","conn_type":"http","host":"h"}`, ""},
		{`{"type":"GetVariable","key":"none"}`, "", protocol.CodeVariableNotFound},
		{`{"type":"PutVariable","key":"v","value":"2"}`, "", protocol.CodePermission},
		{`{"type":"GetXCom","dag_id":"d","run_id":"r1","task_id":"t","key":"k"}`, "", protocol.CodePermission},
		{`nonsense`, "", protocol.CodeInvalid},
	} {
		answer, err := w.api.CallImport(t.Context(), "dags-folder", json.RawMessage(c.request))
		var refused *protocol.Error
		if errors.As(err, &refused) != (c.code != "") || (refused != nil && refused.Code != c.code) || string(answer) != c.answer {
			t.Errorf("%s: %s, %v", c.request, answer, err)
		}
	}
}

func TestPagesOfInstancesMissNothingWhileStatesChange(t *testing.T) {
	w := newWorld(t)
	page := func(place int64) (names []string, next int64) {
		var answer struct {
			Instances []struct {
				TaskID   string `json:"task_id"`
				MapIndex int    `json:"map_index"`
			} `json:"task_instances"`
			Next int64 `json:"next"`
		}
		got := w.ask(fmt.Sprintf(`{"type":"GetTaskInstances","dag_id":"d","run_id":"r1","states":["success"],"limit":2,"place":%d}`, place))
		if err := json.Unmarshal([]byte(got), &answer); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		for _, one := range answer.Instances {
			names = append(names, fmt.Sprint(one.TaskID, one.MapIndex))
		}
		return names, answer.Next
	}
	first, next := page(0)
	if diff := cmp.Diff([]string{"t-1", "m0"}, first); diff != "" {
		t.Fatalf("first page (-want +got):\n%s", diff)
	}
	tis, _, err := w.db.TaskInstances(t.Context(), store.TIFilter{DAGID: "d", RunID: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	after := tis[0]
	after.State = run.Failed
	w.update(func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{{Before: tis[0], After: after}}) })
	second, next := page(next)
	if diff := cmp.Diff([]string{"m1", "m2"}, second); diff != "" {
		t.Errorf("second page (-want +got):\n%s", diff)
	}
	if last, end := page(next); len(last) != 0 || end != 0 {
		t.Errorf("after the last one come %v and %d", last, end)
	}
}
