package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// Triggers that are Python's run in triggerers: processes of the worker, like those of tasks, one for all triggers of a
// version of the bundle, and one for each trigger that has blocked such a process before. A triggerer asks what it is to
// run, is told of every change at once, and says what fires; its asking is its heartbeat. It has an attempt id, a token and
// a row, so that a server that starts again finds it; when it is lost, another runs its triggers. Events name the wait they
// are for and count once.

// groupKey names the triggers that share a process.
type groupKey struct {
	version string // of the bundle
	alone   string // the one wait of a process that runs a single trigger
}

// triggerGroup is what one triggerer runs.
type triggerGroup struct {
	key   groupKey
	waits map[string]*wait // by wait id

	// The changes since the state was read, for a triggerer that has followed them; one that has not is told everything.
	epoch   string
	ops     []triggerOp
	first   int64 // the number of ops[0]
	changed chan struct{}

	attempt   string // the process; empty: none
	started   time.Time
	heard     time.Time // when it last asked
	stopping  bool      // it was told to end
	idleSince time.Time
	failures  int
	notBefore time.Time
	problem   string
}

type triggerOp struct {
	add    *wait
	cancel string
	killed bool
}

const (
	triggererPoll    = 10 * time.Second // how long a triggerer's question may wait for an answer
	triggererSilence = 45 * time.Second // after which a triggerer that does not ask is killed
	triggererIdle    = 30 * time.Second // how long one without triggers stays
	triggererSettled = 20 * time.Second // one that dies sooner than this is started again later and later
)

func (s *Scheduler) groupOf(st *state, lr *liveRun, w *wait) *triggerGroup {
	k := groupKey{version: lr.run.Row().BundleVersion}
	if w.Alone {
		k.alone = w.ID
	}
	return st.group(k)
}

func (st *state) group(k groupKey) *triggerGroup {
	g := st.groups[k]
	if g == nil {
		g = &triggerGroup{key: k, waits: map[string]*wait{}, epoch: newID(), changed: make(chan struct{})}
		st.groups[k] = g
	}
	return g
}

// enter gives a group a trigger.
func (g *triggerGroup) enter(w *wait) {
	w.group = g
	g.waits[w.ID] = w
	g.idleSince = time.Time{}
	g.tell(triggerOp{add: w})
}

// leave takes a trigger out; killed says that a person did it.
func (g *triggerGroup) leave(w *wait, killed bool) {
	delete(g.waits, w.ID)
	g.tell(triggerOp{cancel: w.ID, killed: killed})
}

func (g *triggerGroup) tell(op triggerOp) {
	if g.attempt != "" {
		g.ops = append(g.ops, op)
	}
	g.wake()
}

// wake lets the triggerer's question be answered.
func (g *triggerGroup) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// work is what a triggerer that knows everything up to token must know now.
func (g *triggerGroup) work(token string) (out protocol.TriggererWork) {
	out.Type = "TriggererWork"
	var seen int64
	var epoch string
	if n, err := fmt.Sscanf(token, "%d %s", &seen, &epoch); n == 2 && err == nil && epoch == g.epoch && seen >= g.first && seen <= g.last() {
		g.ops = g.ops[seen-g.first:]
		g.first = seen
		for _, op := range g.ops {
			switch {
			case op.add == nil && g.waits[op.cancel] != nil: // a watcher that has come back
			case op.add == nil:
				out.Cancel = append(out.Cancel, protocol.TriggerCancel{ID: op.cancel, Killed: op.killed})
			case g.waits[op.add.ID] == op.add:
				out.Add = append(out.Add, op.add.order())
			}
		}
	} else {
		out.Full = true
		for _, w := range g.waits {
			out.Add = append(out.Add, w.order())
		}
	}
	out.Token = fmt.Sprintf("%d %s", g.last(), g.epoch)
	out.Stop = g.stopping && len(g.waits) == 0 // one that was given a trigger since goes on
	return out
}

func (g *triggerGroup) last() int64 { return g.first + int64(len(g.ops)) }

func (w *wait) order() protocol.TriggerOrder {
	if w.watched != nil {
		return w.watcherOrder()
	}
	return protocol.TriggerOrder{
		ID: w.ID, DAGID: w.DAGID, RunID: w.RunID, TaskID: w.TaskID, MapIndex: w.MapIndex,
		Classpath: w.Classpath, Kwargs: w.Kwargs, File: w.file,
	}
}

// wakeTriggerers lets all questions be answered anew: the state was read from the store.
func (st *state) wakeTriggerers() {
	if st == nil {
		return
	}
	for _, g := range st.groups {
		g.wake()
	}
}

// loadTriggerers assumes that the triggerers that were running still are; Connected finds out.
func (s *Scheduler) loadTriggerers(ctx context.Context, st *state) error {
	stored, err := s.store.Triggerers(ctx)
	if err != nil {
		return fmt.Errorf("read triggerers: %w", err)
	}
	for _, t := range stored {
		g := st.group(groupKey{t.BundleVersion, t.WaitID})
		a := &openAttempt{group: g, row: run.Attempt{
			Key: run.Key{MapIndex: -1}, ID: t.AttemptID, State: run.Queued, Executor: t.Executor, Instance: t.Instance, QueuedAt: t.StartedAt,
		}}
		if old := s.formerAttempt(t.AttemptID); old != nil && old.group != nil {
			a.token, a.order, a.seen = old.token, old.order, old.seen
			g.failures, g.notBefore, g.problem, g.stopping = old.group.failures, old.group.notBefore, old.group.problem, old.group.stopping
		}
		g.attempt, g.started, g.heard = t.AttemptID, t.StartedAt, s.now()
		st.attempts[t.AttemptID] = a
		s.callbackRows.Store(t.AttemptID, a.row)
	}
	return nil
}

// startTriggerers starts processes for triggers that have none.
func (s *Scheduler) startTriggerers(b *batch) {
	st := s.st
	if len(st.groups) == 0 || s.held {
		return
	}
	name := s.cfg.Limits.DefaultExecutor
	for _, g := range st.groups {
		if g.attempt != "" || len(g.waits) == 0 || b.now.Before(g.notBefore) || s.limits(st).Executors[name] == 0 {
			continue
		}
		s.startTriggerer(b, g, name)
	}
}

func (s *Scheduler) startTriggerer(b *batch, g *triggerGroup, executorName string) {
	id := newID()
	a := &openAttempt{group: g, token: s.callbackToken(id), row: run.Attempt{
		Key: run.Key{MapIndex: -1}, ID: id, State: run.Queued, Executor: executorName, Instance: s.instances[executorName], QueuedAt: b.now,
	}}
	version := g.key.version
	a.order = &executor.Attempt{
		ID: id, Token: a.token, Instance: a.row.Instance, Interpreter: s.cfg.Interpreter, Isolation: "spawn", Grace: s.cfg.Grace,
		Compat: s.cfg.Compat, LogPath: path.Join("triggerer", b.now.Format("2006-01-02"), id+".log"),
		Startup: protocol.StartupDetails{
			Type: "StartupDetails", Kind: protocol.KindTriggerer, TI: protocol.TaskRef{AttemptID: id, MapIndex: -1},
			Bundle:    protocol.BundleInfo{Name: s.cfg.BundleName, Version: version, Path: s.cfg.BundlePath(version), Shown: s.cfg.BundleShown},
			StartDate: b.now, BaseURL: s.cfg.BaseURL, Compat: s.cfg.Compat, Defaults: s.cfg.Defaults,
		},
	}
	g.attempt, g.started, g.heard, g.stopping, g.ops = id, b.now, b.now, false, nil
	g.first, g.epoch = 0, newID()
	s.st.attempts[id] = a
	s.callbackRows.Store(id, a.row)
	row := store.Triggerer{AttemptID: id, BundleVersion: version, WaitID: g.key.alone, Executor: executorName, Instance: a.row.Instance, StartedAt: b.now}
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.PutTriggerer(row) })
	b.after = append(b.after, func() { s.launch(b.ctx, a) })
}

// triggererFinished folds the end of a triggerer: another follows while there are triggers.
func (s *Scheduler) triggererFinished(b *batch, a *openAttempt, r executor.Result) {
	g, id := a.group, a.row.ID
	s.callbackRows.Delete(id)
	s.pushes.take(id)
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.DropTriggerer(id) })
	if g.attempt != id {
		return
	}
	g.attempt, g.ops = "", nil
	if g.stopping {
		g.stopping = false
		if len(g.waits) == 0 {
			delete(s.st.groups, g.key)
		}
		return
	}
	g.problem = cmp.Or(r.Reason, "it ended")
	s.log.Warn("a triggerer has ended and is started again", "attempt", id, "triggers", len(g.waits), "reason", g.problem)
	if b.now.Sub(g.started) > triggererSettled {
		g.failures = 0
		return
	}
	g.failures++
	g.notBefore = b.now.Add(min(time.Second<<min(g.failures-1, 5), 30*time.Second))
	if g.failures == 1 {
		g.notBefore = time.Time{}
	}
}

// checkTriggerers ends triggerers nobody needs and those that are not heard of any more.
func (s *Scheduler) checkTriggerers(b *batch) {
	for k, g := range s.st.groups {
		switch {
		case len(g.waits) > 0:
			s.checkHeartbeat(b, g)
		case g.attempt == "":
			delete(s.st.groups, k)
		case g.idleSince.IsZero():
			g.idleSince = b.now
		case b.now.Sub(g.idleSince) >= triggererIdle || k.alone != "":
			g.stopping = true
			g.wake()
			s.checkHeartbeat(b, g)
		}
	}
}

func (s *Scheduler) checkHeartbeat(b *batch, g *triggerGroup) {
	a := s.st.attempts[g.attempt]
	if a == nil || !a.seen || b.now.Sub(g.heard) < triggererSilence || s.limits(s.st).Executors[a.row.Executor] == 0 {
		return
	}
	reason := fmt.Sprintf("the triggerer has not asked for work for %s: something in it holds up the whole process", triggererSilence)
	b.after = append(b.after, func() { s.kill(a.row.ID, reason) })
}

// groupFor is the group a triggerer's process runs; nil when it was replaced.
func (st *state) groupFor(attemptID string) *triggerGroup {
	if a := st.attempts[attemptID]; a != nil && a.group != nil && a.group.attempt == attemptID {
		return a.group
	}
	return nil
}

// TriggererWork tells a triggerer what has changed since token, as soon as something has.
func (s *Scheduler) TriggererWork(ctx context.Context, attemptID, token string) (protocol.TriggererWork, error) {
	timeout := time.NewTimer(triggererPoll)
	defer timeout.Stop()
	for last := false; ; {
		var out protocol.TriggererWork
		var changed chan struct{}
		err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(*batch) error {
			g := s.st.groupFor(attemptID)
			if g == nil {
				return fmt.Errorf("triggerer %s has been replaced: %w", attemptID, ErrNotFound)
			}
			g.heard = s.now()
			out, changed = g.work(token), g.changed
			return nil
		}})
		if err != nil {
			return protocol.TriggererWork{}, err
		}
		if last || out.Full || out.Stop || len(out.Add)+len(out.Cancel) > 0 {
			return out, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			last = true
		case <-ctx.Done():
			return protocol.TriggererWork{}, fmt.Errorf("wait for triggers: %w", ctx.Err())
		}
	}
}

// TriggerReport is what a triggerer says of one trigger: exactly one of what fired, why it failed, and how it blocks.
type TriggerReport struct {
	WaitID string
	// Payload is what fired. State, when set, ends the task as it says, with these XComs.
	Payload json.RawMessage
	State   run.TaskState
	XComs   []protocol.XComValue
	// Error and Traceback say why the trigger failed.
	Error, Traceback string
	// Blocks says that the trigger does not let others run; Alone asks for a process of its own for it.
	Blocks string
	Alone  bool
}

// TriggerReported folds what a triggerer reports. A wait that is over already is none of its business any more.
func (s *Scheduler) TriggerReported(ctx context.Context, attemptID string, r TriggerReport) error {
	return s.call(ctx, message{actor: actorScheduler, fold: func(b *batch) error {
		g := s.st.groupFor(attemptID)
		if g == nil {
			return fmt.Errorf("triggerer %s has been replaced: %w", attemptID, ErrNotFound)
		}
		if w := s.st.watchers[r.WaitID]; w != nil {
			return s.watcherReported(b, w, r)
		}
		w := g.waits[r.WaitID]
		if w == nil || s.st.waits.byKey[w.Key] != w {
			return nil
		}
		switch {
		case r.Blocks != "":
			s.blocks(b, w, r)
		case r.Error != "":
			s.fail(b, w, r.Error, r.Traceback)
		case r.State != "":
			s.endByTrigger(b, w, r)
		default:
			s.fire(b, w, r.Payload)
		}
		return nil
	}})
}

func (s *Scheduler) endByTrigger(b *batch, w *wait, r TriggerReport) {
	lengths := map[string]int{}
	for i := range r.XComs {
		lengths[r.XComs[i].Key] = r.XComs[i].MapLength
		b.xcoms = append(b.xcoms, xcomWrite{w.Key, &r.XComs[i]})
	}
	s.endWait(b, w, plan.EndedByTrigger{State: r.State, MapLengths: lengths, Reason: "its trigger said so"})
}

// blocks notes that a trigger holds up the others and, when asked to, sets it apart.
func (s *Scheduler) blocks(b *batch, w *wait, r TriggerReport) {
	w.note = r.Blocks
	s.log.Warn("a trigger blocks its triggerer", "dag", w.DAGID, "run", w.RunID, "task", w.TaskID, "trigger", w.Classpath, "what", r.Blocks)
	lr := s.st.runs[keyOf(w.Key)]
	if !r.Alone || w.Alone || lr == nil {
		return
	}
	w.Alone = true
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.SetWaitAlone(w.Key, w.ID) })
	w.group.leave(w, false)
	s.groupOf(s.st, lr, w).enter(w)
}
