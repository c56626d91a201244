package scheduler_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// daily gives a DAG a daily schedule that began some days ago.
func daily(d *dag.DAG, days int, catchup bool) *dag.DAG {
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -days)
	d.Schedule = dag.Schedule{Kind: dag.ScheduleCronTrigger, Expression: "@daily", Cron: []string{"0 0 * * *"}}
	d.StartDate, d.Catchup = &start, catchup
	return d
}

// finished returns the finished runs of a DAG, oldest first.
func (w *world) finished(dagID string) []run.DAGRun {
	w.t.Helper()
	runs, _, err := w.db.Runs(w.t.Context(), store.RunFilter{DAGID: dagID, OrderBy: []string{"logical_date"},
		States: []run.State{run.RunSuccess, run.RunFailed}})
	if err != nil {
		w.t.Fatal(err)
	}
	return runs
}

func TestCatchUpCreatesEveryRunAndNeverMoreAtOnceThanAllowed(t *testing.T) {
	t.Parallel()
	d := daily(chain("past", 1), 5, true)
	d.MaxActiveRuns = 2
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{For: 5 * time.Millisecond} }, d)
	w.wait("all six runs", func() bool {
		active, _, err := w.db.Runs(t.Context(), store.RunFilter{DAGID: "past", States: []run.State{run.RunQueued, run.RunRunning}})
		if err != nil || len(active) > 2 {
			t.Fatalf("%d runs are active: %v", len(active), err)
		}
		return len(w.finished("past")) == 6
	})
	for i, r := range w.finished("past") {
		if want := d.StartDate.AddDate(0, 0, i); !r.LogicalDate.Equal(want) || r.Type != run.TypeScheduled {
			t.Errorf("run %d is for %s, want %s", i, r.LogicalDate, want)
		}
	}
}

func TestWithoutCatchUpOnlyTheNewestRunIsCreatedAndARestartRepeatsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, daily(chain("now", 1), 5, false))
	w.wait("the run", func() bool { return len(w.finished("now")) == 1 })
	w.crash()
	w.start()
	next, found, err := w.s.NextRun(t.Context(), "now")
	if err != nil || !found || !next.RunAfter.After(time.Now()) {
		t.Errorf("next: %v %v %v", next, found, err)
	}
	if n := len(w.finished("now")); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestADAGWhoseRunsKeepFailingIsPaused(t *testing.T) {
	t.Parallel()
	d := daily(chain("bad", 1), 6, true)
	d.MaxActiveRuns, d.MaxConsecutiveFailedRuns = 1, 2
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{Exit: 1, Final: true} }, d)
	w.wait("the DAG to be paused", func() bool {
		i, err := w.db.DAG(t.Context(), "bad")
		return err == nil && i.Paused
	})
	if n := len(w.finished("bad")); n < 2 || n > 3 {
		t.Errorf("%d runs have failed before it was paused, want 2", n)
	}
}

func TestARunOfAPausedDAGSaysWhyItWaits(t *testing.T) {
	t.Parallel()
	d := chain("still", 1)
	yes := true
	d.PausedUponCreation = &yes
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, d)
	r := w.trigger("still")
	why, err := w.s.WhyWaiting(t.Context(), "still", r.RunID)
	if err != nil || len(why) == 0 || !slices.ContainsFunc(why, func(b plan.Blocked) bool { return strings.Contains(b.Reason, "paused") }) {
		t.Errorf("%v %v", why, err)
	}
	if err := w.s.SetPaused(t.Context(), "user:test", "still", false); err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
}

func TestClearingOnTheLatestVersionRunsTasksThatAreNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("grows", 1))
	r := w.ended(w.trigger("grows"))
	w.publish(chain("grows", 3))
	if _, err := w.s.Clear(t.Context(), "user:test", scheduler.ClearRequest{
		DAGID: "grows", RunID: r.RunID, RunOnLatest: true, ResetDagRuns: true,
	}); err != nil {
		t.Fatal(err)
	}
	w.wait("the new tasks", func() bool { return w.states(r)["t02"] == run.Success })
	if r = w.ended(r); r.DAGVersion != 2 {
		t.Errorf("the run is on version %d", r.DAGVersion)
	}
}

func TestAClearThatOneRunRefusesLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	early, late := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.RunID == "late" {
			return scripted.Behaviour{For: time.Hour}
		}
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, chain("half", 1))
	trigger := func(id string, at time.Time) run.DAGRun {
		r, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "half", RunID: id, LogicalDate: &at})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	done := w.ended(trigger("early", early))
	running := trigger("late", late)
	w.wait("the later run to run", func() bool { return w.states(running)["t00"] == run.Running })
	w.publish(chain("half", 2))
	request := scheduler.ClearRequest{DAGID: "half", StartDate: &early, EndDate: &late, RunOnLatest: true, ResetDagRuns: true}
	if _, err := w.s.Clear(t.Context(), "user:test", request); !errors.Is(err, scheduler.ErrConflict) {
		t.Fatalf("the running run went along: %v", err)
	}
	after, err := w.db.Run(t.Context(), "half", "early")
	if err != nil || after.State != done.State || after.DAGVersion != done.DAGVersion || len(w.attempts(after, "t00")) != 1 {
		t.Errorf("the earlier run is %s on version %d with %d attempts: %v", after.State, after.DAGVersion, len(w.attempts(after, "t00")), err)
	}
}

// failing is a store whose listings of runs up to a date fail, apart from the first, while the date is set.
type failing struct {
	*store.DB
	upTo  atomic.Pointer[time.Time]
	asked atomic.Int32
}

func (f *failing) Runs(ctx context.Context, q store.RunFilter) ([]run.DAGRun, int, error) {
	if at := f.upTo.Load(); at != nil && q.Limit > 0 && q.LogicalDateLTE != nil && q.LogicalDateLTE.Equal(*at) && f.asked.Add(1) > 1 {
		return nil, 0, errors.New("the disk gave an error")
	}
	return f.DB.Runs(ctx, q)
}

func TestAClearThatCannotReadOneRunLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} })
	d := chain("read", 1)
	d.MaxConsecutiveFailedRuns = 3
	w.publish(d)
	w.crash()
	bad := &failing{DB: w.db}
	w.through = func(*store.DB) scheduler.Store { return bad }
	w.start()
	first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var done []run.DAGRun
	for i := range 3 {
		at := first.AddDate(0, 0, i)
		r, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "read", LogicalDate: &at})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, w.ended(r))
	}
	newer := chain("read", 2)
	newer.MaxConsecutiveFailedRuns = 3
	w.publish(newer)
	last := *done[2].LogicalDate
	bad.upTo.Store(&last)
	request := scheduler.ClearRequest{DAGID: "read", StartDate: &first, EndDate: &last, RunOnLatest: true, ResetDagRuns: true}
	if _, err := w.s.Clear(t.Context(), "u", request); err == nil {
		t.Fatal("the clear went through")
	}
	for _, before := range done {
		after, err := w.db.Run(t.Context(), "read", before.RunID)
		if err != nil || after.Version != before.Version {
			t.Errorf("run %s was changed: %s on version %d: %v", before.RunID, after.State, after.DAGVersion, err)
		}
	}
	bad.upTo.Store(nil)
	tis, err := w.s.Clear(t.Context(), "u", request)
	if err != nil || len(tis) != 3 {
		t.Fatalf("cleared %d, want a task of each of three runs: %v", len(tis), err)
	}
	for _, r := range done {
		if r = w.ended(r); r.DAGVersion != 2 {
			t.Errorf("run %s is on version %d", r.RunID, r.DAGVersion)
		}
	}
}

func TestAMarkThatOneRunRefusesLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("marks", 2))
	first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var runs []run.DAGRun
	for i := range 2 {
		if i == 1 { // the later run has lost the task
			w.publish(chain("marks", 1))
		}
		at := first.AddDate(0, 0, i)
		r, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "marks", LogicalDate: &at})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, w.ended(r))
	}
	_, err := w.s.MarkTasks(t.Context(), "u", scheduler.MarkRequest{DAGID: "marks", RunID: runs[0].RunID, State: run.Failed,
		Tasks: []scheduler.TaskSel{{TaskID: "t01"}}, IncludeFuture: true})
	if !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("a run without the task went along: %v", err)
	}
	if got := w.states(runs[0])["t01"]; got != run.Success {
		t.Errorf("the earlier run's task is %s", got)
	}
}

func TestARequestThatArrivesTwiceResetsARunOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("reset", 1))
	ask := func(key string) run.DAGRun {
		t.Helper()
		r, err := w.s.Trigger(t.Context(), "attempt:a", scheduler.TriggerRequest{DAGID: "reset", RunID: "mine", Reset: true, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tries := func() int { return len(w.attempts(run.DAGRun{DAGID: "reset", RunID: "mine"}, "t00")) }
	w.ended(ask("a/1"))
	w.ended(ask("a/1"))
	if n := tries(); n != 1 {
		t.Errorf("a repeated request that created the run ran it %d times", n)
	}
	w.ended(ask("a/2"))
	w.crash() // the answer is lost with the server
	w.start()
	w.ended(ask("a/2"))
	if n := tries(); n != 2 {
		t.Errorf("a repeated request that reset the run ran it %d times, want twice in all", n)
	}
	w.ended(ask("a/3"))
	if n := tries(); n != 3 {
		t.Errorf("another request did not reset it: %d tries", n)
	}
}

func TestAnInstallationByHandShowsTheNextRunButCreatesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, daily(chain("now", 1), 5, false))
	w.wait("the scheduled run", func() bool { return len(w.finished("now")) == 1 })
	w.crash()
	w.cfg.ByHand = true
	w.publish(daily(chain("later", 1), 5, false))
	w.start()
	w.wait("the next run to be shown", func() bool {
		i, err := w.db.DAG(t.Context(), "later")
		return err == nil && i.Schedule.NextRun != nil
	})
	if _, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "later", RunID: "mine"}); err != nil {
		t.Fatal(err)
	}
	w.wait("the triggered run", func() bool { return len(w.finished("later")) == 1 })
	if runs, _, err := w.db.Runs(t.Context(), store.RunFilter{DAGID: "later"}); err != nil || len(runs) != 1 || runs[0].RunID != "mine" {
		t.Errorf("runs: %+v %v", runs, err)
	}
}
