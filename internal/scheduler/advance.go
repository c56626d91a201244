package scheduler

import (
	"container/heap"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// advance adds to a batch everything that follows from what it holds, until nothing more follows.
func (s *Scheduler) advance(b *batch) {
	if s.st.fresh {
		s.st.fresh = false
		s.tickAll(b)
	}
	s.flushStarted(b)
	for more := true; more; {
		more = s.createScheduled(b)
		more = s.createByAssets(b) || more
		more = s.startRuns(b) || more
		more = s.tellSuccessors(b) || more
		more = s.admit(b) || more
	}
	s.completeBackfills(b)
	s.startCallbacks(b)
	s.startTriggerers(b)
	s.flushStarted(b)
	b.seal()
}

// onTime folds what time alone brings about.
func (s *Scheduler) onTime(b *batch) error {
	st := s.st
	seen := map[plan.RunKey]bool{}
	for len(st.wakes) > 0 && !st.wakes[0].at.After(b.now) {
		w := heap.Pop(&st.wakes).(wakeUp)
		if lr := st.runs[w.run]; lr != nil && !seen[w.run] {
			seen[w.run] = true
			lr.wakeAt = time.Time{}
			b.decide(lr, plan.Tick{})
		}
	}
	s.wakeWaits(b)
	if !st.runsWake.IsZero() && !st.runsWake.After(b.now) {
		st.runsDirty = true
	}
	if since := b.now.Sub(s.lastFull); since >= s.cfg.Interval || since < 0 { // less than none: the clock was set back
		s.lastFull = b.now
		if st.dagsStale {
			s.rereadDAGs(b)
		}
		s.pushes.keep(st.attempts)
		if st.pendingAt.After(b.now.Add(s.cfg.StartedDelay)) {
			st.pendingAt = b.now
		}
		st.runsDirty, st.assets.dirty = true, true
		st.wakes = nil
		s.tickAll(b)
		for _, d := range st.dags {
			if d.due.Equal(never) {
				st.look(d)
			}
		}
		s.relaunch(b)
		s.checkTriggerers(b)
	}
	return nil
}

// tickAll looks at every running run.
func (s *Scheduler) tickAll(b *batch) {
	for _, lr := range s.st.runs {
		if lr.run.Row().State == run.RunRunning {
			lr.wakeAt = time.Time{}
			b.decide(lr, plan.Tick{})
		}
	}
}

// startRuns lets queued DAG runs begin.
func (s *Scheduler) startRuns(b *batch) bool {
	st := s.st
	if !st.runsDirty || s.held {
		return false
	}
	st.runsDirty = false
	st.runsWake = time.Time{}
	if len(st.queued) == 0 {
		return false
	}
	limits := s.limits(st)
	start, _, wake := plan.RunsToStart(s.nextRuns(limits, b.now), st.running, limits, b.now)
	st.runsWake = wake
	for _, k := range start {
		b.decide(st.runs[k], plan.RunStarted{})
	}
	st.runsDirty = false // what starting them changed is known
	return len(start) > 0
}

// tellSuccessors passes on, for DAGs whose tasks depend on the run before, what changed there.
func (s *Scheduler) tellSuccessors(b *batch) bool {
	st := s.st
	told := false
	for k := range st.pastDirty {
		delete(st.pastDirty, k)
		lr := st.runs[k]
		if lr == nil {
			if c := b.byRun[k]; c != nil {
				lr = c.lr
			}
		}
		if lr == nil {
			continue
		}
		if next := st.successor(lr); next != nil {
			d := b.decide(next, plan.PastChanged{Past: plan.PastOf(lr.run.Row(), lr.run.Instances())})
			told = told || len(d.Tasks) > 0
		}
	}
	return told
}

// successor is the live run of the same DAG with the next logical date.
func (st *state) successor(lr *liveRun) *liveRun {
	at := lr.run.Row().LogicalDate
	if at == nil {
		return nil
	}
	var best *liveRun
	var bestAt time.Time
	for k, other := range st.runs {
		if k.DAGID != lr.key.DAGID {
			continue
		}
		o := other.run.Row().LogicalDate
		if o != nil && o.After(*at) && (best == nil || o.Before(bestAt)) {
			best, bestAt = other, *o
		}
	}
	return best
}

// admit gives attempts to the instances that may start now.
func (s *Scheduler) admit(b *batch) bool {
	st := s.st
	if st.queue.Len() == 0 {
		return false
	}
	limits := s.limits(st)
	if len(limits.Executors) == 0 {
		return false
	}
	admitted := st.queue.Admit(&st.usage, limits)
	for _, a := range admitted {
		if lr := st.runs[keyOf(a.Key)]; lr != nil {
			s.queueAttempt(b, lr, a)
		}
	}
	return len(admitted) > 0
}

// queueAttempt makes the attempt of an admitted instance: a row now, an order to the executor after the commit.
func (s *Scheduler) queueAttempt(b *batch, lr *liveRun, admitted plan.Admission) {
	id, k := newID(), admitted.Key
	b.decide(lr, plan.Admitted{Key: k, AttemptID: id})
	ti, ok := lr.run.Instance(k)
	if !ok || ti.AttemptID != id || ti.State != run.Queued {
		return
	}
	task := lr.run.Task(k)
	name := task.Executor
	if name == "" {
		name = s.cfg.Limits.DefaultExecutor
	}
	token := newToken()
	a := &openAttempt{token: token, row: run.Attempt{
		Key: k, ID: id, TryNumber: ti.TryNumber, State: run.Queued, Instance: s.instances[name], Executor: name, QueuedAt: b.now,
		GPUs: admitted.GPUs,
	}}
	s.st.holdGPUs(a.row)
	a.order = s.taskOrder(lr, ti, a)
	s.st.attempts[id] = a
	b.created = append(b.created, newAttempt{row: a.row, hash: HashToken(token)})
	if (ti.TryNumber > 1 || ti.RescheduleCount > 0) && ti.NextMethod == "" {
		b.xcoms = append(b.xcoms, xcomWrite{key: k}) // it begins without the values of the last time, but for a deferral
	}
	b.after = append(b.after, func() { s.launch(b.ctx, a) })
}

// newToken makes a token that is good for one attempt.
func newToken() string {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("scheduler: no random numbers: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// HashToken is what the store keeps of a token.
func HashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// kick makes the loop look again at once.
func (s *Scheduler) kick() {
	s.box.put(message{actor: actorScheduler, fold: func(*batch) error { return nil }})
}

// notFound turns the store's words into the domain's.
func notFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errors.Join(ErrNotFound, err)
	}
	return err
}
