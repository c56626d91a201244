package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
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

// refusing is a store that does things wrong when it is told to.
type refusing struct {
	*store.DB
	mu     sync.Mutex
	commit func() error // asked before every commit
	dags   error        // of listing DAGs

	refused *store.Refusal
	proofs  int // how often Health was asked
}

func (r *refusing) Health(ctx context.Context) error {
	r.mu.Lock()
	r.proofs++
	r.mu.Unlock()
	return r.DB.Health(ctx)
}

func (r *refusing) Refused() *store.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

func (r *refusing) Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error {
	r.mu.Lock()
	commit := r.commit
	r.mu.Unlock()
	if commit != nil {
		if err := commit(); err != nil {
			return err
		}
	}
	return r.DB.Update(ctx, actor, now, f)
}

func (r *refusing) DAGs(ctx context.Context, f store.DAGFilter) ([]store.DAGInfo, int, error) {
	r.mu.Lock()
	err := r.dags
	r.mu.Unlock()
	if err != nil {
		return nil, 0, err
	}
	return r.DB.DAGs(ctx, f)
}

func (r *refusing) set(commit func() error, dags error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commit, r.dags = commit, dags
}

// refuse makes a world whose store does things wrong when it is told to.
func refuse(t *testing.T, script scripted.Script, dags ...*dag.DAG) (*world, *refusing) {
	t.Helper()
	w := newWorld(t, script, dags...)
	w.crash()
	r := &refusing{DB: w.db}
	w.through = func(*store.DB) scheduler.Store { return r }
	w.start()
	return w, r
}

func TestAProblemStaysWhileOnlyTheSmallChangeOfTheProofFindsRoom(t *testing.T) {
	t.Parallel()
	w, db := refuse(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("nearly", 1))
	db.set(func() error { return fmt.Errorf("no space left: %w", store.ErrUnavailable) }, nil)
	refusedAt := func(at *store.Refusal) {
		db.mu.Lock()
		defer db.mu.Unlock()
		db.refused = at
	}
	refusedAt(&store.Refusal{At: time.Now().Add(time.Hour), Err: store.ErrUnavailable})
	if _, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "nearly"}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a trigger is answered with %v", err)
	}
	db.set(nil, nil)
	w.wait("three proofs that found room", func() bool {
		db.mu.Lock()
		defer db.mu.Unlock()
		return db.proofs >= 3
	})
	if w.s.Problem() == "" {
		t.Error("the all-clear was given while changes are refused")
	}
	refusedAt(&store.Refusal{At: time.Now().Add(-time.Hour), Err: store.ErrUnavailable})
	w.wait("the all-clear when none was refused for long", func() bool { return w.s.Problem() == "" })
}

func TestTheEndOfACallbackWhoseCommitFailsIsCommittedLater(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ran := 0
	d := chain("owing", 1)
	d.HasOnFailureCallback = true
	var db *refusing
	var w *world
	w, db = refuse(t, func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.Kind != protocol.KindCallback {
			return scripted.Behaviour{Exit: 1, Final: true}
		}
		mu.Lock()
		defer mu.Unlock()
		if ran++; ran == 1 {
			once := true // the commit that holds the callback's end fails
			db.set(func() error {
				mu.Lock()
				defer mu.Unlock()
				if once {
					once = false
					return store.ErrConflict
				}
				return nil
			}, nil)
		}
		return scripted.Behaviour{}
	}, d)
	r := w.ended(w.trigger("owing"))
	w.wait("the callback to be done", func() bool {
		owed, err := w.db.OwedCallbacks(t.Context())
		return err == nil && len(owed) == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if r.State != run.RunFailed || ran != 1 {
		t.Errorf("the run ended %s, and its callback ran %d times", r.State, ran)
	}
}

func TestDAGsThatCannotBeReadWhenTheyArePublishedAreReadLater(t *testing.T) {
	t.Parallel()
	w, db := refuse(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("old", 1))
	db.set(nil, errors.New("the disk gave an error"))
	w.publish(chain("new", 1))
	if _, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "new"}); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("a DAG that could not be read: %v", err)
	}
	db.set(nil, nil)
	w.wait("the DAG to be known", func() bool {
		_, err := w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "new", RunID: "r"})
		return err == nil
	})
}

func TestAStopDoesNotWaitForADatabaseThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w, db := refuse(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("stop", 1))
	tried := make(chan struct{}, 100)
	db.set(func() error {
		tried <- struct{}{}
		return store.ErrUnavailable
	}, nil)
	go func() { _, _ = w.s.Trigger(t.Context(), "u", scheduler.TriggerRequest{DAGID: "stop"}) }()
	<-tried
	held := make(chan error, 1)
	go func() { held <- w.s.Hold(t.Context()) }()
	if err := <-held; err != nil {
		t.Error(err)
	}
	db.set(nil, nil)
}

func TestACommandMayBeAheadOfTheWordThatItsDAGWasPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} }, chain("old", 1))
	err := w.db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(chain("fresh", 1), "dags-folder", "v1", false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.SetPaused(t.Context(), "user:test", "fresh", true); err != nil { // nobody has called DAGsChanged
		t.Errorf("pause: %v", err)
	}
	err = w.db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(chain("fresher", 1), "dags-folder", "v1", false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "fresher", LogicalDate: &now}); err != nil {
		t.Errorf("trigger: %v", err)
	}
	err = w.s.SetPaused(t.Context(), "user:test", "frseh", true)
	if !errors.Is(err, scheduler.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "fresh"?`) {
		t.Errorf("a DAG that is nowhere: %v", err)
	}
}
