package scheduler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// world is a scheduler on a real store with a scripted executor. The executor outlives schedulers, as a worker does.
type world struct {
	t    *testing.T
	db   *store.DB
	ex   *scripted.Executor
	cfg  scheduler.Config
	path string
	// through, when set, stands between the scheduler and the database.
	through func(*store.DB) scheduler.Store

	s    *scheduler.Scheduler
	stop context.CancelFunc
	wg   *sync.WaitGroup
}

// sink answers tasks' calls with an error: the task API has its own tests.
type sink struct{ *scheduler.Scheduler }

func (sink) Call(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return nil, &protocol.Error{Code: protocol.CodeNotSupported, Message: "not in this test"}
}

func newWorld(t *testing.T, script scripted.Script, dags ...*dag.DAG) *world {
	t.Helper()
	w := &world{t: t, ex: scripted.New("local", script), path: filepath.Join(t.TempDir(), "control.db")}
	w.cfg = scheduler.Config{BundleName: "dags-folder", TokenKey: []byte("test key"), Interval: 200 * time.Millisecond, StartedDelay: 20 * time.Millisecond}
	w.open(nil)
	w.publish(dags...)
	t.Cleanup(w.close)
	w.start()
	return w
}

func (w *world) open(fault func(string) error) {
	w.t.Helper()
	db, err := store.Open(w.t.Context(), store.Options{Path: w.path, Fault: fault})
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db
}

func (w *world) publish(dags ...*dag.DAG) {
	w.t.Helper()
	err := w.db.Update(w.t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		for _, d := range dags {
			if err := dag.Validate(d); err != nil {
				return err
			}
			if _, _, err := tx.PutDAG(d, "dags-folder", "v1", false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.s != nil {
		w.s.DAGsChanged()
	}
}

// start begins a new server's scheduler on the same database and the same worker.
func (w *world) start() {
	w.t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var st scheduler.Store = w.db
	if w.through != nil {
		st = w.through(w.db)
	}
	w.s = scheduler.New(w.cfg, st, []executor.Executor{w.ex}, logger)
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.wg = &sync.WaitGroup{}
	s := w.s
	w.wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			w.t.Errorf("the scheduler ended: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		w.t.Fatal("the scheduler does not get ready")
	}
	w.wg.Go(func() { _ = w.ex.Run(ctx, sink{s}) })
}

// crash ends the server; the worker goes on.
func (w *world) crash() {
	w.stop()
	w.wg.Wait()
}

func (w *world) close() {
	w.crash()
	w.ex.Close()
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) trigger(dagID string) run.DAGRun {
	w.t.Helper()
	r, err := w.s.Trigger(w.t.Context(), "user:test", scheduler.TriggerRequest{DAGID: dagID})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// wait waits until a condition on the store holds.
func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		changed := w.db.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			w.t.Fatalf("waited too long for %s", what)
		}
	}
}

// ended waits for the end of a run and returns it.
func (w *world) ended(r run.DAGRun) run.DAGRun {
	w.t.Helper()
	var out run.DAGRun
	w.wait("the end of "+r.RunID, func() bool {
		var err error
		if out, err = w.db.Run(w.t.Context(), r.DAGID, r.RunID); err != nil {
			w.t.Fatal(err)
		}
		return out.State == run.RunSuccess || out.State == run.RunFailed
	})
	return out
}

func (w *world) states(r run.DAGRun) map[string]run.TaskState {
	w.t.Helper()
	tis, _, err := w.db.TaskInstances(w.t.Context(), store.TIFilter{DAGID: r.DAGID, RunID: r.RunID})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]run.TaskState{}
	for _, ti := range tis {
		out[ti.TaskID] = ti.State
	}
	return out
}

func (w *world) attempts(r run.DAGRun, task string) []run.Attempt {
	w.t.Helper()
	as, err := w.db.Attempts(w.t.Context(), run.Key{DAGID: r.DAGID, RunID: r.RunID, TaskID: task, MapIndex: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	return as
}

// chain is a DAG of tasks one after the other.
func chain(id string, n int) *dag.DAG {
	d := &dag.DAG{ID: id, File: id + ".py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}}
	for i := range n {
		t := dag.Task{ID: fmt.Sprintf("t%02d", i), Operator: "PythonOperator"}
		if i > 0 {
			t.Upstream = []string{fmt.Sprintf("t%02d", i-1)}
		}
		d.Tasks = append(d.Tasks, t)
	}
	return d
}

func TestAChainOfTasksCostsOneCommitEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("chain", 40))
	before := w.db.Commits()
	r := w.ended(w.trigger("chain"))
	if r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	commits := w.db.Commits() - before
	t.Logf("%d commits for 40 tasks", commits)
	if commits > 80 {
		t.Errorf("40 tasks took %d commits, more than 2 each", commits)
	}
	for id, n := range w.ex.Begun() {
		if n != 1 {
			t.Errorf("attempt %s began %d times", id, n)
		}
	}
}

func TestAFailedTaskIsRetriedAndThenFailsWhatComesAfter(t *testing.T) {
	t.Parallel()
	d := chain("retry", 2)
	d.Tasks[0].Retries = 2
	d.Tasks[0].RetryDelay = dag.Seconds(10 * time.Millisecond)
	w := newWorld(t, scripted.ByTask(map[string]scripted.Behaviour{"t00": {Exit: 3}}), d)
	r := w.ended(w.trigger("retry"))
	want := map[string]run.TaskState{"t00": run.Failed, "t01": run.UpstreamFailed}
	if diff := cmp.Diff(want, w.states(r)); diff != "" {
		t.Error(diff)
	}
	as := w.attempts(r, "t00")
	if len(as) != 3 || as[2].TryNumber != 3 || as[2].Reason != "exit code 3" || *as[2].ExitCode != 3 {
		t.Errorf("attempts: %+v", as)
	}
}

func TestAServerRestartAdoptsWhatRuns(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.TaskID == "t01" {
			<-release
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, chain("adopt", 4))
	r := w.trigger("adopt")
	w.wait("t01 to begin", func() bool { return len(w.ex.Begun()) == 2 })
	w.crash()
	close(release) // it ends while no server is there
	w.start()
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	if n := len(w.attempts(r, "t01")); n != 1 {
		t.Errorf("t01 was tried %d times", n)
	}
}

func TestADeadWorkersAttemptsAreTriedAgainWithoutCostingTheAuthorsRetries(t *testing.T) {
	t.Parallel()
	var once sync.Once
	script := func(a executor.Attempt) scripted.Behaviour {
		b := scripted.Behaviour{}
		once.Do(func() { b.DieWithInstance = true })
		return b
	}
	w := newWorld(t, script, chain("lost", 3))
	r := w.ended(w.trigger("lost"))
	if r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	as := w.attempts(r, "t00")
	if len(as) != 2 || !as[0].Infra || as[0].Reason != "the worker that ran it is gone" || as[1].State != run.Success {
		t.Errorf("attempts: %+v", as)
	}
}

func TestALostAttemptIsRecordedAlikeWhetherOrNotItsTaskStillSpoke(t *testing.T) {
	t.Parallel()
	for said, lost := range map[string]scripted.Behaviour{
		"nothing":           {DieWithInstance: true},
		"to be tried again": {Result: &executor.Result{State: run.UpForRetry, Infra: true, Reason: "the server was stopped", Reported: true}},
		"that it failed":    {Result: &executor.Result{State: run.Failed, Infra: true, Reason: "the server was stopped", Reported: true}},
	} {
		var once sync.Once
		w := newWorld(t, func(executor.Attempt) (b scripted.Behaviour) {
			once.Do(func() { b = lost })
			return b
		}, chain("lost", 1))
		r := w.ended(w.trigger("lost"))
		as := w.attempts(r, "t00")
		if r.State != run.RunSuccess || len(as) != 2 || !as[0].Infra || as[0].State != run.Failed || as[1].Infra {
			t.Errorf("said %s: the run ended %s, attempts %+v", said, r.State, as)
		}
		if ti := w.instance(r, "t00"); ti.InfraRetries != 1 || ti.MaxTries != 1 {
			t.Errorf("said %s: max %d, infra %d", said, ti.MaxTries, ti.InfraRetries)
		}
	}
}

func TestATaskWhoseWorkerKeepsDyingFailsInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{DieWithInstance: true} }, chain("doomed", 1))
	r := w.ended(w.trigger("doomed"))
	if r.State != run.RunFailed {
		t.Errorf("the run ended %s", r.State)
	}
	if n := len(w.attempts(r, "t00")); n != 6 {
		t.Errorf("%d attempts, want 6: the first and 5 infrastructure retries", n)
	}
}

func TestCancellingARunKillsWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: time.Hour} }, chain("cancel", 2))
	r := w.trigger("cancel")
	w.wait("t00 to run", func() bool { return w.states(r)["t00"] == run.Running })
	if _, err := w.s.MarkRun(t.Context(), "user:test", "cancel", r.RunID, run.RunFailed); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunFailed {
		t.Errorf("the run ended %s", r.State)
	}
	w.wait("the attempt's end", func() bool { return w.attempts(r, "t00")[0].EndedAt != nil })
	w.wait("the acknowledgement", func() bool { return w.ex.Held() == 0 })
}

func TestClearingLetsAFinishedRunGoOn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	exit := 1
	script := func(a executor.Attempt) scripted.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		if a.Startup.TI.TaskID == "t01" {
			return scripted.Behaviour{Exit: exit}
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, chain("clear", 3))
	r := w.ended(w.trigger("clear"))
	if r.State != run.RunFailed {
		t.Fatalf("the run ended %s", r.State)
	}
	mu.Lock()
	exit = 0
	mu.Unlock()
	cleared, err := w.s.Clear(t.Context(), "user:test", scheduler.ClearRequest{
		DAGID: "clear", RunID: r.RunID, OnlyFailed: true, ResetDagRuns: true, IncludeDownstream: true,
	})
	if err != nil || len(cleared) != 2 {
		t.Fatalf("cleared %d: %v", len(cleared), err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s: %v", r.State, w.states(r))
	}
	if n := len(w.attempts(r, "t00")); n != 1 {
		t.Errorf("t00 was tried %d times", n)
	}
}

func TestTriggerRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: time.Hour} }, chain("known", 1))
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "known", RunID: "first", LogicalDate: &at}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		r    scheduler.TriggerRequest
		want error
	}{
		{"an unknown DAG", scheduler.TriggerRequest{DAGID: "knwon"}, scheduler.ErrNotFound},
		{"a taken id", scheduler.TriggerRequest{DAGID: "known", RunID: "first"}, scheduler.ErrConflict},
		{"a taken date", scheduler.TriggerRequest{DAGID: "known", RunID: "second", LogicalDate: &at}, scheduler.ErrConflict},
		{"conf that is no object", scheduler.TriggerRequest{DAGID: "known", Conf: json.RawMessage(`[1]`)}, scheduler.ErrInvalid},
		{"an id with a slash", scheduler.TriggerRequest{DAGID: "known", RunID: "a/../b"}, scheduler.ErrInvalid},
	} {
		_, err := w.s.Trigger(t.Context(), "u", tt.r)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestACronDAGGetsItsRunsAndAPausedOneDoesNot(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-90 * time.Minute)
	d := chain("hourly", 1)
	d.Schedule = dag.Schedule{Kind: dag.ScheduleCronTrigger, Expression: "@hourly", Cron: []string{"0 * * * *"}}
	d.StartDate, d.Catchup = &start, true
	p := chain("paused", 1)
	p.Schedule, p.StartDate, p.Catchup = d.Schedule, &start, true
	yes := true
	p.PausedUponCreation = &yes
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, d, p)
	var runs []run.DAGRun
	w.wait("the scheduled run", func() bool {
		var err error
		if runs, _, err = w.db.Runs(t.Context(), store.RunFilter{DAGID: "hourly"}); err != nil {
			t.Fatal(err)
		}
		return len(runs) > 0 && runs[0].State == run.RunSuccess
	})
	if runs[0].Type != run.TypeScheduled || runs[0].LogicalDate == nil {
		t.Errorf("run: %+v", runs[0])
	}
	w.wait("the next run to be shown", func() bool {
		i, err := w.db.DAG(t.Context(), "hourly")
		return err == nil && i.Schedule.NextRun != nil && i.Schedule.NextRun.RunAfter.After(time.Now())
	})
	if runs, _, _ := w.db.Runs(t.Context(), store.RunFilter{DAGID: "paused"}); len(runs) != 0 {
		t.Errorf("the paused DAG has %d runs", len(runs))
	}
	if err := w.s.SetPaused(t.Context(), "user:test", "paused", false); err != nil {
		t.Fatal(err)
	}
	w.wait("runs of the unpaused DAG", func() bool {
		runs, _, _ := w.db.Runs(t.Context(), store.RunFilter{DAGID: "paused"})
		return len(runs) > 0
	})
}

func TestOwedCallbacksAreRunInProcessesOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := chain("callback", 1)
	d.HasOnFailureCallback = true
	var mu sync.Mutex
	var got []protocol.StartupDetails
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.Kind == protocol.KindTask {
			return scripted.Behaviour{Exit: 1, Final: true}
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, a.Startup)
		if len(got) == 1 {
			return scripted.Behaviour{DieWithInstance: true}
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, d)
	r := w.ended(w.trigger("callback"))
	w.wait("the callback", func() bool {
		owed, err := w.db.OwedCallbacks(t.Context())
		return err == nil && len(owed) == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 {
		t.Fatalf("%d tries of the callback, want 2", len(got))
	}
	if diff := cmp.Diff(&protocol.CallbackRequest{Kind: "on_failure_callback", DAG: true, Reason: got[1].Callback.Reason}, got[1].Callback); diff != "" {
		t.Error(diff)
	}
	if got[1].TI.TaskID != "t00" || got[1].TI.RunID != r.RunID {
		t.Errorf("its context shows %+v", got[1].TI)
	}
}

func TestWhyWaitingNamesThePool(t *testing.T) {
	t.Parallel()
	d := chain("pooled", 2)
	d.Tasks[1].Upstream = nil
	d.Tasks[0].Pool, d.Tasks[1].Pool = "small", "small"
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: time.Hour} }, d)
	if err := w.s.PutPool(t.Context(), "user:test", store.Pool{Name: "small", Slots: 1}); err != nil {
		t.Fatal(err)
	}
	r := w.trigger("pooled")
	w.wait("one to run", func() bool { return w.states(r)["t00"] == run.Running })
	why, err := w.s.WhyWaiting(t.Context(), "pooled", r.RunID)
	if err != nil || len(why) != 1 || why[0].Key.TaskID != "t01" {
		t.Fatalf("%v, %v", why, err)
	}
	t.Log(why[0].Reason)
}

func TestACallerThatGivesUpGetsTheErrorAlone(t *testing.T) {
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, &dag.DAG{ID: "d", Tasks: []dag.Task{{ID: "t", Kind: dag.KindEmpty, Operator: "EmptyOperator"}}})
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		var giving sync.WaitGroup
		giving.Go(cancel)
		r, err := w.s.Trigger(ctx, "test", scheduler.TriggerRequest{DAGID: "d", RunID: fmt.Sprintf("r%d", i)})
		giving.Wait()
		if err != nil && r.RunID != "" {
			t.Fatalf("run %s came along with the error %v", r.RunID, err)
		}
	}
}
