package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/workerapi"
)

// lastResort is the part of Stop's time that is kept for ending a worker that does not answer.
const lastResort = 3 * time.Second

// Stop ends the worker in order: tasks get TERM, the grace period, then KILL. A worker that cannot be reached, or does not
// answer in time, is ended from outside. It returns what became of the tasks; nil when there was no worker to stop. Run
// keeps reporting results until its own context ends, and starts no worker any more.
func (e *Executor) Stop(ctx context.Context, grace time.Duration) (*workerapi.Stopped, error) {
	e.mu.Lock()
	e.stopped = true
	peer, ended, pid := e.peer, e.worker, e.pid
	e.mu.Unlock()
	if peer == nil || e.isStopped() {
		return e.end(ctx, grace, ended)
	}
	s, err := askToStop(ctx, peer, grace, ended, pid)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, workerapi.ErrClosed), errors.Is(err, context.DeadlineExceeded) && e.o.End != nil:
		// It has ended without a word, or hangs.
		left, lerr := e.end(ctx, grace, ended)
		if s == nil {
			s = left
		}
		return s, lerr
	}
	return s, fmt.Errorf("stop the worker: %w", err)
}

// isStopped reports whether the worker cannot answer because it is stopped, as by SIGSTOP.
func (e *Executor) isStopped() bool {
	if e.o.Process == nil || e.o.End == nil {
		return false
	}
	_, stopped, known := e.o.Process()
	return known && stopped
}

// askToStop has the worker end itself and waits until its process is gone, be it one that we started or another server did.
func askToStop(ctx context.Context, peer *workerapi.Peer, grace time.Duration, ended <-chan struct{}, pid int) (*workerapi.Stopped, error) {
	var adopted *process
	if ended == nil {
		adopted = watchProcess(pid)
		defer adopted.close()
	}
	if at, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, at.Add(-lastResort))
		defer cancel()
	}
	var s workerapi.Stopped
	if err := peer.Call(ctx, workerapi.Stop{Type: "Stop", GraceSeconds: grace.Seconds()}, &s); err != nil {
		return nil, err
	}
	select {
	case <-peer.Done():
	case <-ctx.Done():
		return &s, ctx.Err()
	}
	if ended == nil {
		return &s, adopted.gone(ctx)
	}
	select {
	case <-ended:
		return &s, nil
	case <-ctx.Done():
		return &s, ctx.Err()
	}
}

// end ends the worker from outside. One that was started and has not come up yet is waited for: it cannot be told apart
// from one that will run.
func (e *Executor) end(ctx context.Context, grace time.Duration, ended <-chan struct{}) (*workerapi.Stopped, error) {
	if e.o.End == nil {
		return nil, nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := e.o.End(ctx, grace)
		if err != nil || s != nil || ended == nil {
			return s, err
		}
		select {
		case <-ended:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("stop the worker: one that was being started is left: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
