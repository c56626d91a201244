package scheduler_test

import (
	"context"
	"errors"
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

// silent is a database that takes a commit and does not answer it while it is held.
type silent struct {
	*store.DB
	mu   sync.Mutex
	held chan struct{}
}

func (s *silent) Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error {
	err := s.DB.Update(ctx, actor, now, f)
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	return err
}

func (s *silent) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = make(chan struct{})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.held)
		s.held = nil
	}
}

func TestWhileACommitIsNotAnsweredQuestionsAreAndChangesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("silence", 1))
	w.crash()
	db := &silent{DB: w.db}
	w.through = func(*store.DB) scheduler.Store { return db }
	w.start()
	release := db.hold()
	triggered := make(chan error, 1)
	go func() {
		_, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "silence", RunID: "r"})
		triggered <- err
	}()
	w.wait("the commit to be under way", func() bool {
		_, err := w.db.Run(t.Context(), "silence", "r")
		return err == nil
	})
	if _, err := w.s.WhyWaiting(t.Context(), "silence", "r"); err != nil {
		t.Errorf("a question: %v", err)
	}
	if err := w.s.SetPaused(t.Context(), "user:test", "silence", true); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change: %v", err)
	}
	if p := w.s.Problem(); !strings.Contains(p, "it has not answered a commit") {
		t.Errorf("the problem is said to be %q", p)
	}
	select {
	case err := <-triggered:
		t.Errorf("the change under way was answered: %v", err)
	default:
	}
	release()
	if err := <-triggered; err != nil {
		t.Error(err)
	}
	r, err := w.db.Run(t.Context(), "silence", "r")
	if err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.State != run.RunSuccess || w.s.Problem() != "" {
		t.Errorf("the run ended %s, the problem is said to be %q", r.State, w.s.Problem())
	}
}
