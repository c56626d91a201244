package scheduler

import (
	"container/heap"
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

// watcher waits for files and for the states of other runs, beside the scheduler's loop. It looks at files as often as
// their triggers say; at runs only when the scheduler tells it that one of their DAG has changed.
type watcher struct {
	store Store
	log   *slog.Logger
	fired func(k run.Key, waitID string, payload json.RawMessage)
	// looks are the files being looked at; a file system that does not answer holds up only these.
	looks chan struct{}

	mu    sync.Mutex
	files map[string]*fileWatch
	queue fileQueue                     // those not being looked at
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

type fileWatch struct {
	key  run.Key
	id   string
	file trigger.File
	next time.Time
}

func newWatcher(st Store, log *slog.Logger, fired func(run.Key, string, json.RawMessage)) *watcher {
	return &watcher{
		store: st, log: log, fired: fired, looks: make(chan struct{}, 16), files: map[string]*fileWatch{},
		runs: map[string]map[string]watched{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// reset forgets everything; the state was read anew.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files, w.queue = map[string]*fileWatch{}, nil
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

func (w *watcher) add(waits []*wait) {
	w.mu.Lock()
	for _, one := range waits {
		switch t := one.spec.(type) {
		case trigger.File:
			f := &fileWatch{key: one.Key, id: one.ID, file: t}
			w.files[one.ID] = f
			heap.Push(&w.queue, f)
		case *trigger.Runs:
			w.enter(watched{key: one.Key, id: one.ID, runs: t})
		}
	}
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

func (w *watcher) drop(one *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, one.ID)
	if r, ok := one.spec.(*trigger.Runs); ok {
		w.forget(r.DAGID, one.ID)
	}
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
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		for _, x := range w.due() {
			w.look(ctx, x)
		}
		pause := w.lookAtFiles(ctx, &looking)
		t := time.NewTimer(pause)
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

// lookAtFiles begins to look at the files whose time has come and says how long to wait for the next.
func (w *watcher) lookAtFiles(ctx context.Context, looking *sync.WaitGroup) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	pause := time.Minute
	if len(w.fresh) > 0 {
		pause = time.Second
	}
	for len(w.queue) > 0 {
		f := w.queue[0]
		if left := time.Until(f.next); left > 0 {
			return min(pause, left)
		}
		select {
		case w.looks <- struct{}{}:
		default:
			return pause // whichever look ends first wakes us
		}
		heap.Pop(&w.queue)
		if w.files[f.id] != f {
			<-w.looks
			continue
		}
		looking.Go(func() { w.lookAtFile(ctx, f) })
	}
	return pause
}

func (w *watcher) lookAtFile(ctx context.Context, f *fileWatch) {
	there := fileThere(f.file.Pattern, f.file.Recursive)
	<-w.looks
	w.mu.Lock()
	f.next = time.Now().Add(f.file.Every)
	still := w.files[f.id] == f
	if still && !there {
		heap.Push(&w.queue, f)
	}
	w.mu.Unlock()
	if there && still && ctx.Err() == nil {
		w.fired(f.key, f.id, []byte("true"))
	}
	w.kick()
}

// fileQueue is a heap of files by when they are looked at next.
type fileQueue []*fileWatch

func (q fileQueue) Len() int           { return len(q) }
func (q fileQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q fileQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *fileQueue) Push(x any)        { *q = append(*q, x.(*fileWatch)) }
func (q *fileQueue) Pop() any {
	old := *q
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return f
}
