package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/store"
)

// commandPatience is how long a change from outside waits for a database that cannot be written.
const commandPatience = 2 * time.Second

// commit writes a batch. While the database cannot be written it waits, answering questions, and tries again; a batch
// with commands only for a while.
func (s *Scheduler) commit(ctx context.Context, b *batch, commands bool) error {
	if b.spoilt != nil {
		return b.spoilt
	}
	if b.empty() {
		s.tryAgain(ctx)
		return nil
	}
	wait := 50 * time.Millisecond
	for {
		err := s.update(ctx, b)
		if !errors.Is(err, store.ErrUnavailable) {
			s.taken(err)
			return err
		}
		s.trouble(err)
		impatient := time.Since(s.troubled) > commandPatience
		if commands && impatient {
			return err
		}
		if !s.waitAnswering(ctx, wait, impatient, err) {
			return ctx.Err()
		}
		wait = min(2*wait, commandPatience)
	}
}

// trouble says, once until it is over, that the database cannot be written, and why as far as it is known.
func (s *Scheduler) trouble(err error) {
	s.cause = err
	text := "the database cannot be written: " + err.Error()
	if s.problem.Swap(&text) == nil {
		s.troubled = time.Now()
		s.log.Error("the database cannot be written; nothing is lost, scheduling waits and tries again",
			"error", err, "hint", "the error says what is wrong; ostro db check looks at the database")
	}
}

// taken notes that the database takes commits; err is what else it said.
func (s *Scheduler) taken(err error) {
	s.cause = nil
	if s.problem.Swap(nil) != nil && err == nil {
		s.log.Info("the database can be written again")
	}
}

// tryAgain looks, where there is nothing to commit, whether a problem still exists: the change that met it may have been
// refused, and nobody may make another for long.
func (s *Scheduler) tryAgain(ctx context.Context) {
	if s.problem.Load() == nil {
		return
	}
	err := s.beside(ctx, func() error { return s.store.Health(ctx) })
	switch last := s.store.Refused(); {
	case errors.Is(err, store.ErrUnavailable):
		s.trouble(err)
	case err == nil && (last == nil || time.Since(last.At) > refusalCounts):
		s.taken(nil)
	}
}

// refusalCounts is how long a change that was refused keeps the problem, unless one is taken: on a disk that is nearly full
// the small change of the proof finds room all the time, and what tasks report, every two seconds at the latest, does not.
const refusalCounts = 5 * time.Second

// slowCommit is how long the database may take over a commit before people are told and questions answered beside it.
const slowCommit = time.Second

// errSlowCommit refuses changes while the database has not answered a commit. What became of that one must be known first.
var errSlowCommit = fmt.Errorf("it has not answered a commit: %w", store.ErrUnavailable)

// update writes a batch once.
func (s *Scheduler) update(ctx context.Context, b *batch) error {
	return s.beside(ctx, func() error { return s.store.Update(ctx, b.actor, b.now, b.write) })
}

// beside calls what commits. The store may have to wait until the database says what became of a commit; when that takes
// longer than slowCommit, others are answered beside.
func (s *Scheduler) beside(ctx context.Context, commits func() error) error {
	done, answered := make(chan struct{}), make(chan struct{})
	slow := time.AfterFunc(slowCommit, func() {
		defer close(answered)
		s.answerBeside(ctx, done)
	})
	defer func() {
		close(done)
		if !slow.Stop() {
			<-answered
		}
	}()
	return commits()
}

// answerBeside stands in for the loop, which waits for a commit, until that is done.
func (s *Scheduler) answerBeside(ctx context.Context, done <-chan struct{}) {
	if s.cause == nil { // else what is known says more
		s.trouble(errSlowCommit)
	}
	impatience := time.NewTimer(commandPatience)
	defer impatience.Stop()
	for {
		s.answerImpatient(ctx, time.Since(s.troubled) >= commandPatience, s.cause)
		select {
		case <-done:
			return
		case <-s.box.wake:
		case <-impatience.C:
		}
	}
}

// answerImpatient answers what only reads and, when it is to, refuses commands.
//
// Memory is ahead of the store then: it holds what is being committed, and when that fails, it is rebuilt from the store. So
// what is answered from it must be advice about what comes next (why an instance waits, when a DAG runs next, which dates a
// backfill would run), which the next answer may take back in any case; a command that acts on it is folded anew. What has
// happened (states, attempts, XComs) is read from the store, never from memory. To hold the advice back as well would leave
// people without an answer just when they ask why nothing happens.
func (s *Scheduler) answerImpatient(ctx context.Context, refuse bool, why error) {
	for _, m := range s.box.takeImpatient(refuse) {
		if m.command() {
			m.answer(why)
			continue
		}
		m.answer(m.fold(s.newBatch(ctx, actorScheduler)))
	}
}

// waitAnswering waits and meanwhile answers what only reads and, when it lasts, refuses commands.
func (s *Scheduler) waitAnswering(ctx context.Context, d time.Duration, refuse bool, why error) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		s.answerImpatient(ctx, refuse, why)
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-s.box.wake:
		}
	}
}
