package scheduler

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/trigger"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// This file keeps what deferred instances wait for. Every wait has a row in the store and an entry here, from the commit
// that defers its instance to the one that lets it go on, whatever the cause: its trigger, its timeout, a person. Moments
// and timeouts are entries of one heap; files and the states of other runs are the watcher's; all else is Python's and is
// run by triggerers.

// wait is one entry.
type wait struct {
	run.Wait
	spec  trigger.Spec // nil: Python's, or a person's
	at    time.Time    // the next of moment and timeout; zero: none
	index int          // in the heap; -1: not there
	input *run.Input   // the question, where a person's answer is awaited
	note  string       // what there is to say of its trigger

	group *triggerGroup // that runs it; nil: not Python's
	file  string        // the DAG's, where its class may be

	watched []dag.AssetKey // what its events update, where no task waits
}

// waits holds all entries.
type waits struct {
	byKey map[run.Key]*wait
	heap  waitHeap
}

func newWaits() waits { return waits{byKey: map[run.Key]*wait{}} }

func (ws *waits) add(w *wait) {
	ws.byKey[w.Key] = w
	w.index = -1
	w.at = w.due()
	if !w.at.IsZero() {
		heap.Push(&ws.heap, w)
	}
}

// remove takes out the entry of an instance; nil when there is none.
func (ws *waits) remove(k run.Key) *wait {
	w := ws.byKey[k]
	if w == nil {
		return nil
	}
	delete(ws.byKey, k)
	if w.index >= 0 {
		heap.Remove(&ws.heap, w.index)
	}
	return w
}

// due is when the wait ends by itself: at its moment or at its timeout.
func (w *wait) due() time.Time {
	var at time.Time
	if m, ok := w.spec.(trigger.Moment); ok {
		at = m.At
	}
	if t := w.TimeoutAt; t != nil && (at.IsZero() || t.Before(at)) {
		at = *t
	}
	return at
}

// next is when the first of them is due; zero: none is.
func (ws *waits) next() time.Time {
	if len(ws.heap) == 0 {
		return time.Time{}
	}
	return ws.heap[0].at
}

type waitHeap []*wait

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h waitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *waitHeap) Push(x any)        { w := x.(*wait); w.index = len(*h); *h = append(*h, w) }
func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}

// loadWaits reads what deferred instances wait for. Rows of runs that have ended, and of instances that do not wait any
// more, are left over: they go with the next commit.
func (s *Scheduler) loadWaits(ctx context.Context, st *state) error {
	stored, err := s.store.Waits(ctx)
	if err != nil {
		return fmt.Errorf("read waits: %w", err)
	}
	for _, w := range stored {
		lr := st.runs[keyOf(w.Key)]
		switch {
		case lr != nil && lr.suspended(w.Key):
			if s.clock.pending == 0 { // else all that is open is about to be moved
				w = happened(w, s.now())
			}
			s.enterWait(st, lr, newWait(w))
		case !st.stranded[keyOf(w.Key)]:
			st.leftover = append(st.leftover, waitOp{key: w.Key})
		}
	}
	if n := len(st.leftover); n > 0 {
		s.log.Warn("triggers of instances that do not wait any more are left over and dropped", "waits", n)
	}
	return nil
}

// suspended tells whether an instance waits for something.
func (lr *liveRun) suspended(k run.Key) bool {
	ti, ok := lr.run.Instance(k)
	return ok && ti.State.IsSuspended()
}

// takeLeftover returns the rows that loadWaits found left over, once.
func (st *state) takeLeftover() []waitOp {
	ops := st.leftover
	st.leftover = nil
	return ops
}

func newWait(w run.Wait) *wait {
	spec, ok := trigger.Parse(w.Classpath, w.Kwargs)
	if !ok {
		return &wait{Wait: w}
	}
	w.Kwargs = nil // what counts of them is in spec
	return &wait{Wait: w, spec: spec}
}

// enterWait makes an entry known to whoever waits for it.
func (s *Scheduler) enterWait(st *state, lr *liveRun, w *wait) {
	st.waits.add(w)
	switch w.spec.(type) {
	case trigger.File, *trigger.Runs:
		st.watch = append(st.watch, w)
	case nil:
		if w.Classpath != "" {
			w.file = lr.run.Index().DAG.File
			w.group = s.groupOf(st, lr, w)
			st.python = append(st.python, w)
		}
	}
}

// tellWaiters tells the watcher and the triggerers of the waits that are their business, once they are durable.
func (s *Scheduler) tellWaiters() {
	st := s.st
	fresh := st.watch
	st.watch = nil
	for _, w := range fresh {
		switch t := w.spec.(type) {
		case trigger.File:
			s.files.add(w.Key, w.ID, t)
		case *trigger.Runs:
			s.watcher.add(w.Key, w.ID, t)
		}
	}
	if fresh := st.python; len(fresh) > 0 {
		st.python = nil
		for _, w := range fresh {
			if st.waits.byKey[w.Key] == w {
				st.group(w.group.key).enter(w) // its group may have been dropped since, when it was empty
			}
		}
		s.kick() // a triggerer may have to be started
	}
}

// tellChanges tells the watcher which runs have changed that somebody waits for.
func (s *Scheduler) tellChanges(b *batch) {
	if !s.watcher.watchesRuns() {
		return
	}
	for _, c := range b.runs {
		if c.create || c.dec.Run != nil || len(c.dec.Tasks) > 0 {
			s.watcher.changed(c.lr.run.Row(), c.create || c.dec.Run != nil, c.dec.Tasks)
		}
	}
}

// waitOp is a change of a wait's row: put it, or with nil drop it.
type waitOp struct {
	key run.Key
	put *run.Wait
	// asked is the question that comes with put; answered, set alone, is one with its answer.
	asked, answered *run.Input
}

func (o waitOp) write(tx *store.Tx) error {
	switch {
	case o.answered != nil:
		return tx.AnswerInput(*o.answered)
	case o.asked != nil:
		if err := tx.PutInput(*o.asked); err != nil {
			return err
		}
		return tx.PutWait(*o.put)
	case o.put != nil:
		return tx.PutWait(*o.put)
	}
	return tx.DropWait(o.key)
}

// await enters what an instance that has just been deferred waits for.
func (s *Scheduler) await(b *batch, lr *liveRun, k run.Key, r executor.Result) {
	if r.Defer.Input != nil {
		s.ask(b, lr, k, r)
		return
	}
	ti, ok := lr.run.Instance(k)
	if !ok || !ti.State.IsSuspended() || ti.AttemptID != r.AttemptID {
		return
	}
	w := run.Wait{Key: k, ID: r.AttemptID, Classpath: r.Defer.Classpath, Kwargs: r.Defer.TriggerKwargs, CreatedAt: b.now}
	if t := r.Defer.TriggerTime; t != nil {
		at := b.now.Add(time.Duration(*t * float64(time.Second)))
		w.TimeoutAt = &at
	}
	b.waits = append(b.waits, waitOp{key: k, put: &w})
	s.enterWait(s.st, lr, newWait(w))
}

// unwait forgets the waits of instances that a decision let go on.
func (b *batch) unwait(d plan.Decision) {
	for i := range d.Tasks {
		c := &d.Tasks[i]
		if !c.Before.State.IsSuspended() || c.After.State.IsSuspended() {
			continue
		}
		b.s.dropWait(b, c.Before.Key)
	}
}

// dropWait forgets what an instance waits for, here, in the store, and where it is waited for.
func (s *Scheduler) dropWait(b *batch, k run.Key) {
	b.waits = append(b.waits, waitOp{key: k})
	if w := s.st.waits.remove(k); w != nil {
		s.leave(b, w)
	}
}

// leave tells whoever waits for an entry that it is over.
func (s *Scheduler) leave(b *batch, w *wait) {
	switch t := w.spec.(type) {
	case trigger.File:
		b.after = append(b.after, func() { s.files.drop(w.ID) })
	case *trigger.Runs:
		b.after = append(b.after, func() { s.watcher.drop(w.ID, t) })
	case nil:
		if g := w.group; g != nil {
			killed := b.actor != actorScheduler
			b.after = append(b.after, func() { g.leave(w, killed) })
		}
	}
}

// wakeWaits lets everything go on whose moment or timeout has come.
func (s *Scheduler) wakeWaits(b *batch) {
	ws := &s.st.waits
	for len(ws.heap) > 0 && !ws.heap[0].at.After(b.now) {
		w := ws.heap[0]
		m, timed := w.spec.(trigger.Moment)
		switch {
		case w.input != nil:
			s.overdue(b, w)
		case !timed || m.At.After(b.now):
			s.resume(b, w, plan.Resumed{NextMethod: trigger.FailMethod, NextKwargs: trigger.Failure(trigger.TimedOut, "")})
		case m.Ends:
			s.endWait(b, w, plan.EndedByTrigger{State: run.Success})
		default:
			s.fire(b, w, m.Payload)
		}
	}
}

// fire resumes an instance with what its trigger fired.
func (s *Scheduler) fire(b *batch, w *wait, payload json.RawMessage) {
	var ti run.TaskInstance
	if lr := s.st.runs[keyOf(w.Key)]; lr != nil {
		ti, _ = lr.run.Instance(w.Key)
	}
	s.resume(b, w, plan.Resumed{NextKwargs: trigger.WithEvent(ti.NextKwargs, payload)})
}

// fail resumes an instance so that it fails, in its own process, where its author can catch it.
func (s *Scheduler) fail(b *batch, w *wait, text, traceback string) {
	s.resume(b, w, plan.Resumed{NextMethod: trigger.FailMethod, NextKwargs: trigger.Failure(text, traceback)})
}

func (s *Scheduler) resume(b *batch, w *wait, ev plan.Resumed) {
	ev.Key = w.Key
	s.over(b, w, ev)
}

func (s *Scheduler) endWait(b *batch, w *wait, ev plan.EndedByTrigger) {
	ev.Key = w.Key
	s.over(b, w, ev)
}

// over ends a wait. Whatever its instance makes of it, nobody waits any more afterwards.
func (s *Scheduler) over(b *batch, w *wait, ev plan.Event) {
	if lr := s.st.runs[keyOf(w.Key)]; lr != nil {
		b.decide(lr, ev)
	}
	if s.st.waits.byKey[w.Key] == w {
		s.dropWait(b, w.Key)
	}
}

// fired reports, from any goroutine, that a wait of the watcher's is over.
func (s *Scheduler) fired(k run.Key, waitID string, payload json.RawMessage) {
	s.box.put(message{actor: actorScheduler, fold: func(b *batch) error {
		if w := s.st.waits.byKey[k]; w != nil && w.ID == waitID {
			s.fire(b, w, payload)
		}
		return nil
	}})
}

// noted takes down, from any goroutine, what there is to say of a wait.
func (s *Scheduler) noted(k run.Key, waitID, note string) {
	s.box.put(message{actor: actorScheduler, fold: func(*batch) error {
		if w := s.st.waits.byKey[k]; w != nil && w.ID == waitID {
			w.note = note
		}
		return nil
	}})
}

// whyDeferred says in words what a deferred instance waits for; "" when nothing is known.
func (st *state) whyDeferred(k run.Key) string {
	w := st.waits.byKey[k]
	if w == nil {
		return ""
	}
	if w.input != nil {
		return asked(w.input)
	}
	text := "deferred, waiting for " + w.what()
	if w.TimeoutAt != nil {
		text += ", at most until " + w.TimeoutAt.Format(time.RFC3339)
	}
	switch g := w.group; {
	case w.note != "":
		text += ": " + w.note
	case g != nil && g.attempt == "" && g.problem != "":
		text += ": its triggerer has ended and is about to be started again: " + g.problem
	case g != nil && g.attempt == "":
		text += ": its triggerer is about to be started"
	}
	return text
}

func (w *wait) what() string {
	switch t := w.spec.(type) {
	case trigger.Moment:
		return t.At.Format(time.RFC3339)
	case trigger.File:
		return "the file " + t.Pattern
	case *trigger.Runs:
		what := "DAG runs of " + t.DAGID
		if t.OfTasks() {
			what = fmt.Sprintf("tasks of %s (%s)", t.DAGID, cmp.Or(t.GroupID, fmt.Sprint(t.TaskIDs)))
		}
		return what
	}
	return "the trigger " + path.Base(w.Classpath)
}

// DeferredWait is what a deferred instance waits for, for people.
type DeferredWait struct {
	run.Wait
	Words string
}

// WaitOf returns what a deferred instance waits for; false when it does not.
func (s *Scheduler) WaitOf(ctx context.Context, k run.Key) (DeferredWait, bool, error) {
	var out DeferredWait
	found := false
	err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(*batch) error {
		if w := s.st.waits.byKey[k]; w != nil {
			out, found = DeferredWait{Wait: w.Wait, Words: s.st.whyDeferred(k)}, true
		}
		return nil
	}})
	if err != nil {
		return DeferredWait{}, false, err
	}
	return out, found, nil
}
