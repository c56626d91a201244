package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
)

// How long the steps of a stop may take, beside the grace that tasks get.
const (
	streamsGrace  = 200 * time.Millisecond // for requests that are short; after it streams end
	requestsGrace = time.Second
	writesGrace   = 5 * time.Second // for requests at a hand-over
	resultsGrace  = 5 * time.Second
	workerMargin  = 15 * time.Second
	workerStart   = 2 * time.Second
	leaveLimit    = 20 * time.Second // for all of a stop that ends no tasks
)

// A StopMode says what a stop does with the tasks that run.
type StopMode int

const (
	// EndTasks asks tasks to end and then kills them; they run again at the next start and it costs them no retry.
	EndTasks StopMode = iota
	// KeepTasks leaves the worker and its tasks running; the next server adopts them.
	KeepTasks
)

// stopOrder is what was asked for.
type stopOrder struct {
	mode      StopMode
	successor int  // process id of the server that takes over; 0 for none
	socket    bool // the successor takes the listening socket
}

// Stop asks a server that runs to stop in order, and returns at once: Run returns when it is done. The first who asks
// decides how.
func (a *App) Stop(mode StopMode) { a.order(stopOrder{mode: mode}) }

// stopOrders keeps the order to stop once somebody has given it.
type stopOrders struct {
	asked chan struct{} // closed when it has been given
	mu    sync.Mutex
	given *stopOrder
}

// order gives the order to stop and returns the one that stands: the first.
func (a *App) order(o stopOrder) stopOrder {
	a.orders.mu.Lock()
	defer a.orders.mu.Unlock()
	if a.orders.given == nil {
		a.orders.given = &o
		close(a.orders.asked)
	}
	return *a.orders.given
}

// standing is the order that would stand if o were given.
func (a *App) standing(o stopOrder) stopOrder {
	a.orders.mu.Lock()
	defer a.orders.mu.Unlock()
	if a.orders.given != nil {
		return *a.orders.given
	}
	return o
}

// limitOf is how long a stop takes at most.
func (a *App) limitOf(o stopOrder) time.Duration {
	if o.mode == KeepTasks {
		return leaveLimit + 2*resultsGrace
	}
	return a.cfg.Tasks.KillGrace + workerMargin + 2*resultsGrace
}

// stop ends the server in order.
func (r *running) stop(o stopOrder) error {
	if o.mode == KeepTasks {
		return r.leave(o)
	}
	return r.end()
}

// end stops everything: nothing new starts; requests end; tasks are asked to end, then killed; their results are committed;
// then the parts end. What was interrupted is recorded as lost with its worker, so that it runs again at the next start and
// costs its author no retry.
func (r *running) end() error {
	a := r.app
	a.log.Info("stopping: nothing new starts")
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Tasks.KillGrace+workerMargin)
	defer cancel()
	var errs []error
	if r.executor.cancel != nil {
		errs = append(errs, a.sched.Hold(ctx))
	}
	r.endRequests(ctx, requestsGrace)
	r.announcement.end()
	r.bundle.end()
	if r.executor.cancel != nil {
		errs = append(errs, r.stopWorker(ctx))
	} else {
		errs = append(errs, r.stopUnknownWorker(ctx))
	}
	r.executor.end()
	r.scheduler.end()
	r.lease.end()
	errs = append(errs, a.Close())
	a.log.Info(a.report.String())
	return errors.Join(errs...)
}

// leave stops the server and leaves the worker with its tasks to the next one: nothing new starts; requests that are open
// are answered; every order given reaches the worker; what the worker has reported is committed; then the parts end.
func (r *running) leave(o stopOrder) error {
	a := r.app
	a.log.Info("stopping: nothing new starts, what runs stays with the worker", "successor", o.successor)
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	a.report.Kept, a.report.Successor = true, o.successor
	var errs []error
	if r.executor.cancel != nil {
		errs = append(errs, a.sched.Hold(ctx))
	}
	if o.socket {
		a.keepSocket()
	}
	r.endRequests(ctx, writesGrace)
	r.announcement.end()
	r.bundle.end()
	if r.executor.cancel != nil {
		errs = append(errs, r.leaveWorker(ctx))
	} else {
		errs = append(errs, r.leaveUnknownWorker(ctx))
	}
	r.executor.end()
	if r.executor.cancel != nil {
		errs = append(errs, a.sched.Hold(ctx)) // everything reported so far is folded before this is answered
	}
	r.scheduler.end()
	r.lease.end()
	errs = append(errs, a.Close())
	a.log.Info(a.report.String())
	return errors.Join(errs...)
}

// awaitWorker waits a moment for a worker that is just coming up, so that a stop right after a start leaves none behind.
func (a *App) awaitWorker(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, workerStart)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for a.exec.Instance() == "" {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leaveWorker sees to it that the worker has every order and says what it is left with. Without a successor a worker that
// has nothing to do is not left behind.
func (r *running) leaveWorker(ctx context.Context) error {
	a := r.app
	a.awaitWorker(ctx)
	if err := a.sched.Told(ctx); err != nil {
		return err
	}
	a.exec.Flush(ctx)
	left, err := a.sched.Unfinished(ctx)
	if err != nil {
		return err
	}
	if len(left) == 0 && a.report.Successor == 0 {
		_, err := a.exec.Stop(ctx, a.cfg.Tasks.KillGrace)
		return err
	}
	a.report.Worker = a.exec.WorkerPID()
	for _, u := range left {
		a.report.Tasks = append(a.report.Tasks, stoppedTask(u, "kept"))
	}
	return nil
}

// stopWorker ends the worker with its tasks and waits until their results are committed.
func (r *running) stopWorker(ctx context.Context) error {
	a := r.app
	a.awaitWorker(ctx)
	open, err := a.sched.Unfinished(ctx)
	if err != nil {
		a.log.Warn("cannot say which tasks are running", "error", err)
	}
	a.log.Info("tasks are asked to end", "running", len(open), "grace", a.cfg.Tasks.KillGrace.String())
	stopped, err := a.exec.Stop(ctx, a.cfg.Tasks.KillGrace)
	var killed []string
	if stopped != nil {
		a.report.Ended, a.report.Killed, killed = len(stopped.Ended), len(stopped.Killed), stopped.Killed
	}
	if err != nil {
		a.report.Unanswered = stopped == nil
		a.log.Error("the worker did not stop in order; it is asked again at the next start", "error", err)
	}
	ictx, cancel := context.WithTimeout(ctx, resultsGrace)
	defer cancel()
	a.report.Stored = a.sched.Idle(ictx) == nil
	if !a.report.Unanswered {
		for _, u := range open {
			a.report.Tasks = append(a.report.Tasks, a.whatBecameOf(ctx, u, slices.Contains(killed, u.ID)))
		}
	}
	return err
}

// stopUnknownWorker ends the worker of a server before this one, which this one has not come so far as to talk to.
func (r *running) stopUnknownWorker(ctx context.Context) error {
	a := r.app
	a.report.Early = true
	stopped, err := a.exec.Stop(ctx, a.cfg.Tasks.KillGrace)
	if stopped != nil {
		a.report.Ended, a.report.Killed = len(stopped.Ended), len(stopped.Killed)
	}
	a.report.Unanswered = err != nil
	return err
}

// leaveUnknownWorker counts what a worker that this server has not come so far as to talk to may be at.
func (r *running) leaveUnknownWorker(ctx context.Context) (err error) {
	a := r.app
	a.report.Early = true
	a.report.Open, err = a.store.AtWork(ctx)
	return err
}

// whatBecameOf reads how an attempt stands after the worker has stopped.
func (a *App) whatBecameOf(ctx context.Context, u scheduler.Unfinished, killed bool) StoppedTask {
	what := "ended"
	if killed {
		what = "killed"
	}
	t := stoppedTask(u, what)
	if u.Callback != "" { // it has no row of its own
		t.Next = "what is owed is tried again at the next start"
		return t
	}
	row, err := a.store.Attempt(ctx, u.ID)
	var ti run.TaskInstance
	if err == nil {
		ti, err = a.store.TaskInstance(ctx, u.Key)
	}
	t.Next = follows(row, ti)
	if err != nil {
		t.Next = fmt.Sprintf("what follows cannot be read (%v); the next start finds out", err)
	}
	return t
}
