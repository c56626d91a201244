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
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/trigger"
	"ostro.dev/ostro/internal/store"
)

// watcher waits for the states of other runs, beside the scheduler's loop. It looks at them only when the scheduler tells it
// that what a wait is about has changed.
type watcher struct {
	store Store
	log   *slog.Logger
	fired func(k run.Key, waitID string, payload json.RawMessage)

	mu    sync.Mutex
	runs  map[string]map[string]watched  // by DAG, by wait
	dirty map[string]map[string]*touched // what has changed of them, by DAG, by run
	fresh []watched                      // never looked at
	count atomic.Int64                   // waits in runs
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
		runs: map[string]map[string]watched{}, dirty: map[string]map[string]*touched{}, wake: make(chan struct{}, 1),
	}
}

// reset forgets everything; the state was read anew.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty, w.fresh = map[string]map[string]*touched{}, nil
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

// touched is what has changed of a DAG run since its watchers were told.
type touched struct {
	date  *time.Time // the run's logical date
	run   bool       // it is new, or its state is another
	tasks map[string]bool
}

// changed says what of a run has changed.
func (w *watcher) changed(row run.DAGRun, itself bool, tasks []plan.TaskChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.runs[row.DAGID]) == 0 {
		return
	}
	of := w.dirty[row.DAGID]
	if of == nil {
		of = map[string]*touched{}
		w.dirty[row.DAGID] = of
	}
	t := of[row.RunID]
	if t == nil {
		t = &touched{date: row.LogicalDate, tasks: map[string]bool{}}
		of[row.RunID] = t
	}
	t.run = t.run || itself
	for i := range tasks {
		if tasks[i].Before.State != tasks[i].After.State || tasks[i].Before.Version == 0 {
			t.tasks[tasks[i].After.TaskID] = true
		}
	}
	w.kick()
}

// concerns tells whether what a trigger waits for may be another now that a run was touched.
func (t *touched) concerns(r *trigger.Runs, runID string) bool {
	switch {
	case len(r.RunIDs) > 0 && !slices.Contains(r.RunIDs, runID):
		return false
	case len(r.RunIDs) == 0 && (t.date == nil || !slices.ContainsFunc(r.Dates, t.date.Equal)):
		return false
	case !r.OfTasks():
		return t.run
	case r.GroupID != "": // which tasks that are says the run's version of the DAG
		return t.run || len(t.tasks) > 0
	}
	return t.run || slices.ContainsFunc(r.TaskIDs, func(id string) bool { return t.tasks[id] })
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
	for dagID, changed := range w.dirty {
		for _, x := range w.runs[dagID] {
			for runID, t := range changed {
				if t.concerns(x.runs, runID) {
					out = append(out, x)
					break
				}
			}
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
		if len(ids) == 0 {
			continue // a filter without tasks would be one for all
		}
		err := w.store.TaskStates(ctx, store.TIFilter{DAGID: r.DAGID, RunID: one.RunID, TaskIDs: ids}, func(_ run.Key, s run.TaskState) error {
			seen.Tasks[one.RunID] = append(seen.Tasks[one.RunID], string(s))
			return nil
		})
		if err != nil {
			return seen, fmt.Errorf("read task states of %s: %w", one.RunID, err)
		}
	}
	return seen, nil
}
