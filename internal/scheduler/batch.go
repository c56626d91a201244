package scheduler

import (
	"context"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// batch is what goes into one commit, and what must be done after it.
type batch struct {
	s     *Scheduler
	ctx   context.Context
	actor string
	now   time.Time

	runs    []*change // in order of first change
	byRun   map[plan.RunKey]*change
	started []run.Attempt
	ended   []run.Attempt
	created []newAttempt
	xcoms   []xcomWrite
	owed    []plan.Callback
	waits   []waitOp
	writes  []func(*store.Tx) error
	events  []store.Event           // beside those the store makes of the rows
	assets  []func(*store.Tx) error // events and queues, before the runs that consume them
	late    []func(*store.Tx) error // what refers to runs that the batch creates
	spoilt  error

	owedIDs []int64 // of owed, set by write
	after   []func()
}

// change is what a batch does to one DAG run.
type change struct {
	lr      *liveRun
	create  bool
	row     run.DAGRun         // as created
	tis     []run.TaskInstance // as created
	decided bool
	dec     plan.Decision
	// consume is the expression whose events the created run gets.
	consume *dag.AssetExpr
}

type newAttempt struct {
	row  run.Attempt
	hash []byte
}

// xcomWrite stores a value, or with a nil value removes all of an instance.
type xcomWrite struct {
	key   run.Key
	value *protocol.XComValue
}

func (s *Scheduler) newBatch(ctx context.Context, actor string) *batch {
	return &batch{s: s, ctx: ctx, actor: actor, now: s.now(), byRun: map[plan.RunKey]*change{}}
}

// spoil keeps the batch from being committed: a command failed when it had changed something already.
func (b *batch) spoil(err error) error {
	b.spoilt = err
	return err
}

// change returns the entry of a run.
func (b *batch) change(lr *liveRun) *change {
	c := b.byRun[lr.key]
	if c == nil || c.lr != lr {
		c = &change{lr: lr}
		b.byRun[lr.key] = c
		b.runs = append(b.runs, c)
	}
	return c
}

// decide folds an event into a run and keeps everything that counts runs and instances in step.
func (b *batch) decide(lr *liveRun, ev plan.Event) plan.Decision {
	st := b.s.st
	d := plan.Decide(lr.run, ev, b.now)
	st.usage.Fold(lr.run, d)
	st.queue.Fold(lr.run, d, st.paused(lr.key.DAGID))
	c := b.change(lr)
	if c.decided {
		c.dec = lr.run.Join(c.dec, d)
	} else {
		c.dec, c.decided = d, true
	}
	b.unwait(d)
	if d.PauseDAG != "" && !st.paused(lr.key.DAGID) {
		b.pause(lr.key.DAGID, d.PauseDAG)
	}
	st.wake(lr, d.WakeAt)
	if len(d.Tasks) > 0 && lr.run.Index().DependsOnPast() {
		st.pastDirty[lr.key] = true
	}
	if d.Run != nil && d.Run.After.State == run.RunFailed && d.Run.Before.State != run.RunFailed {
		b.countFailures(lr)
	}
	st.recount(lr)
	return d
}

// countFailures pauses a DAG when too many of its runs have failed in a row: runs that went on at the same time knew
// nothing of each other's end when they were created, so plan alone cannot say.
func (b *batch) countFailures(lr *liveRun) {
	limit, row := lr.run.Index().DAG.MaxConsecutiveFailedRuns, lr.run.Row()
	if limit == 0 || row.LogicalDate == nil || b.s.st.paused(row.DAGID) {
		return
	}
	before, err := b.s.failedBefore(b.ctx, b.s.st, row, limit)
	if err != nil {
		b.s.log.Error("failed runs in a row cannot be counted", "dag", row.DAGID, "error", err)
		return
	}
	if before+1 >= limit {
		b.pause(row.DAGID, fmt.Sprintf("%d runs in a row have failed (max_consecutive_failed_dag_runs %d)", before+1, limit))
	}
}

// pause pauses a DAG because its runs keep failing.
func (b *batch) pause(dagID, why string) {
	b.s.log.Warn("the DAG is paused", "dag", dagID, "reason", why)
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.SetPaused(dagID, true) })
	b.s.st.setPaused(dagID, true)
	b.s.setWatchers(b.s.st)
}

// owe records a callback that a process of its own must run, once for each attempt and kind.
func (b *batch) owe(c plan.Callback) {
	for _, o := range b.owed {
		if o.AttemptID == c.AttemptID && o.Kind == c.Kind && o.RunID == c.RunID && o.DAGID == c.DAGID && (o.Task == nil) == (c.Task == nil) {
			return
		}
	}
	b.owed = append(b.owed, c)
}

// seal collects what the joined decisions ask for. It is called once, before the commit.
func (b *batch) seal() {
	for _, c := range b.runs {
		for _, cb := range c.dec.Callbacks {
			b.owe(cb)
		}
		for _, k := range c.dec.Kills {
			b.after = append(b.after, func() { b.s.kill(k.AttemptID, k.Reason) })
		}
	}
}

func (b *batch) empty() bool {
	for _, c := range b.runs {
		if c.create || len(c.dec.Tasks) > 0 || c.dec.Run != nil || len(c.dec.Callbacks) > 0 {
			return false
		}
	}
	return len(b.started)+len(b.ended)+len(b.created)+len(b.xcoms)+len(b.owed)+len(b.writes)+len(b.events)+len(b.assets)+len(b.waits)+len(b.late) == 0
}

// write is the one transaction. It may be called again when the database could not be written.
func (b *batch) write(tx *store.Tx) error {
	tx.Actor = b.actor
	for _, w := range b.writes {
		if err := w(tx); err != nil {
			return err
		}
	}
	for _, w := range b.assets {
		if err := w(tx); err != nil {
			return err
		}
	}
	for _, c := range b.runs {
		if err := c.writeRows(tx); err != nil {
			return fmt.Errorf("change DAG run %s of %s: %w", c.lr.key.RunID, c.lr.key.DAGID, err)
		}
	}
	for _, w := range b.late {
		if err := w(tx); err != nil {
			return err
		}
	}
	for _, e := range b.events {
		if err := tx.Emit(e); err != nil {
			return fmt.Errorf("record %s: %w", e.Kind, err)
		}
	}
	for _, w := range b.waits {
		if err := w.write(tx); err != nil {
			return err
		}
	}
	for _, a := range b.started {
		if err := tx.StartAttempt(a); err != nil {
			return fmt.Errorf("record the start of attempt %s: %w", a.ID, err)
		}
	}
	for _, a := range b.ended {
		if err := tx.EndAttempt(a); err != nil {
			return fmt.Errorf("record the end of attempt %s: %w", a.ID, err)
		}
	}
	for _, x := range b.xcoms {
		if err := x.write(tx); err != nil {
			return fmt.Errorf("store XCom of task %s: %w", x.key.TaskID, err)
		}
	}
	tx.Actor = actorScheduler
	for _, a := range b.created {
		if err := tx.CreateAttempt(a.row, a.hash); err != nil {
			return fmt.Errorf("queue attempt %s: %w", a.row.ID, err)
		}
	}
	b.owedIDs = b.owedIDs[:0]
	for _, c := range b.owed {
		id, err := tx.OweCallback(c)
		if err != nil {
			return fmt.Errorf("keep callback %s: %w", c.Kind, err)
		}
		b.owedIDs = append(b.owedIDs, id)
	}
	return nil
}

func (c *change) writeRows(tx *store.Tx) error {
	if c.create {
		row := c.row
		if err := tx.CreateRun(&row, c.tis); err != nil {
			return err
		}
		defer func(actor string) { tx.Actor = actor }(tx.Actor)
		tx.Actor = actorScheduler // what follows from its creation is nobody's doing
		if c.consume != nil {
			if err := tx.ConsumeAssets(row.DAGID, row.RunID, c.consume); err != nil {
				return err
			}
		}
	}
	if len(c.dec.Tasks) > 0 {
		if err := tx.ChangeTasks(c.dec.Tasks); err != nil {
			return err
		}
	}
	if c.dec.Run != nil {
		return tx.ChangeRun(*c.dec.Run)
	}
	return nil
}

func (x xcomWrite) write(tx *store.Tx) error {
	if x.value == nil {
		return tx.DeleteXComs(x.key, "")
	}
	return tx.PutXCom(x.key, x.value.Key, x.value.Value, x.value.MapLength)
}

// finish does what only may be done once everything is durable.
func (b *batch) finish() {
	st := b.s.st
	clear(st.ending)
	for _, f := range b.after {
		f()
	}
	for i, id := range b.owedIDs {
		st.callbacks[id] = &owedCallback{OwedCallback: store.OwedCallback{ID: id, Callback: b.owed[i], Created: b.now}}
	}
	if len(b.owedIDs) > 0 {
		b.s.kick()
	}
	b.s.tellWaiters()
	b.s.tellChanges(b)
	for _, c := range b.runs {
		if ended(c.lr.run.Row().State) {
			st.forget(c.lr)
		}
	}
	b.s.tellIdle()
}
