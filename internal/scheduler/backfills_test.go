package scheduler_test

import (
	"errors"
	"fmt"
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
)

func day(n int) time.Time { return time.Date(2024, 1, 1+n, 0, 0, 0, 0, time.UTC) }

// everyDay is a DAG on cron that creates no runs by itself: its dates are over.
func everyDay(id string, edit ...func(*dag.DAG)) *dag.DAG {
	d := chain(id, 1)
	end := day(60)
	d.Schedule = dag.Schedule{Kind: dag.ScheduleCronTrigger, Cron: []string{"0 0 * * *"}}
	d.EndDate = &end
	for _, e := range edit {
		e(d)
	}
	return d
}

func (w *world) backfill(r scheduler.BackfillRequest) store.Backfill {
	w.t.Helper()
	b, err := w.s.CreateBackfill(w.t.Context(), "user:test", r)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// completed waits until a backfill is complete and returns its dates.
func (w *world) completed(id int64) []store.BackfillRun {
	w.t.Helper()
	w.wait(fmt.Sprintf("the end of backfill %d", id), func() bool {
		b, err := w.db.Backfill(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		return b.Completed != nil
	})
	return w.dates(id)
}

func (w *world) dates(id int64) []store.BackfillRun {
	w.t.Helper()
	out, err := w.db.BackfillRuns(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// order is a script that remembers the logical dates of attempts in the order they began.
type order struct {
	mu    sync.Mutex
	begun []string
}

func (o *order) script(a executor.Attempt) scripted.Behaviour {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun = append(o.begun, a.Startup.Context.DagRun.LogicalDate.Format("01-02"))
	return scripted.Behaviour{For: time.Millisecond}
}

func (o *order) seen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.begun...)
}

func TestABackfillRunsEveryDateInItsOrderAndCompletes(t *testing.T) {
	t.Parallel()
	for _, reverse := range []bool{false, true} {
		o := &order{}
		w := newWorld(t, o.script, everyDay("d"))
		r := scheduler.BackfillRequest{DAGID: "d", From: day(2), To: day(5), MaxActiveRuns: 1, Reverse: reverse, Conf: []byte(`{"x":1}`)}
		dates, err := w.s.PlanBackfill(t.Context(), r)
		if err != nil || len(dates) != 4 || dates[0].Equal(day(2)) == reverse {
			t.Fatalf("the plan is %v: %v", dates, err)
		}
		b := w.backfill(r)
		if b.ID != 1 || b.Reprocess != "none" || b.CreatedBy != "user:test" {
			t.Errorf("the backfill is %+v", b)
		}
		for i, x := range w.completed(b.ID) {
			if x.State != run.RunSuccess || x.Ordinal != i+1 || !x.LogicalDate.Equal(dates[i]) {
				t.Errorf("date %d is %+v", i, x)
			}
		}
		want := []string{"01-03", "01-04", "01-05", "01-06"}
		if reverse {
			want = []string{"01-06", "01-05", "01-04", "01-03"}
		}
		if d := cmp.Diff(want, o.seen()); d != "" {
			t.Errorf("order: %s", d)
		}
		rs := w.runsOf("d", 4)
		if x := rs[0]; x.Type != run.TypeBackfill || x.BackfillID != b.ID || string(x.Conf) != `{"x":1}` ||
			x.RunID != "backfill__"+x.LogicalDate.Format("2006-01-02T15:04:05")+"+00:00" || !x.DataIntervalEnd.Equal(*x.LogicalDate) {
			t.Errorf("the first run is %+v", x)
		}
	}
}

func TestDatesThatHaveARunAreReprocessedAsAsked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reprocess string
		want      []string
	}{
		{"none", []string{"already exists", "already exists", "in flight", "success"}},
		{"failed", []string{"already exists", "success", "in flight", "success"}},
		{"completed", []string{"success", "success", "in flight", "success"}},
	} {
		t.Run(c.reprocess, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			script := func(a executor.Attempt) scripted.Behaviour {
				ti := a.Startup.TI
				switch {
				case ti.RunID == "fails" && a.Startup.Context.DagRun.RunType == "manual":
					return scripted.Behaviour{Exit: 1, Final: true}
				case ti.RunID == "waits":
					<-release
				}
				return scripted.Behaviour{}
			}
			w := newWorld(t, script, everyDay("d"))
			for i, id := range []string{"works", "fails", "waits"} {
				at := day(i)
				r, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "d", RunID: id, LogicalDate: &at})
				if err != nil {
					t.Fatal(err)
				}
				if id != "waits" {
					w.ended(r)
				}
			}
			b := w.backfill(scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(3), Reprocess: c.reprocess})
			var got []string
			for _, x := range w.completed(b.ID) {
				if x.Reason != "" {
					got = append(got, x.Reason)
				} else {
					got = append(got, string(x.State))
				}
			}
			close(release)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if c.reprocess != "none" {
				r, err := w.db.Run(t.Context(), "d", "fails")
				if err != nil || r.Type != run.TypeBackfill || r.BackfillID != b.ID || r.State != run.RunSuccess {
					t.Errorf("the run that was run again is %+v: %v", r, err)
				}
			}
		})
	}
}

func TestABackfillHasItsOwnLimitAndPauseAndSurvivesRestarts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var mu sync.Mutex
	live, most := 0, 0
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.Context.DagRun.RunType != "backfill" {
			return scripted.Behaviour{}
		}
		mu.Lock()
		live++
		most = max(most, live)
		mu.Unlock()
		<-release
		mu.Lock()
		live--
		mu.Unlock()
		return scripted.Behaviour{}
	}
	w := newWorld(t, script, everyDay("d", func(d *dag.DAG) { d.MaxActiveRuns = 1 }))
	b := w.backfill(scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(9), MaxActiveRuns: 3})
	w.wait("three runs", func() bool { mu.Lock(); defer mu.Unlock(); return live == 3 })
	w.ended(w.trigger("d")) // the backfill does not count against the DAG's own limit
	if err := w.s.PauseBackfill(t.Context(), "user:test", b.ID, true); err != nil {
		t.Fatal(err)
	}
	w.crash()
	close(release)
	w.start()
	count := func(s run.State) (n int) {
		for _, x := range w.dates(b.ID) {
			if x.State == s {
				n++
			}
		}
		return n
	}
	w.wait("three runs to end", func() bool { return count(run.RunSuccess) == 3 })
	blocked, err := w.s.WhyWaiting(t.Context(), "d", w.dates(b.ID)[9].RunID)
	if err != nil || len(blocked) != 1 || blocked[0].Reason != "backfill 1 is paused" || count(run.RunQueued) != 7 {
		t.Errorf("blocked %+v, %d queued: %v", blocked, count(run.RunQueued), err)
	}
	if err := w.s.PauseBackfill(t.Context(), "user:test", b.ID, false); err != nil {
		t.Fatal(err)
	}
	w.completed(b.ID)
	if n := count(run.RunSuccess); n != 10 || most > 3 {
		t.Errorf("%d runs succeeded, at most %d ran at once", n, most)
	}
	if err := w.s.PauseBackfill(t.Context(), "user:test", b.ID, true); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("pausing a complete backfill: %v", err)
	}
}

func TestCancellingABackfillFailsWhatIsQueuedAndLetsTheRestGoOn(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { <-release; return scripted.Behaviour{} }, everyDay("d"))
	b := w.backfill(scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(3), MaxActiveRuns: 1})
	if _, err := w.s.CreateBackfill(t.Context(), "user:test", scheduler.BackfillRequest{DAGID: "d", From: day(7), To: day(8)}); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("a second backfill: %v", err)
	}
	if err := w.s.CancelBackfill(t.Context(), "user:test", b.ID); err != nil {
		t.Fatal(err)
	}
	dates := w.completed(b.ID)
	close(release)
	w.ended(run.DAGRun{DAGID: "d", RunID: dates[0].RunID})
	var got []string
	for _, x := range w.dates(b.ID) {
		got = append(got, string(x.State))
	}
	if d := cmp.Diff([]string{"success", "failed", "failed", "failed"}, got); d != "" {
		t.Error(d)
	}
	if err := w.s.CancelBackfill(t.Context(), "user:test", b.ID); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("cancelling again: %v", err)
	}
	if err := w.s.CancelBackfill(t.Context(), "user:test", 99); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("cancelling what is not there: %v", err)
	}
}

func TestABackfillOfTasksThatDependOnThePastRunsOneDateAfterTheOther(t *testing.T) {
	t.Parallel()
	o := &order{}
	w := newWorld(t, o.script, everyDay("d", func(d *dag.DAG) { d.Tasks[0].DependsOnPast = true }))
	b := w.backfill(scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(7), MaxActiveRuns: 8, Reprocess: "failed"})
	w.completed(b.ID)
	want := []string{"01-01", "01-02", "01-03", "01-04", "01-05", "01-06", "01-07", "01-08"}
	if d := cmp.Diff(want, o.seen()); d != "" {
		t.Error(d)
	}
}

func TestBackfillsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scripted.ByTask(nil), everyDay("d"), chain("unscheduled", 1), everyDay("past", func(d *dag.DAG) { d.Tasks[0].DependsOnPast = true }),
		everyDay("picky", func(d *dag.DAG) { d.AllowedRunTypes = []string{"manual"} }), consumer("use_a", assetExpr("a")))
	tomorrow := time.Now().AddDate(0, 0, 1)
	for name, c := range map[string]struct {
		r    scheduler.BackfillRequest
		want error
	}{
		"unknown DAG":              {scheduler.BackfillRequest{DAGID: "nothing", From: day(0), To: day(1)}, scheduler.ErrNotFound},
		"no schedule":              {scheduler.BackfillRequest{DAGID: "unscheduled", From: day(0), To: day(1)}, scheduler.ErrInvalid},
		"assets":                   {scheduler.BackfillRequest{DAGID: "use_a", From: day(0), To: day(1)}, scheduler.ErrInvalid},
		"backwards dates":          {scheduler.BackfillRequest{DAGID: "d", From: day(1), To: day(0)}, scheduler.ErrInvalid},
		"future dates":             {scheduler.BackfillRequest{DAGID: "d", From: tomorrow, To: tomorrow}, scheduler.ErrInvalid},
		"no dates":                 {scheduler.BackfillRequest{DAGID: "d", From: day(0).Add(time.Hour), To: day(0).Add(2 * time.Hour)}, scheduler.ErrInvalid},
		"reprocess":                {scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(1), Reprocess: "some"}, scheduler.ErrInvalid},
		"negative limit":           {scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(1), MaxActiveRuns: -1}, scheduler.ErrInvalid},
		"conf":                     {scheduler.BackfillRequest{DAGID: "d", From: day(0), To: day(1), Conf: []byte(`[1]`)}, scheduler.ErrInvalid},
		"the past, none":           {scheduler.BackfillRequest{DAGID: "past", From: day(0), To: day(1)}, scheduler.ErrInvalid},
		"the past in reverse":      {scheduler.BackfillRequest{DAGID: "past", From: day(0), To: day(1), Reverse: true, Reprocess: "failed"}, scheduler.ErrInvalid},
		"a run type not allowed":   {scheduler.BackfillRequest{DAGID: "picky", From: day(0), To: day(1)}, scheduler.ErrInvalid},
		"more dates than fit once": {scheduler.BackfillRequest{DAGID: "d", From: day(-30000), To: day(0)}, scheduler.ErrInvalid},
	} {
		if _, err := w.s.CreateBackfill(t.Context(), "user:test", c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
