package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ostro.dev/ostro/protocol"
)

const (
	// spareCount is how many forks of a host are kept waiting: in a chain of short tasks one gets ready while the other
	// one's task runs.
	spareCount = 2
	// spareDelay is how long a task runs before one is made beside it; making it would delay the end of a shorter one.
	spareDelay = 50 * time.Millisecond
	// spareIdle is how long they are kept after the last start of a task.
	spareIdle = 10 * time.Second
)

// spares are forks of a host that wait for a task. While tasks come some are kept ready, so that the next one waits
// neither for a copy of the host nor for the host, which may be busy copying itself.
type spares struct {
	h      *host
	ctx    context.Context // of the pool, as is what follows
	work   *sync.WaitGroup
	retire func(*host)

	mu           sync.Mutex
	ready        []*process // the oldest first
	made         int
	making       bool
	until        time.Time // no more are made after this moment
	refill, idle *time.Timer
	closed       bool
}

// Give gives the first message of a task to a process that waits for it, and returns that process; nil when there is none.
func (s *spares) Give(order []byte) *process {
	for {
		p := s.take()
		if p == nil {
			return nil
		}
		if !p.ended() && p.ch.order(order) == nil {
			s.Started()
			return p
		}
		p.ch.closeOurs()
	}
}

func (s *spares) take() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return nil
	}
	one := s.ready[0]
	s.ready = s.ready[1:]
	return one
}

// Started hears that a task of the host has started: more are to be expected.
func (s *spares) Started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.until = time.Now().Add(spareDelay + spareIdle)
	if s.refill == nil {
		s.refill = time.AfterFunc(spareDelay, s.Fill)
		s.idle = time.AfterFunc(spareDelay+spareIdle, s.drop)
		return
	}
	s.refill.Reset(spareDelay)
	s.idle.Reset(spareDelay + spareIdle)
}

// Fill makes what is missing, one after the other, so that a host can do something else in between. The best moment is
// when a task has ended.
func (s *spares) Fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = slices.DeleteFunc(s.ready, func(one *process) bool {
		if !one.ended() {
			return false
		}
		one.ch.closeOurs()
		return true
	})
	if s.closed || s.making || len(s.ready) >= spareCount || time.Now().After(s.until) {
		return
	}
	s.making = true
	s.made++
	forkID := fmt.Sprintf("spare-%d", s.made)
	s.work.Go(func() {
		one, err := s.h.fork(s.ctx, forkID, true)
		if refused := (*protocol.Error)(nil); errors.As(err, &refused) && refused.Code == protocol.CodeInvalid {
			s.retire(s.h) // it forks no more
		}
		s.mu.Lock()
		s.making = false
		switch {
		case err != nil:
			s.until = time.Time{} // until a task has started
		case s.closed || time.Now().After(s.until):
			one.ch.closeOurs()
		default:
			s.ready = append(s.ready, one)
		}
		s.mu.Unlock()
		s.Fill()
	})
}

// drop ends those that wait.
func (s *spares) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGo()
}

// letGo is drop with the lock held.
func (s *spares) letGo() {
	for _, one := range s.ready {
		one.ch.closeOurs() // the process sees it and exits
	}
	s.ready, s.until = nil, time.Time{}
}

// Close ends those that wait; there will be no others.
func (s *spares) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGo()
	s.closed = true
	if s.refill != nil {
		s.refill.Stop()
		s.idle.Stop()
	}
}

// fork has the host make a task process.
func (h *host) fork(ctx context.Context, forkID string, spare bool) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, forkLimit)
	defer cancel()
	ch, err := openChannels()
	if err != nil {
		return nil, fmt.Errorf("cannot start the task: %w", err)
	}
	defer ch.closeTheirs()
	exited := h.expectExit(forkID)
	pid, err := h.proc.Fork(ctx, forkID, spare, ch.childTask, ch.childOut, ch.childErr)
	if err != nil {
		h.forgetExit(forkID)
		ch.closeOurs()
		if ctx.Err() != nil && !spare { // one that nobody waits for ends by itself: its channel is closed
			h.logger.Error("a host does not fork; it is killed", "pid", h.proc.PID(), "err", err)
			h.proc.Kill()
		}
		return nil, err
	}
	return &process{ch: ch, id: identify(pid), exited: exited, host: h, gone: h.over}, nil
}

// ended says whether a process is known to be gone that has no task yet.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}
