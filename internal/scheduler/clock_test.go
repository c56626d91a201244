package scheduler

import (
	"log/slog"
	"testing"
	"time"

	"ostro.dev/ostro/internal/executor"
)

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
