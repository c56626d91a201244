package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/trigger"
	"ostro.dev/ostro/internal/store"
)

// watcher waits for the states of other runs, beside the scheduler's loop. It looks at them only when the scheduler tells it
// that one of their DAG has changed.
type watcher struct {
	store Store
	log   *slog.Logger
	fired func(k run.Key, waitID string, payload json.RawMessage)

	mu    sync.Mutex
	runs  map[string]map[string]watched // by DAG, by wait
	dirty map[string]bool               // DAGs with changes
	fresh []watched                     // never looked at
	count atomic.Int64                  // waits in runs
	wake  chan struct{}
}

type watched struct {
	key  run.Key
	id   string
	runs *trigger.Runs
	done chan<- json.RawMessage // where the payload goes; nil: to the scheduler
}

func newWatcher(st Store, log *slog.Logger, fired func(run.Key, string, json.RawMessage)) *watcher {
	return &watcher{
		store: st, log: log, fired: fired,
		runs: map[string]map[string]watched{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// reset forgets everything; the state was read anew.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty, w.fresh = map[string]bool{}, nil
	for dagID, of := range w.runs { // tasks that wait by themselves go on waiting
		for id, x := range of {
			if x.done == nil {
				w.forget(dagID, id)
			} else {
				w.fresh = append(w.fresh, x)
			}
		}
	}
}

func (w *watcher) add(k run.Key, id string, runs *trigger.Runs) {
	w.mu.Lock()
	w.enter(watched{key: k, id: id, runs: runs})
	w.mu.Unlock()
	w.kick()
}

// enter adds a wait for runs, with the lock held.
func (w *watcher) enter(x watched) {
	dagID := x.runs.DAGID
	if w.runs[dagID] == nil {
		w.runs[dagID] = map[string]watched{}
	}
	w.runs[dagID][x.id] = x
	w.fresh = append(w.fresh, x)
	w.count.Add(1)
}

// forget takes a wait for runs out, with the lock held.
func (w *watcher) forget(dagID, id string) {
	of := w.runs[dagID]
	if _, there := of[id]; !there {
		return
	}
	w.count.Add(-1)
	if delete(of, id); len(of) == 0 {
		delete(w.runs, dagID)
	}
}

func (w *watcher) drop(id string, runs *trigger.Runs) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(runs.DAGID, id)
}

// watchesRuns tells whether anybody waits for runs.
func (w *watcher) watchesRuns() bool { return w.count.Load() > 0 }

// await waits until a trigger for runs fires, or ctx ends.
func (w *watcher) await(ctx context.Context, r *trigger.Runs) (json.RawMessage, bool) {
	done := make(chan json.RawMessage, 1)
	x := watched{id: newID(), runs: r, done: done}
	w.mu.Lock()
	w.enter(x)
	w.mu.Unlock()
	w.kick()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forget(r.DAGID, x.id)
	}()
	select {
	case payload := <-done:
		return payload, true
	case <-ctx.Done():
		return nil, false
	}
}

// changed says that runs of a DAG have changed.
func (w *watcher) changed(dagID string) {
	w.mu.Lock()
	w.dirty[dagID] = true
	w.mu.Unlock()
	w.kick()
}

func (w *watcher) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// AwaitRuns waits, for a task that keeps its process, until a trigger for the states of other runs fires; false when ctx
// ended first.
func (s *Scheduler) AwaitRuns(ctx context.Context, classpath string, kwargs json.RawMessage) (json.RawMessage, bool, error) {
	spec, _ := trigger.Parse(classpath, kwargs)
	r, ok := spec.(*trigger.Runs)
	if !ok {
		return nil, false, fmt.Errorf("%s does not wait for runs: %w", classpath, ErrInvalid)
	}
	payload, fired := s.watcher.await(ctx, r)
	return payload, fired, nil
}

// run waits until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for {
		for _, x := range w.due() {
			w.look(ctx, x)
		}
		t := time.NewTimer(w.pause())
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-w.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// pause is how long to wait without a change: not long when something could not be read.
func (w *watcher) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fresh) > 0 {
		return time.Second
	}
	return time.Minute
}

// due returns the waits for runs that are to be looked at.
func (w *watcher) due() []watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.fresh
	w.fresh = nil
	for dagID := range w.dirty {
		for _, x := range w.runs[dagID] {
			out = append(out, x)
		}
	}
	clear(w.dirty)
	return out
}

// look finds out how the runs stand. When the store does not answer, it is tried again with the DAG's next change or
// when everything is looked at.
func (w *watcher) look(ctx context.Context, x watched) {
	seen, err := w.see(ctx, x.runs)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("the states a deferred task waits for cannot be read yet", "dag", x.runs.DAGID, "error", err)
			w.again(x)
		}
		return
	}
	payload, ok := x.runs.Fire(seen)
	switch {
	case !ok:
	case x.done == nil:
		w.fired(x.key, x.id, payload)
	default:
		select {
		case x.done <- payload:
		default:
		}
	}
}

// again looks once more with the next turn, which comes within a second.
func (w *watcher) again(x watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, still := w.runs[x.runs.DAGID][x.id]; still {
		w.fresh = append(w.fresh, x)
	}
}

// see reads the states of the runs, or of their tasks.
func (w *watcher) see(ctx context.Context, r *trigger.Runs) (trigger.Seen, error) {
	var found []run.DAGRun
	for _, id := range r.RunIDs {
		one, err := w.store.Run(ctx, r.DAGID, id)
		if err == nil {
			found = append(found, one)
		} else if !errors.Is(err, store.ErrNotFound) {
			return trigger.Seen{}, err
		}
	}
	if len(r.RunIDs) == 0 {
		for _, at := range r.Dates {
			rs, _, err := w.store.Runs(ctx, store.RunFilter{DAGID: r.DAGID, LogicalDateGTE: &at, LogicalDateLTE: &at})
			if err != nil {
				return trigger.Seen{}, fmt.Errorf("read runs of %s: %w", r.DAGID, err)
			}
			found = append(found, rs...)
		}
	}
	if r.OfTasks() {
		return w.seeTasks(ctx, r, found)
	}
	seen := trigger.Seen{States: map[string]string{}}
	for _, one := range found {
		seen.States[one.RunID] = string(one.State)
	}
	return seen, nil
}

func (w *watcher) seeTasks(ctx context.Context, r *trigger.Runs, found []run.DAGRun) (trigger.Seen, error) {
	seen := trigger.Seen{Tasks: map[string][]string{}, TaskCount: len(r.TaskIDs)}
	for _, one := range found {
		ids := r.TaskIDs
		if r.GroupID != "" {
			d, _, err := w.store.DAGVersion(ctx, r.DAGID, one.DAGVersion)
			if err != nil {
				return seen, fmt.Errorf("read version %d of DAG %s: %w", one.DAGVersion, r.DAGID, err)
			}
			ids = dag.NewIndex(d).GroupTasks(r.GroupID)
			seen.TaskCount = max(seen.TaskCount, len(ids))
		}
		tis, _, err := w.store.TaskInstances(ctx, store.TIFilter{DAGID: r.DAGID, RunID: one.RunID})
		if err != nil {
			return seen, fmt.Errorf("read task instances of %s: %w", one.RunID, err)
		}
		for _, ti := range tis {
			if slices.Contains(ids, ti.TaskID) {
				seen.Tasks[one.RunID] = append(seen.Tasks[one.RunID], string(ti.State))
			}
		}
	}
	return seen, nil
}
