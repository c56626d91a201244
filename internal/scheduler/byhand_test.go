package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

func TestClearingARunningTaskKillsItAndRunsItAgain(t *testing.T) {
	t.Parallel()
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.TaskID == "t00" && a.Startup.TI.TryNumber == 1 {
			return scripted.Behaviour{For: time.Hour}
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, chain("again", 2))
	r := w.trigger("again")
	w.wait("t00 to run", func() bool { return w.states(r)["t00"] == run.Running })
	if _, err := w.s.Clear(t.Context(), "user:test", scheduler.ClearRequest{
		DAGID: "again", RunID: r.RunID, TaskIDs: []scheduler.TaskSel{{TaskID: "t00"}},
	}); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s: %v", r.State, w.states(r))
	}
	if n := len(w.attempts(r, "t00")); n != 2 {
		t.Errorf("t00 was tried %d times", n)
	}
}

func TestMarkingAFailedTaskSuccessfulLetsTheRunGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scripted.ByTask(map[string]scripted.Behaviour{"t00": {Exit: 1}}), chain("mark", 2))
	r := w.ended(w.trigger("mark"))
	note := "looked at it"
	if _, err := w.s.MarkTasks(t.Context(), "user:test", scheduler.MarkRequest{
		DAGID: "mark", RunID: r.RunID, Tasks: []scheduler.TaskSel{{TaskID: "t00"}}, State: run.Success, Note: &note,
	}); err != nil {
		t.Fatal(err)
	}
	w.wait("t01", func() bool { return w.states(r)["t01"] == run.Success })
	w.wait("the note", func() bool {
		ti, err := w.db.TaskInstance(t.Context(), run.Key{DAGID: "mark", RunID: r.RunID, TaskID: "t00", MapIndex: -1})
		return err == nil && ti.Note == note && ti.State == run.Success
	})
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
}

func TestNotesOnALiveRunDoNotDisturbIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: 3 * time.Millisecond} }, chain("noted", 20))
	r := w.trigger("noted")
	for i := range 10 {
		if _, err := w.s.SetRunNote(t.Context(), "user:test", "noted", r.RunID, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		k := run.Key{DAGID: "noted", RunID: r.RunID, TaskID: "t10", MapIndex: -1}
		if _, err := w.s.SetTaskNote(t.Context(), "user:test", k, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if r = w.ended(r); r.State != run.RunSuccess || r.Note != "9" {
		t.Errorf("the run ended %s with note %q", r.State, r.Note)
	}
}

func TestDeletingARunNeedsItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: 20 * time.Millisecond} }, chain("gone", 1))
	r := w.trigger("gone")
	if err := w.s.DeleteRun(t.Context(), "user:test", "gone", r.RunID); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("deleting a running run: %v", err)
	}
	w.ended(r)
	if err := w.s.DeleteRun(t.Context(), "user:test", "gone", r.RunID); err != nil {
		t.Error(err)
	}
	if err := w.s.DeleteRun(t.Context(), "user:test", "gone", r.RunID); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("deleting it again: %v", err)
	}
}

func TestADeletedDAGLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: 20 * time.Millisecond} }, chain("whole", 1))
	r := w.trigger("whole")
	if err := w.s.DeleteDAG(t.Context(), "user:test", "whole"); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("deleting it while it runs: %v", err)
	}
	w.ended(r)
	if err := w.s.DeleteDAG(t.Context(), "user:test", "hole"); !errors.Is(err, scheduler.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "whole"?`) {
		t.Errorf("deleting another: %v", err)
	}
	w.wait("the deletion", func() bool { // the attempt's process may still be ending
		err := w.s.DeleteDAG(t.Context(), "user:test", "whole")
		if err != nil && !errors.Is(err, scheduler.ErrConflict) {
			t.Fatal(err)
		}
		return err == nil
	})
	if _, err := w.db.Run(t.Context(), "whole", r.RunID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its run: %v", err)
	}
	if _, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "whole"}); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("triggering it: %v", err)
	}
	w.publish(chain("whole", 3)) // version 1 again, and another DAG
	if r = w.ended(w.trigger("whole")); len(w.states(r)) != 3 || r.DAGVersion != 1 {
		t.Errorf("the DAG that came back ran %d tasks of version %d", len(w.states(r)), r.DAGVersion)
	}
}

func TestTasksThatDependOnThePastWaitForTheRunBefore(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	d := chain("past", 1)
	d.Tasks[0].DependsOnPast = true
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.RunID == "first" {
			<-release
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, d)
	day := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var runs []run.DAGRun
	for i, id := range []string{"first", "second"} {
		at := day.AddDate(0, 0, i)
		r, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "past", RunID: id, LogicalDate: &at})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	w.wait("the second run to begin", func() bool {
		r, err := w.db.Run(t.Context(), "past", "second")
		return err == nil && r.State == run.RunRunning
	})
	why, err := w.s.WhyWaiting(t.Context(), "past", "second")
	if err != nil || len(why) != 1 {
		t.Errorf("%v %v", why, err)
	}
	t.Log(why)
	close(release)
	for _, r := range runs {
		if r = w.ended(r); r.State != run.RunSuccess {
			t.Errorf("%s ended %s", r.RunID, r.State)
		}
	}
}

func TestWhileTheDatabaseCannotBeWrittenQuestionsAreAnsweredAndNothingIsLost(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	full := false
	w := &world{t: t, ex: scripted.New("local", func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }), path: filepath.Join(t.TempDir(), "control.db")}
	w.cfg = scheduler.Config{TokenKey: []byte("test key"), Interval: 100 * time.Millisecond}
	w.open(func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if full {
			return fmt.Errorf("%w: no space left on device", store.ErrUnavailable)
		}
		return nil
	})
	w.publish(chain("full", 3))
	t.Cleanup(w.close)
	w.start()
	set := func(v bool) {
		mu.Lock()
		defer mu.Unlock()
		full = v
	}
	set(true)
	type answer struct {
		r   run.DAGRun
		err error
	}
	triggered := make(chan answer, 1)
	go func() {
		r, err := w.s.Trigger(context.Background(), "u", scheduler.TriggerRequest{DAGID: "full"})
		triggered <- answer{r, err}
	}()
	w.wait("the problem to be said", func() bool { return w.s.Problem() != "" })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, _, err := w.s.NextRun(ctx, "full"); err != nil {
		t.Errorf("a question meanwhile: %v", err)
	}
	set(false)
	a := <-triggered
	if a.err != nil {
		t.Fatal(a.err)
	}
	if r := w.ended(a.r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
	w.wait("the all-clear", func() bool { return w.s.Problem() == "" })

	set(true)
	if _, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "full"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a trigger is answered with %v", err)
	}
	w.wait("the problem that remains when its command was refused", func() bool { return w.s.Problem() != "" })
	set(false)
	w.wait("the all-clear without another change", func() bool { return w.s.Problem() == "" })
}

func TestAResultThatCannotBeStoredFailsItsTaskInsteadOfHangingIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scripted.ByTask(map[string]scripted.Behaviour{
		"t00": {Result: &executor.Result{State: run.TaskState("no such state"), Reported: true}},
	}), chain("odd", 1))
	r := w.ended(w.trigger("odd"))
	if r.State != run.RunFailed {
		t.Errorf("the run ended %s", r.State)
	}
	if as := w.attempts(r, "t00"); len(as) != 1 || as[0].EndedAt == nil {
		t.Errorf("attempts: %+v", as)
	}
}
