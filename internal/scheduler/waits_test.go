package scheduler_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

const triggers = "airflow.providers.standard.triggers."

// deferral is what an attempt reports that defers its task.
func deferral(classpath, kwargs string, timeout float64) scripted.Behaviour {
	d := &protocol.DeferTask{
		Type: "DeferTask", Classpath: triggers + classpath, TriggerKwargs: json.RawMessage(kwargs),
		NextMethod: "later", NextKwargs: json.RawMessage(`{"mine":1}`),
	}
	if timeout > 0 {
		d.TriggerTime = &timeout
	}
	return scripted.Behaviour{Result: &executor.Result{State: run.Deferred, Defer: d, Reported: true}}
}

func momentIn(d time.Duration) string {
	return fmt.Sprintf(`{"moment":%q}`, time.Now().Add(d).UTC().Format(time.RFC3339Nano))
}

// deferring defers every task once and keeps what it is resumed with.
type deferring struct {
	mu      sync.Mutex
	first   map[string]scripted.Behaviour
	resumed map[string]protocol.TIRunContext
}

func (s *deferring) script(a executor.Attempt) scripted.Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := a.Startup.TI.TaskID
	if a.Startup.Context.NextMethod == "" {
		return s.first[id]
	}
	if s.resumed == nil {
		s.resumed = map[string]protocol.TIRunContext{}
	}
	if _, twice := s.resumed[id]; twice {
		return scripted.Behaviour{Exit: 9, Final: true}
	}
	s.resumed[id] = a.Startup.Context
	if a.Startup.Context.NextMethod == "__fail__" {
		return scripted.Behaviour{Exit: 1, Final: true}
	}
	return scripted.Behaviour{}
}

func (s *deferring) with(task string) protocol.TIRunContext {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed[task]
}

func (w *world) instance(r run.DAGRun, task string) run.TaskInstance {
	w.t.Helper()
	ti, err := w.db.TaskInstance(w.t.Context(), run.Key{DAGID: r.DAGID, RunID: r.RunID, TaskID: task, MapIndex: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	return ti
}

func (w *world) inState(r run.DAGRun, task string, s run.TaskState) {
	w.t.Helper()
	w.wait(task+" "+string(s), func() bool { return w.instance(r, task).State == s })
}

func (w *world) waiting(want int) {
	w.t.Helper()
	ws, err := w.db.Waits(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if len(ws) != want {
		w.t.Errorf("%d waits are kept, want %d: %+v", len(ws), want, ws)
	}
}

func TestADeferredTaskGoesOnAtItsMomentWithinTheSameTry(t *testing.T) {
	t.Parallel()
	s := &deferring{first: map[string]scripted.Behaviour{"t00": deferral("temporal.DateTimeTrigger", momentIn(300*time.Millisecond), 0)}}
	w := newWorld(t, s.script, chain("moment", 1))
	r := w.ended(w.trigger("moment"))
	if r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	with := s.with("t00")
	if with.NextMethod != "later" || !strings.Contains(string(with.NextKwargs), `"mine":1`) || !strings.Contains(string(with.NextKwargs), `"event":"20`) {
		t.Errorf("resumed with %s(%s)", with.NextMethod, with.NextKwargs)
	}
	if ti := w.instance(r, "t00"); ti.TryNumber != 1 || ti.MaxTries != 0 {
		t.Errorf("try %d of %d", ti.TryNumber, ti.MaxTries)
	}
	as := w.attempts(r, "t00")
	if len(as) != 2 || as[0].ID == as[1].ID || as[0].State != run.Deferred || as[1].TryNumber != 1 {
		t.Errorf("attempts: %+v", as)
	}
	w.waiting(0)
}

func TestADeferralEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	s := &deferring{first: map[string]scripted.Behaviour{"t00": deferral("temporal.DateTimeTrigger", momentIn(time.Hour), 0.2)}}
	w := newWorld(t, s.script, chain("timeout", 1))
	r := w.ended(w.trigger("timeout"))
	with := s.with("t00")
	if diff := cmp.Diff(`__fail__ {"error":"Trigger timeout"}`, with.NextMethod+" "+string(with.NextKwargs)); diff != "" || r.State != run.RunFailed {
		t.Errorf("the run ended %s\n%s", r.State, diff)
	}
	w.waiting(0)
}

func TestAServerRestartKeepsWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour)
	s := &deferring{first: map[string]scripted.Behaviour{
		"t00": deferral("temporal.DateTimeTrigger", momentIn(time.Hour), 0),
		"t01": {},
	}}
	w := newWorld(t, s.script, chain("kept", 2))
	r := w.trigger("kept")
	w.inState(r, "t00", run.Deferred)
	w.crash()
	w.waiting(1)
	w.start()
	why, err := w.s.WhyWaiting(t.Context(), r.DAGID, r.RunID)
	if err != nil || len(why) == 0 || !strings.HasPrefix(why[0].Reason, "deferred, waiting for "+at.UTC().Format("2006-01-02T")) {
		t.Errorf("why it waits: %+v, %v", why, err)
	}
	if _, err := w.s.MarkTasks(t.Context(), "user:test", scheduler.MarkRequest{DAGID: r.DAGID, RunID: r.RunID, State: run.Success,
		Tasks: []scheduler.TaskSel{{TaskID: "t00"}}}); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
	w.waiting(0)
	if n := len(w.attempts(r, "t00")); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestClearingADeferredTaskForgetsWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries := 0
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries == 1 {
			return deferral("temporal.DateTimeTrigger", momentIn(time.Hour), 0)
		}
		return scripted.Behaviour{}
	}, chain("cleared", 1))
	r := w.trigger("cleared")
	w.inState(r, "t00", run.Deferred)
	if _, err := w.s.Clear(t.Context(), "user:test", scheduler.ClearRequest{DAGID: r.DAGID, RunID: r.RunID, ResetDagRuns: true}); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
	if ti := w.instance(r, "t00"); ti.TryNumber != 2 {
		t.Errorf("try %d, want 2: cleared, it begins anew", ti.TryNumber)
	}
	w.waiting(0)
}

func TestWaitsOfWhatDoesNotWaitAnyMoreGoAtTheNextStart(t *testing.T) {
	t.Parallel()
	s := &deferring{first: map[string]scripted.Behaviour{"t00": {}, "t01": {}}}
	w := newWorld(t, s.script, chain("over", 1), chain("live", 2))
	over := w.ended(w.trigger("over"))
	s.mu.Lock()
	s.first["t00"] = deferral("temporal.DateTimeTrigger", momentIn(time.Hour), 0)
	s.mu.Unlock()
	live := w.trigger("live")
	w.inState(live, "t00", run.Deferred)
	w.crash()
	err := w.db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		for i, of := range []run.DAGRun{over, live} { // of an instance that has ended, and of one that has not begun
			k := run.Key{DAGID: of.DAGID, RunID: of.RunID, TaskID: []string{"t00", "t01"}[i], MapIndex: -1}
			err := tx.PutWait(run.Wait{Key: k, ID: fmt.Sprint("left-", i), Classpath: triggers + "file.FileTrigger",
				Kwargs: json.RawMessage(`{"filepath":"/nowhere"}`), CreatedAt: time.Now()})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.waiting(3)
	w.start()
	w.wait("the rows that are left over to go", func() bool {
		ws, err := w.db.Waits(t.Context())
		return err == nil && len(ws) == 1 && ws[0].TaskID == "t00" && ws[0].DAGID == "live"
	})
}

func TestAFileWaitEndsWhenTheFileIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &deferring{first: map[string]scripted.Behaviour{"t00": deferral("file.FileTrigger",
		fmt.Sprintf(`{"filepath":%q,"recursive":false,"poke_interval":0.05}`, filepath.Join(dir, "in-*", "[a-c].csv")), 0)}}
	w := newWorld(t, s.script, chain("file", 1))
	r := w.trigger("file")
	w.inState(r, "t00", run.Deferred)
	if err := os.MkdirAll(filepath.Join(dir, "in-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in-1", "b.csv"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess || !strings.Contains(string(s.with("t00").NextKwargs), `"event":true`) {
		t.Errorf("the run ended %s, resumed with %s", r.State, s.with("t00").NextKwargs)
	}
}

func TestAWaitForAnotherRunEndsWithThatRun(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &deferring{first: map[string]scripted.Behaviour{}}
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.DAGID == "other" {
			<-release
			return scripted.Behaviour{}
		}
		return s.script(a)
	}
	w := newWorld(t, script, chain("waits", 2), chain("other", 1))
	other := w.trigger("other")
	s.first["t00"] = deferral("external_task.DagStateTrigger",
		fmt.Sprintf(`{"dag_id":"other","states":["success","failed"],"run_ids":[%q],"execution_dates":[null],"poll_interval":5}`, other.RunID), 0)
	s.first["t01"] = deferral("external_task.WorkflowTrigger",
		fmt.Sprintf(`{"external_dag_id":"other","run_ids":[%q],"external_task_ids":["t00"],"allowed_states":["success"],"failed_states":["failed"]}`, other.RunID), 0)
	r := w.trigger("waits")
	w.inState(r, "t00", run.Deferred)
	close(release)
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Fatalf("the run ended %s: %v", r.State, w.states(r))
	}
	if got := string(s.with("t00").NextKwargs); !strings.Contains(got, `"builtins.tuple"`) || !strings.Contains(got, fmt.Sprintf("%q:%q", other.RunID, "success")) {
		t.Errorf("DagStateTrigger fired %s", got)
	}
	if got := string(s.with("t01").NextKwargs); !strings.Contains(got, `"event":{"status":"success"}`) {
		t.Errorf("WorkflowTrigger fired %s", got)
	}
}

func TestATaskLostWhileItResumesIsResumedWithTheSameEvent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var events []string
	w := newWorld(t, func(a executor.Attempt) scripted.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		if a.Startup.Context.NextMethod == "" {
			return deferral("temporal.DateTimeTrigger", momentIn(-time.Second), 0)
		}
		events = append(events, string(a.Startup.Context.NextKwargs))
		return scripted.Behaviour{DieWithInstance: len(events) == 1}
	}, chain("lost", 1))
	r := w.ended(w.trigger("lost"))
	if r.State != run.RunSuccess || len(events) != 2 || events[0] != events[1] {
		t.Errorf("the run ended %s, resumed with %q", r.State, events)
	}
	if ti := w.instance(r, "t00"); ti.TryNumber != 1 || ti.MaxTries != 0 || ti.InfraRetries != 1 {
		t.Errorf("try %d, max %d, infra %d", ti.TryNumber, ti.MaxTries, ti.InfraRetries)
	}
}
