package app

import (
	"context"
	"errors"
	"time"
)

// How long the steps of a stop may take, beside the grace that tasks get.
const (
	requestsGrace = time.Second
	resultsGrace  = 5 * time.Second
	workerMargin  = 15 * time.Second
	workerStart   = 2 * time.Second
)

// stop ends everything in order: nothing new starts; requests end; tasks are asked to end, then killed; their results
// are committed; then the parts end. What was interrupted is recorded as lost with its worker, so that it runs again at
// the next start and costs its author no retry.
func (r *running) stop() error {
	a := r.app
	a.log.Info("stopping: nothing new starts")
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Tasks.KillGrace+workerMargin)
	defer cancel()
	var errs []error
	if r.executor.cancel != nil {
		if err := a.sched.Hold(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	a.streams()
	if r.http.cancel != nil {
		hctx, hcancel := context.WithTimeout(ctx, requestsGrace)
		if a.http.Shutdown(hctx) != nil {
			_ = a.http.Close() // a client that does not let go
		}
		hcancel()
		r.http.end()
	}
	r.bundle.end()
	if r.executor.cancel != nil {
		errs = append(errs, r.stopWorker(ctx))
	}
	r.executor.end()
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

// stopWorker ends the worker with its tasks and waits until their results are committed.
func (r *running) stopWorker(ctx context.Context) error {
	a := r.app
	a.awaitWorker(ctx)
	stopped, err := a.exec.Stop(ctx, a.cfg.Tasks.KillGrace)
	if stopped != nil {
		a.report.Ended, a.report.Killed = len(stopped.Ended), len(stopped.Killed)
	}
	if err != nil {
		a.report.Unanswered = stopped == nil
		a.log.Error("the worker did not stop in order; it is asked again at the next start", "error", err)
	}
	ictx, cancel := context.WithTimeout(ctx, resultsGrace)
	defer cancel()
	a.report.Stored = a.sched.Idle(ictx) == nil
	return err
}
