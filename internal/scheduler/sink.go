package scheduler

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// Started, Finished and Connected are the reporting half of executor.Sink; the task API answers the other half, Call.

// Started reports that an attempt's process exists. It is recorded with the next commit, or a moment later by itself.
func (s *Scheduler) Started(e executor.Started) {
	s.box.put(message{actor: actorScheduler, fold: func(*batch) error { s.foldStarted(e); return nil }})
}

// Finished reports the end of an attempt. It is acknowledged once it is committed.
func (s *Scheduler) Finished(r executor.Result) {
	for _, x := range r.XComs { // large ones are written here, not in the writer's time; it reports what is wrong
		_ = s.store.StageXCom(x.Value)
	}
	s.box.put(message{
		actor: actorScheduler,
		fold:  func(b *batch) error { return s.foldFinished(b, r) },
		// What cannot be stored (a value the database refuses) must not keep the task from ending.
		fallback: func(b *batch, cause error) error {
			return s.foldFinished(b, executor.Result{
				AttemptID: r.AttemptID, State: run.Failed, Reason: "the result could not be stored: " + cause.Error(),
				StartedAt: r.StartedAt, EndedAt: r.EndedAt, PID: r.PID, Hostname: r.Hostname, ExitCode: r.ExitCode,
				Isolation: r.Isolation, Reported: r.Reported,
			})
		},
	})
}

// Connected reports everything an executor holds after it was (re)connected.
func (s *Scheduler) Connected(name, instance string, known []executor.Known) {
	s.box.put(message{actor: actorScheduler, fold: func(b *batch) error {
		s.reconcile(b, name, instance, known)
		return nil
	}})
}

func (s *Scheduler) foldStarted(e executor.Started) {
	st := s.st
	a := st.attempts[e.AttemptID]
	if a == nil {
		return // its end is committed already
	}
	a.seen = true
	if a.aside() || a.row.State == run.Running {
		return
	}
	now := s.now()
	if e.At.Before(a.row.QueuedAt) || e.At.After(now) { // by the clock as it was before it was set
		e.At = now
	}
	if len(st.pending) == 0 {
		st.pendingAt = now.Add(s.cfg.StartedDelay)
	}
	st.pending[e.AttemptID] = e
}

// takePending takes an attempt out of those that wait to be recorded as running. The last one takes the wake-up along: a
// time in the past that nobody clears would keep the loop turning.
func (st *state) takePending(attemptID string) (executor.Started, bool) {
	e, ok := st.pending[attemptID]
	delete(st.pending, attemptID)
	if len(st.pending) == 0 {
		st.pendingAt = time.Time{}
	}
	return e, ok
}

// flushStarted records the processes that started. Batches that commit anyway take it along; by itself it waits for
// pendingAt, so that a short task costs no commit for its start.
func (s *Scheduler) flushStarted(b *batch) {
	st := s.st
	if len(st.pending) == 0 || (b.empty() && b.now.Before(st.pendingAt)) {
		return
	}
	pending := st.pending
	st.pending, st.pendingAt = map[string]executor.Started{}, time.Time{}
	for id, e := range pending {
		a := st.attempts[id]
		if a == nil || a.row.State == run.Running {
			continue
		}
		at := micro(e.At)
		a.row.State, a.row.StartedAt, a.row.PID, a.row.Hostname = run.Running, &at, e.PID, e.Hostname
		a.row.Isolation, a.row.IsolationReason = e.Isolation, e.IsolationReason
		b.started = append(b.started, a.row)
		if lr := st.runs[keyOf(a.row.Key)]; lr != nil {
			b.decide(lr, plan.AttemptStarted{Key: a.row.Key, AttemptID: id, At: at, PID: e.PID, Hostname: e.Hostname})
		}
	}
}

func (s *Scheduler) foldFinished(b *batch, r executor.Result) error {
	st := s.st
	a := st.attempts[r.AttemptID]
	if a == nil {
		// A result that was committed before and not acknowledged, or one of an attempt that was given up: the attempt that
		// replaced it is what counts.
		s.log.Debug("the result of an attempt that has ended already is dropped", "attempt", r.AttemptID)
		b.after = append(b.after, func() { s.acknowledge("", r.AttemptID) })
		return nil
	}
	st.takePending(r.AttemptID)
	r.Reason = excerpt.OfLogged(r.Reason, excerpt.Reason) // the worker has seen to it, unless it is of an older build
	if (r.State == run.Deferred || r.State == run.AwaitingInput) && (a.aside() || r.Defer == nil) {
		r = cannotWait(r, "the process deferred itself, and not by a trigger of a task")
	}
	if _, ok := formOf(r); r.State == run.AwaitingInput && !ok {
		r = cannotWait(r, "the task asked a person something without options")
	}
	s.ended(b, a, r)
	st.close(a)
	b.after = append(b.after, func() { s.acknowledge(a.row.Executor, r.AttemptID) })
	return nil
}

// cannotWait turns a deferral that names no trigger into a failure: it would wait for ever.
func cannotWait(r executor.Result, why string) executor.Result {
	r.State, r.Final, r.Defer = run.Failed, true, nil
	r.Reason = why
	return r
}

// ended folds the end of an attempt, whatever it was for.
func (s *Scheduler) ended(b *batch, a *openAttempt, r executor.Result) {
	switch {
	case a.callback != 0:
		s.callbackFinished(b, a, r)
	case a.group != nil:
		s.triggererFinished(b, a, r)
	default:
		s.attemptFinished(b, a, r)
	}
}

// attemptFinished folds the end of a task's attempt.
func (s *Scheduler) attemptFinished(b *batch, a *openAttempt, r executor.Result) {
	r = asTold(a.row, r, b.now)
	b.ended = append(b.ended, endOfAttempt(a.row, r, b.now))
	counts, pushed := false, s.pushes.take(r.AttemptID)
	if lr := s.st.runs[keyOf(a.row.Key)]; lr != nil {
		d := b.decide(lr, plan.AttemptFinished{Key: a.row.Key, Outcome: outcome(r, pushed, b.now)})
		if r.Defer != nil {
			s.await(b, lr, a.row.Key, r)
		}
		counts = slices.ContainsFunc(d.Tasks, func(c plan.TaskChange) bool { return c.Before.Key == a.row.Key })
	}
	if counts { // not when the instance was marked or cleared meanwhile
		for i := range r.XComs {
			b.xcoms = append(b.xcoms, xcomWrite{a.row.Key, &r.XComs[i]})
		}
	}
	if counts && r.State == run.Success && len(r.OutletEvents) > 0 {
		s.outletEvents(b, a.row.Key, r.OutletEvents)
	}
	for _, kind := range r.CallbacksOwed {
		key := a.row.Key
		if !counts && !s.failedByHand(key, kind) {
			continue
		}
		b.owe(plan.Callback{DAGID: key.DAGID, RunID: key.RunID, Task: &key, AttemptID: a.row.ID, Kind: kind, Reason: r.Reason})
	}
}

// failedByHand says whether an attempt was killed because somebody marked its instance failed: its author wants to know.
func (s *Scheduler) failedByHand(k run.Key, kind string) bool {
	lr := s.st.runs[keyOf(k)]
	if lr == nil || kind != "on_failure_callback" {
		return false
	}
	ti, ok := lr.run.Instance(k)
	return ok && ti.State == run.Failed
}

// lose ends an attempt that no executor has any more.
func (s *Scheduler) lose(b *batch, a *openAttempt, reason string) {
	s.log.Warn("an attempt is lost", "attempt", a.row.ID, "dag", a.row.DAGID, "run", a.row.RunID, "task", a.row.TaskID, "reason", reason)
	r := executor.Result{AttemptID: a.row.ID, State: run.Failed, Infra: true, Reason: reason, EndedAt: b.now, StartedAt: a.row.StartedAt}
	if e, ok := s.st.takePending(a.row.ID); ok {
		r.StartedAt = &e.At
	}
	s.ended(b, a, r)
	s.st.close(a)
}

func endOfAttempt(a run.Attempt, r executor.Result, now time.Time) run.Attempt {
	a.State, a.Infra, a.Reason, a.Notices = r.State, r.Infra, r.Reason, r.Notices
	if r.Infra && r.State == run.UpForRetry {
		a.State = run.Failed // a lost attempt is recorded alike, whether or not the task still said that it would be tried again
	}
	ended := micro(r.EndedAt)
	if ended.IsZero() {
		ended = now
	}
	a.EndedAt = &ended
	if r.StartedAt != nil {
		at := micro(*r.StartedAt)
		a.StartedAt = &at
	}
	if r.PID != 0 {
		a.PID = r.PID
	}
	if r.Hostname != "" {
		a.Hostname = r.Hostname
	}
	a.ExitCode, a.Signal, a.MaxRSS, a.Rendered = r.ExitCode, r.Signal, r.MaxRSS, r.Rendered
	a.GPUUse = r.GPUUse
	a.CPUTime = time.Duration(r.CPUSeconds * float64(time.Second))
	if r.Isolation != "" {
		a.Isolation, a.IsolationReason = r.Isolation, r.IsolationReason
	}
	return a
}

func outcome(r executor.Result, pushed map[string]int, now time.Time) plan.Outcome {
	o := plan.Outcome{
		AttemptID: r.AttemptID, State: r.State, Final: r.Final, Infra: r.Infra, Uncounted: r.Uncounted, Reason: r.Reason,
		NextAt: r.RescheduleAt, RenderedMapIndex: r.RenderedMapIndex, MapLengths: pushed, EndedAt: micro(r.EndedAt),
	}
	if o.EndedAt.IsZero() {
		o.EndedAt = now
	}
	if r.StartedAt != nil {
		at := micro(*r.StartedAt)
		o.StartedAt = &at
	}
	if r.Defer != nil {
		o.NextMethod, o.NextKwargs = r.Defer.NextMethod, r.Defer.NextKwargs
	}
	for _, x := range r.XComs {
		if o.MapLengths == nil {
			o.MapLengths = map[string]int{}
		}
		o.MapLengths[x.Key] = x.MapLength
	}
	for _, raw := range r.SkipTasks {
		if t, ok := skipTarget(raw); ok {
			o.SkipTasks = append(o.SkipTasks, t)
		}
	}
	return o
}

// skipTarget reads "task" or ["task", map index].
func skipTarget(raw json.RawMessage) (plan.SkipTarget, bool) {
	t := plan.SkipTarget{MapIndex: -1}
	if json.Unmarshal(raw, &t.TaskID) == nil {
		return t, true
	}
	var pair []json.RawMessage
	if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 {
		return t, false
	}
	return t, json.Unmarshal(pair[0], &t.TaskID) == nil && json.Unmarshal(pair[1], &t.MapIndex) == nil
}

// acknowledge lets executors forget a result; name "" means whichever has it.
func (s *Scheduler) acknowledge(name, attemptID string) {
	for n, d := range s.execs {
		if name == "" || n == name {
			d.add(order{ack: attemptID})
		}
	}
}

// kill asks the executor of an open attempt to end it.
func (s *Scheduler) kill(attemptID, reason string) {
	a := s.st.attempts[attemptID]
	if a == nil {
		return
	}
	if d := s.execs[a.row.Executor]; d != nil {
		d.add(order{kill: attemptID, reason: reason})
	}
}

// pushLog remembers the lengths of what running attempts have pushed by themselves, until they end.
type pushLog struct {
	mu sync.Mutex
	m  map[string]map[string]int
}

func (p *pushLog) add(attemptID, key string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[string]map[string]int{}
	}
	if p.m[attemptID] == nil {
		p.m[attemptID] = map[string]int{}
	}
	p.m[attemptID][key] = n
}

// keep drops what attempts have pushed that are not open: a push may be told just after the end.
func (p *pushLog) keep(open map[string]*openAttempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.m {
		if open[id] == nil {
			delete(p.m, id)
		}
	}
}

func (p *pushLog) take(attemptID string) map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.m[attemptID]
	delete(p.m, attemptID)
	return m
}

// Pushed tells the scheduler that a running attempt has stored an XCom by itself: mapped tasks unfold by its length.
func (s *Scheduler) Pushed(attemptID, key string, mapLength int) {
	s.pushes.add(attemptID, key, mapLength)
}

// micro is t as the store keeps it.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
