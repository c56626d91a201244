package simtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// slack is how much later than asked for something may come about: a look at everything is taken every five seconds.
const slack = 12 * time.Second

// clockWorld is an installation whose clock is set while tasks run, wait for a retry, a time, a file and a person.
type clockWorld struct {
	*bubble
	mu     sync.Mutex
	begun  map[string][]time.Time // by task: when its processes began, in the time that really passes
	began  time.Time
	latest time.Time // that the clock on the wall has shown
}

// clockDAGs: a schedule with catch-up, one without, tasks that are retried, that look again, that wait with a timeout, that run long
// within a limit, and one that runs too long.
func clockDAGs(start time.Time) []*dag.DAG {
	none, hour := dag.Schedule{Kind: dag.ScheduleNone}, dag.Seconds(time.Hour)
	every10 := dag.Schedule{Kind: dag.ScheduleCronInterval, Cron: []string{"*/10 * * * *"}}
	task := func(id string) dag.Task { return dag.Task{ID: id, Operator: "X"} }
	retries := task("retries")
	retries.Retries, retries.RetryDelay = 2, sec(10*time.Minute)
	return []*dag.DAG{
		{ID: "catchup", File: "c.py", Schedule: every10, Catchup: true, StartDate: &start, Tasks: []dag.Task{task("one")}},
		{ID: "newest", File: "n.py", Schedule: every10, StartDate: &start, Tasks: []dag.Task{task("one")}},
		{ID: "again", File: "r.py", Schedule: none, Tasks: []dag.Task{retries}},
		{ID: "looks", File: "l.py", Schedule: none, Tasks: []dag.Task{task("looks")}},
		{ID: "waits", File: "w.py", Schedule: none, Tasks: []dag.Task{task("waits")}},
		{ID: "asks", File: "a.py", Schedule: none, Tasks: []dag.Task{task("asks")}},
		{ID: "long", File: "g.py", Schedule: none, DagrunTimeout: &hour, Tasks: []dag.Task{task("long")}},
		{ID: "late", File: "t.py", Schedule: none, DagrunTimeout: &hour, Tasks: []dag.Task{task("late")}},
	}
}

func (w *clockWorld) script(a executor.Attempt) scripted.Behaviour {
	ti := a.Startup.TI
	w.mu.Lock()
	n := len(w.begun[ti.TaskID])
	w.begun[ti.TaskID] = append(w.begun[ti.TaskID], time.Now())
	w.mu.Unlock()
	b := scripted.Behaviour{For: time.Minute}
	timeout := (40 * time.Minute).Seconds()
	switch ti.TaskID {
	case "one":
		b.For = time.Second
	case "retries":
		b.Exit = 1
	case "looks":
		if n < 3 {
			at := new(time.Time)
			b.Result = &executor.Result{State: run.UpForReschedule, RescheduleAt: at}
			b.Gone = func() { *at = w.wall().Add(10 * time.Minute) } // as a sensor does when it gives up its process
		}
	case "waits":
		if n == 0 {
			b.Result = &executor.Result{State: run.Deferred, Defer: &protocol.DeferTask{
				Classpath: "airflow.providers.standard.triggers.file.FileTrigger", TriggerKwargs: json.RawMessage(`{"filepath":"/nowhere/at/all"}`),
				TriggerTime: &timeout, NextMethod: "later"}}
		}
	case "asks":
		if n == 0 {
			b.Result = &executor.Result{State: run.AwaitingInput, Defer: &protocol.DeferTask{
				Input: json.RawMessage(`{"subject":"well?","options":["yes"],"defaults":["yes"]}`), TriggerTime: &timeout, NextMethod: "later"}}
		}
	case "long":
		b.For = 50 * time.Minute
	case "late":
		b.For = 90 * time.Minute
	}
	return b
}

// setsClock is a setting of the clock at one point of one commit.
type setsClock struct {
	by time.Duration
	at int // the point, from 1; 0: never
	// unheard: the answers of the next commits are lost, when all is durable.
	unheard bool
}

// run plays the world for two hours that really pass, and then until the clock on the wall has been everywhere again.
func (w *clockWorld) run(s setsClock) (points int) {
	start := time.Now().Add(-time.Hour).UTC()
	w.begun, w.began = map[string][]time.Time{}, time.Now()
	w.bubble = newBubble(w.t, w.script)
	w.ex.SetClock(w.wall)
	defer w.end()
	w.publish(clockDAGs(start)...)
	w.onCommit = func(n int, point string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		points = n
		if n == s.at {
			w.latest = w.wall()
			w.setClock(s.by)
		}
		if s.unheard && n >= s.at && n < s.at+6 && point == store.FaultCommitted {
			return errInjectedHere
		}
		return nil
	}
	for _, id := range []string{"again", "looks", "waits", "asks", "long", "late"} {
		w.trigger(id, "r")
	}
	for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); {
		w.pass(time.Until(end))
	}
	w.mu.Lock()
	latest := w.latest
	w.mu.Unlock()
	w.checkByHand(s)
	for w.wall().Before(latest.Add(30 * time.Minute)) {
		w.pass(latest.Add(30 * time.Minute).Sub(w.wall()))
	}
	w.pass(time.Minute)
	w.checkSchedules(start)
	w.checkTimes()
	return points
}

// spaced says whether the processes of a task began so far from each other, in the time that really passes.
func (w *clockWorld) spaced(s setsClock, task string, want ...time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := w.begun[task]
	if len(begun) != len(want)+1 {
		w.t.Errorf("clock set by %s at %d: %s began %d times, want %d", s.by, s.at, task, len(begun), len(want)+1)
		return
	}
	for i, d := range want {
		if got := begun[i+1].Sub(begun[i]); got < d-time.Second || got > d+slack {
			w.t.Errorf("clock set by %s at %d: process %d of %s began after %s, want %s", s.by, s.at, i+2, task, got, d)
		}
	}
}

// checkByHand says whether all that lasts lasted as long as it was to.
func (w *clockWorld) checkByHand(s setsClock) {
	w.t.Helper()
	w.spaced(s, "retries", 11*time.Minute, 11*time.Minute)
	w.spaced(s, "looks", 11*time.Minute, 11*time.Minute, 11*time.Minute)
	w.spaced(s, "waits", 41*time.Minute)
	w.spaced(s, "asks", 41*time.Minute)
	w.spaced(s, "long")
	w.spaced(s, "late")
	for id, want := range map[string]run.State{"again": run.RunFailed, "looks": run.RunSuccess, "waits": run.RunSuccess,
		"asks": run.RunSuccess, "long": run.RunSuccess, "late": run.RunFailed} {
		if r := w.runs(id)[0]; r.State != want {
			w.t.Errorf("clock set by %s at %d: the run of %s is %s, want %s", s.by, s.at, id, r.State, want)
		}
	}
	r := w.runs("late")[0]
	if took := r.EndDate.Sub(*r.StartDate); took < time.Hour || took > time.Hour+slack {
		w.t.Errorf("clock set by %s at %d: dagrun_timeout of an hour ended the run after %s", s.by, s.at, took)
	}
}

// checkSchedules says whether every interval up to the latest has had its one run.
func (w *clockWorld) checkSchedules(start time.Time) {
	w.t.Helper()
	for _, id := range []string{"catchup", "newest"} {
		seen := map[time.Time]bool{}
		var last time.Time
		for _, r := range w.runs(id) {
			at := r.LogicalDate.UTC()
			if seen[at] {
				w.t.Errorf("%s: the interval from %s has two runs", id, at)
			}
			seen[at] = true
			if at.After(last) {
				last = at
			}
			if r.State != run.RunSuccess && w.wall().Sub(*r.DataIntervalEnd) > time.Minute {
				w.t.Errorf("%s: the run of %s is %s", id, at, r.State)
			}
		}
		if id == "newest" {
			continue
		}
		for at := start.Truncate(10 * time.Minute); !at.After(last); at = at.Add(10 * time.Minute) {
			if !at.Before(start) && !seen[at] {
				w.t.Errorf("%s: the interval from %s has no run", id, at)
			}
		}
		if due := w.wall().Add(-10*time.Minute - slack).Truncate(10 * time.Minute).Add(-10 * time.Minute); last.Before(due) {
			w.t.Errorf("%s: the last run is of %s, want %s", id, last, due)
		}
	}
}

// checkTimes says whether anything ended before it began.
func (w *clockWorld) checkTimes() {
	w.t.Helper()
	inOrder := func(what string, times ...*time.Time) {
		var last *time.Time
		for _, at := range times {
			if at != nil && last != nil && at.Before(*last) {
				w.t.Errorf("%s: %s comes after %s", what, last, at)
			}
			if at != nil {
				last = at
			}
		}
	}
	rs, _, err := w.db.Runs(w.t.Context(), store.RunFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range rs {
		inOrder("run "+r.DAGID+"/"+r.RunID, &r.QueuedAt, r.StartDate, r.EndDate)
		as, err := w.db.RunAttempts(w.t.Context(), r.DAGID, r.RunID)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, a := range as {
			inOrder(fmt.Sprintf("attempt %d of %s/%s", a.TryNumber, r.DAGID, a.TaskID), &a.QueuedAt, a.StartedAt, a.EndedAt)
		}
		for _, ti := range w.instances(r.DAGID, r.RunID) {
			inOrder("instance "+r.DAGID+"/"+name(ti.Key), ti.StartDate, ti.EndDate)
		}
	}
}

var jumps = []time.Duration{3 * time.Hour, -3 * time.Hour, 26 * time.Hour, -26 * time.Hour}

// TestWhatIsOpenIsMovedOnceWhenTheClockJumpsAndTheAnswersOfCommitsAreLost: whoever does not know that all times were moved must find out.
func TestWhatIsOpenIsMovedOnceWhenTheClockJumpsAndTheAnswersOfCommitsAreLost(t *testing.T) {
	for _, by := range jumps {
		for at := range chosen(100, 3) {
			t.Run(fmt.Sprintf("%s at point %d", by, 30+at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					(&clockWorld{bubble: &bubble{t: t}}).run(setsClock{by: by, at: 30 + at, unheard: true})
				})
			})
		}
	}
}

// TestAClockThatJumpsAtAnyCommitChangesNothingThatLasts sets the clock by hours, forwards and back, at every point of every commit.
// A plain run takes some of the points, OSTRO_TEST_SIM=all every one.
func TestAClockThatJumpsAtAnyCommitChangesNothingThatLasts(t *testing.T) {
	points := 0
	synctest.Test(t, func(t *testing.T) { points = (&clockWorld{bubble: &bubble{t: t}}).run(setsClock{}) })
	if points < 100 {
		t.Fatalf("%d points of commits in a run without a fault", points)
	}
	for _, by := range jumps {
		for at := range chosen(points, 5) {
			t.Run(fmt.Sprintf("%s at point %d", by, at+1), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { (&clockWorld{bubble: &bubble{t: t}}).run(setsClock{by: by, at: at + 1}) })
			})
		}
	}
}
