package scheduler_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// everyThird is a timetable as Python would answer for it: days 1, 4, 7, … of 2024, with an interval of two days, until the
// latest date; asked for more than 4 slots at once it gives 4.
type everyThird struct {
	mu    sync.Mutex
	asked []protocol.Timetable
	fault string
}

func (e *everyThird) Evaluate(_ context.Context, r workerapi.Evaluate) (*workerapi.Evaluated, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := r.Question
	e.asked = append(e.asked, q)
	out := protocol.TimetableAnswer{Error: e.fault}
	switch {
	case e.fault != "":
	case q.Manual != nil:
		out.Manual = &protocol.Interval{Start: q.Manual.AddDate(0, 0, -7), End: *q.Manual}
	default:
		at := day(0)
		if q.After != nil {
			at = q.After.Start.AddDate(0, 0, 3)
		}
		for len(out.Slots) < min(q.Limit, 4) {
			if q.Latest != nil && at.After(*q.Latest) {
				out.Complete = true
				break
			}
			out.Slots = append(out.Slots, protocol.TimetableSlot{Interval: protocol.Interval{Start: at, End: at.AddDate(0, 0, 2)}, RunAfter: at.AddDate(0, 0, 2)})
			at = at.AddDate(0, 0, 3)
		}
	}
	return &workerapi.Evaluated{Answer: out}, nil
}

func (e *everyThird) questions() []protocol.Timetable {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]protocol.Timetable(nil), e.asked...)
}

func (e *everyThird) fail(with string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = with
}

// askedWorld is a world whose timetables in Python are everyThird.
func askedWorld(t *testing.T, e *everyThird, dags ...*dag.DAG) *world {
	t.Helper()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} })
	w.crash()
	w.cfg.Timetables = e
	w.publish(dags...)
	w.start()
	return w
}

func inPython(id string, until time.Time) *dag.DAG {
	d := chain(id, 1)
	d.Schedule = dag.Schedule{Kind: dag.ScheduleCustom, Custom: "dags.EveryThird"}
	d.Catchup, d.EndDate = true, &until
	return d
}

func TestATimetableInPythonIsAskedAFewSlotsAheadAndItsAnswersAreKept(t *testing.T) {
	t.Parallel()
	e := &everyThird{}
	w := askedWorld(t, e, inPython("d", day(27)))
	rs := w.runsOf("d", 10)
	for _, r := range rs {
		w.ended(r)
	}
	if r := rs[9]; !r.LogicalDate.Equal(day(27)) || !r.DataIntervalEnd.Equal(day(29)) || !r.RunAfter.Equal(day(29)) || r.Type != run.TypeScheduled {
		t.Errorf("the last run is %+v", r)
	}
	qs := e.questions()
	if len(qs) != 3 || qs[0].After != nil || !qs[1].After.End.Equal(day(11)) || !qs[2].Catchup {
		t.Errorf("it was asked %+v", qs)
	}
	w.crash()
	w.start()
	w.wait("a question after the restart", func() bool { return len(e.questions()) == 4 })
	w.runsOf("d", 10)
}

func TestATimetableInPythonSaysTheIntervalOfRunsByHandAndTheDatesOfBackfills(t *testing.T) {
	t.Parallel()
	e := &everyThird{}
	d := inPython("d", day(0))
	d.PausedUponCreation = new(bool)
	*d.PausedUponCreation = true
	w := askedWorld(t, e, d)
	at := day(40)
	r, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "d", LogicalDate: &at})
	if err != nil || !r.DataIntervalStart.Equal(day(33)) || !r.DataIntervalEnd.Equal(day(40)) {
		t.Errorf("the run by hand is %+v: %v", r, err)
	}
	dates, err := w.s.PlanBackfill(t.Context(), scheduler.BackfillRequest{DAGID: "d", From: day(2), To: day(8)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]time.Time{day(3), day(6)}, dates); diff != "" {
		t.Error(diff)
	}
	b := w.backfill(scheduler.BackfillRequest{DAGID: "d", From: day(2), To: day(8)})
	if n := len(w.dates(b.ID)); n != 2 {
		t.Errorf("the backfill has %d dates", n)
	}
	e.fail("ValueError: no")
	at = day(41)
	if _, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "d", LogicalDate: &at}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("a run by hand whose timetable fails: %v", err)
	}
}

func TestATimetableInPythonThatFailsIsSaidInWordsAndStopsNobodyElse(t *testing.T) {
	t.Parallel()
	e := &everyThird{fault: "ValueError: no such holiday"}
	w := askedWorld(t, e, inPython("d", day(3)), chain("other", 1))
	w.wait("the fault", func() bool { return len(w.s.TimetableFaults()) == 1 })
	if f := w.s.TimetableFaults()[0]; f.DAGID != "d" || f.File != "d.py" || !strings.Contains(f.Message, "dags.EveryThird of DAG d failed: ValueError: no such holiday") {
		t.Errorf("the fault is %+v", f)
	}
	if _, _, err := w.s.NextRun(t.Context(), "d"); err == nil || !strings.Contains(err.Error(), "no such holiday") {
		t.Errorf("the next run: %v", err)
	}
	w.ended(w.trigger("other"))
	if n := len(e.questions()); n != 1 {
		t.Errorf("it was asked %d times at once", n)
	}
	e.fail("")
	changed := inPython("d", day(3))
	changed.Description = "mended"
	w.publish(changed)
	w.runsOf("d", 2)
	w.wait("the fault to go", func() bool { return len(w.s.TimetableFaults()) == 0 })
}
