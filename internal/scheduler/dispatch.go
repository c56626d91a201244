package scheduler

import (
	"context"
	"log/slog"
	"sync"

	"ostro.dev/ostro/internal/executor"
)

// order is something an executor must be told. Exactly one of launch, kill, ack and told is set.
type order struct {
	launch *executor.Attempt
	// instance is the incarnation the attempt was queued for; another one must not get it.
	instance string
	kill     string
	reason   string
	ack      string
	told     chan struct{} // closed when everything before has been passed on
}

// dispatcher passes orders on to one executor, in order, so that a slow executor never holds up the scheduler. An order
// that fails is dropped: whatever was missed is found out and repeated when the executor connects again.
type dispatcher struct {
	ex   executor.Executor
	log  *slog.Logger
	mu   sync.Mutex
	todo []order
	wake chan struct{}
}

func newDispatcher(ex executor.Executor, log *slog.Logger) *dispatcher {
	return &dispatcher{ex: ex, log: log.With("executor", ex.Name()), wake: make(chan struct{}, 1)}
}

func (d *dispatcher) add(o order) {
	d.mu.Lock()
	d.todo = append(d.todo, o)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run passes orders on until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		d.flush(ctx)
	}
}

func (d *dispatcher) flush(ctx context.Context) {
	d.mu.Lock()
	todo := d.todo
	d.todo = nil
	d.mu.Unlock()
	var acks []string
	var told []chan struct{}
	for _, o := range todo {
		switch {
		case o.launch != nil:
			if d.ex.Instance() != o.instance {
				continue // the worker it was meant for is gone; Connected says so to the scheduler
			}
			if err := d.ex.Launch(ctx, *o.launch); err != nil && ctx.Err() == nil {
				d.log.Warn("an attempt could not be handed over yet", "attempt", o.launch.ID, "error", err)
			}
		case o.kill != "":
			if err := d.ex.Kill(ctx, o.kill, o.reason); err != nil && ctx.Err() == nil {
				d.log.Warn("an attempt could not be ended yet", "attempt", o.kill, "error", err)
			}
		case o.told != nil:
			told = append(told, o.told)
		default:
			acks = append(acks, o.ack)
		}
	}
	if len(acks) > 0 {
		if err := d.ex.Acknowledge(ctx, acks...); err != nil && ctx.Err() == nil {
			d.log.Debug("results could not be acknowledged yet", "error", err)
		}
	}
	for _, c := range told {
		close(c)
	}
}
