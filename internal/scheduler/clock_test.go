package scheduler

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

func TestTheTimesOfAResultAgreeWithItsAttempt(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2024, 1, 1, 12, minute, 0, 0, time.UTC) }
	on := func(minute int) *time.Time { m := at(minute); return &m }
	type times struct{ Started, Ended, Again *time.Time }
	now := at(30)
	for _, c := range []struct {
		name    string
		started *time.Time // as recorded; the attempt was queued at 10
		told    times
		want    times
	}{
		{"by one clock", nil, times{on(11), on(20), on(40)}, times{on(11), on(20), on(40)}},
		{"what is recorded counts", on(12), times{on(11), on(20), nil}, times{on(12), on(20), nil}},
		{"the clock was set forwards: it ended before it was queued", nil, times{on(1), on(5), on(15)}, times{on(26), on(30), on(40)}},
		{"it ended before it began", on(11), times{on(1), on(5), nil}, times{on(11), on(30), nil}},
		{"the clock was set back: it ends ahead", nil, times{on(51), on(55), on(59)}, times{on(26), on(30), on(34)}},
		{"it began before it was queued", nil, times{on(1), on(20), nil}, times{on(10), on(20), nil}},
		{"it says no time", nil, times{on(11), &time.Time{}, nil}, times{on(11), on(30), nil}},
	} {
		a := run.Attempt{QueuedAt: at(10), StartedAt: c.started}
		r := asTold(a, executor.Result{StartedAt: c.told.Started, EndedAt: *c.told.Ended, RescheduleAt: c.told.Again}, now)
		if diff := cmp.Diff(c.want, times{r.StartedAt, &r.EndedAt, r.RescheduleAt}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAClockThatWasSetBackHoldsUpNothing(t *testing.T) {
	s := New(Config{}, nil, nil, slog.New(slog.DiscardHandler))
	s.st = newState()
	later := s.now().Add(time.Hour)
	s.lastFull = later
	s.st.runsDirty = false
	s.st.pending["a"], s.st.pendingAt = executor.Started{AttemptID: "a"}, later
	b := s.newBatch(t.Context(), actorScheduler)
	if err := s.onTime(b); err != nil {
		t.Fatal(err)
	}
	if !s.lastFull.Equal(b.now) || !s.st.runsDirty {
		t.Errorf("nothing is looked at before %v", s.lastFull)
	}
	if s.st.pendingAt.After(b.now) {
		t.Errorf("a start is not recorded before %v", s.st.pendingAt)
	}
}

func TestAShortTasksStartLeavesNoWakeUpBehind(t *testing.T) {
	s := New(Config{}, nil, nil, slog.New(slog.DiscardHandler))
	s.st = newState()
	s.st.attempts["a"] = &openAttempt{}
	s.foldStarted(executor.Started{AttemptID: "a"})
	if s.st.pendingAt.IsZero() {
		t.Fatal("a start is never recorded")
	}
	if err := s.foldFinished(s.newBatch(t.Context(), actorScheduler), executor.Result{AttemptID: "a"}); err != nil {
		t.Fatal(err)
	}
	later := s.now().Add(time.Minute)
	if next := s.st.nextWake(later, time.Hour); !next.After(later) {
		t.Errorf("with nothing to do the loop turns again at once: next wake %v at %v", next, later)
	}
}
