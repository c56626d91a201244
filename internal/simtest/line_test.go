package simtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"ostro.dev/ostro/internal/executor"
)

// What may happen to a message, and to the server while it is sent.
const (
	passed     = "passed"
	lost       = "lost"       // with the connection; another is made a moment later
	duplicated = "duplicated" // it arrives twice
	delayed    = "delayed"    // it, and all that come after it in the same direction, arrive seconds later
	crashed    = "crashed"    // the server dies when it has been sent
	killed     = "killed"     // the worker dies when it has been sent
)

var messageFaults = []string{lost, duplicated, delayed, crashed, killed}

// line is the connection between server and worker: all messages of both directions pass through it, with a number each.
type line struct {
	executor.Executor
	b *bubble
	// onMessage says what happens to the n-th message, from 1.
	onMessage func(n int, what string) string

	mu   sync.Mutex
	sent int
	drop context.CancelFunc // ends the connection
}

var errLost = errors.New("the connection is lost")

// send passes a message on, or does to it what the simulation wants.
func (l *line) send(what string, pass func() error) error {
	if l.b.gone.Load() {
		return errLost
	}
	l.mu.Lock()
	fate := passed
	if l.onMessage != nil {
		l.sent++
		fate = l.onMessage(l.sent, what)
	}
	l.mu.Unlock()
	switch fate {
	case lost:
		l.disconnect()
		return errLost
	case duplicated:
		if err := pass(); err != nil {
			return err
		}
	case delayed:
		<-time.After(7 * time.Second)
	case crashed:
		defer l.b.die()
	case killed:
		defer l.b.ex.Restart()
	}
	return pass()
}

// watch sets what says what happens to messages; they are counted from now on.
func (l *line) watch(f func(n int, what string) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onMessage, l.sent = f, 0
}

func (l *line) disconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drop != nil {
		l.drop()
	}
}

// connect keeps server and worker connected until ctx ends.
func (l *line) connect(ctx context.Context, s sink) {
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(ctx)
		l.mu.Lock()
		l.drop = cancel
		l.mu.Unlock()
		_ = l.Executor.Run(one, &reports{sink: s, l: l, ctx: one})
		cancel()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (l *line) Launch(ctx context.Context, a executor.Attempt) error {
	return l.send("launch", func() error { return l.Executor.Launch(ctx, a) })
}

func (l *line) Kill(ctx context.Context, id, reason string) error {
	return l.send("kill", func() error { return l.Executor.Kill(ctx, id, reason) })
}

func (l *line) Acknowledge(ctx context.Context, ids ...string) error {
	return l.send("acknowledge", func() error { return l.Executor.Acknowledge(ctx, ids...) })
}

// reports are the messages of the worker. What is under way when the connection ends does not arrive.
type reports struct {
	sink
	l   *line
	ctx context.Context
}

func (r *reports) send(what string, pass func()) {
	_ = r.l.send(what, func() error {
		if r.ctx.Err() == nil {
			pass()
		}
		return nil
	})
}

func (r *reports) Connected(name, instance string, known []executor.Known) {
	r.send("connected", func() { r.sink.Connected(name, instance, known) })
}

func (r *reports) Started(e executor.Started) { r.send("started", func() { r.sink.Started(e) }) }

func (r *reports) Finished(res executor.Result) { r.send("finished", func() { r.sink.Finished(res) }) }
