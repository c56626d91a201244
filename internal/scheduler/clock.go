package scheduler

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// Clocks are set: by hand, by a time server that was out of reach, by a virtual machine that wakes up. Schedules, logical dates
// and moments that an author names follow the clock on the wall. Everything that lasts (the wait before a retry, a timeout, how
// long a task has been running) must not: so the scheduler compares the clock with one that nobody can set, and when they part
// it tells the times of all that is open anew, in one commit.

// clockStep is by how much the clock must have been set to be noticed. Less is no more than an inexact wait.
const clockStep = 2 * time.Second

// clockLook is how long a look at both clocks may take to be trusted: a process may be stopped between them.
const clockLook = 100 * time.Millisecond

// clock watches the clock on the wall. It belongs to the scheduler's goroutine, but for now.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	first   time.Time
	ahead   time.Duration // of first and elapsed, when last looked at
	// pending is by how much the clock was set while that is not committed, and mark what the commit leaves in the store: whoever
	// is told that it failed when it had not must not move everything twice.
	pending time.Duration
	mark    string
}

func newClock(wall func() time.Time, elapsed func() time.Duration) *clock {
	if wall == nil {
		wall = time.Now
	}
	if elapsed == nil {
		began := time.Now()
		elapsed = func() time.Duration { return time.Since(began) }
	}
	c := &clock{wall: wall, elapsed: elapsed}
	c.first = c.now()
	c.ahead = -elapsed()
	return c
}

// now is the current time as the store keeps it.
func (c *clock) now() time.Time { return micro(c.wall()) }

// look adds to pending by how much the clock was set since the last look.
func (c *clock) look() {
	before := c.elapsed()
	ahead := c.now().Sub(c.first) - before
	if c.elapsed()-before > clockLook {
		return
	}
	if by := ahead - c.ahead; by >= clockStep || by <= -clockStep {
		c.pending += by
		c.ahead = ahead
		c.mark = newID()
	}
}

// clockMark is the name of the mark in the store.
const clockMark = "clock_set"

// clockTold finds out whether what is pending was committed all the same.
func (s *Scheduler) clockTold(ctx context.Context) error {
	if s.clock.pending == 0 {
		return nil
	}
	switch mark, err := s.store.Meta(ctx, clockMark); {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read how the clock was set: %w", err)
	case mark == s.clock.mark:
		s.clock.pending = 0
	}
	return nil
}

// followClock tells the times of all that is open anew if the clock was set.
func (s *Scheduler) followClock(b *batch) {
	s.clock.look()
	by := s.clock.pending
	if by == 0 {
		return
	}
	b.now = s.now()
	s.log.Warn("the clock was set; waits and timeouts go on as long as they were to last", "by", by.String())
	st := s.st
	for _, lr := range st.runs {
		b.decide(lr, plan.ClockSet{By: by})
	}
	for _, a := range st.attempts {
		a.row.QueuedAt = a.row.QueuedAt.Add(by)
		a.row.StartedAt = later(a.row.StartedAt, by)
	}
	for id, e := range st.pending {
		e.At = e.At.Add(by)
		st.pending[id] = e
	}
	st.waits.clockSet(by)
	mark := s.clock.mark
	b.writes = append(b.writes, func(tx *store.Tx) error {
		return errors.Join(tx.MoveOpenTimes(by), tx.SetMeta(clockMark, mark))
	})
	b.after = append(b.after, func() { s.clock.pending = 0 })
	s.ownClockSet(b, by)
}

// ownClockSet does the same for what is kept in memory alone, and has everything looked at.
func (s *Scheduler) ownClockSet(b *batch, by time.Duration) {
	st := s.st
	s.lastFull = time.Time{}
	if len(st.pending) > 0 {
		st.pendingAt = b.now
	}
	for _, d := range st.dags {
		if !d.asking.again.IsZero() {
			d.asking.again = d.asking.again.Add(by)
		}
		st.look(d)
	}
	st.runsDirty, st.assets.dirty = true, true
	for _, g := range st.groups {
		g.started, g.heard = g.started.Add(by), g.heard.Add(by)
		for _, t := range []*time.Time{&g.idleSince, &g.notBefore} {
			if !t.IsZero() {
				*t = t.Add(by)
			}
		}
	}
}

// clockSet moves what waits were begun at and when they are given up. Moments are meant by the clock on the wall.
func (ws *waits) clockSet(by time.Duration) {
	ws.heap = nil
	for _, w := range ws.byKey {
		w.CreatedAt, w.TimeoutAt = w.CreatedAt.Add(by), later(w.TimeoutAt, by)
		if w.input != nil {
			in := *w.input
			in.CreatedAt, in.TimeoutAt = in.CreatedAt.Add(by), later(in.TimeoutAt, by)
			w.input = &in
		}
		if w.index, w.at = -1, w.due(); !w.at.IsZero() {
			heap.Push(&ws.heap, w)
		}
	}
}

// happened is a wait as now sees it: one that begins ahead was begun before the clock was set back.
func happened(w run.Wait, now time.Time) run.Wait {
	if by := now.Sub(w.CreatedAt); by < -clockStep {
		w.CreatedAt, w.TimeoutAt = now, later(w.TimeoutAt, by)
	}
	return w
}

// asTold is a result whose times agree with those of its attempt: a worker tells when a process began and ended by its clock of
// then.
func asTold(a run.Attempt, r executor.Result, now time.Time) executor.Result {
	known := a.StartedAt != nil
	if known {
		r.StartedAt = a.StartedAt
	}
	if r.EndedAt.IsZero() {
		r.EndedAt = now
	}
	early := r.EndedAt.Before(a.QueuedAt) || known && r.EndedAt.Before(*a.StartedAt)
	if early || r.EndedAt.After(now) { // by another clock: it has ended just now
		by := now.Sub(r.EndedAt)
		r.RescheduleAt = later(r.RescheduleAt, by)
		if !known {
			r.StartedAt = later(r.StartedAt, by)
		}
		r.EndedAt = now
	}
	if r.StartedAt != nil {
		began := *r.StartedAt
		if began.Before(a.QueuedAt) {
			began = a.QueuedAt
		}
		r.StartedAt = &began
		if r.EndedAt.Before(began) {
			r.EndedAt = began
		}
	}
	return r
}

func later(t *time.Time, by time.Duration) *time.Time {
	if t == nil {
		return nil
	}
	at := t.Add(by)
	return &at
}
