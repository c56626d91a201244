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
