package scheduler

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// Clear lets task instances run again and returns those it chose, as they are afterwards.
func (s *Scheduler) Clear(ctx context.Context, actor string, r ClearRequest) ([]run.TaskInstance, error) {
	var out []run.TaskInstance
	err := s.call(ctx, message{actor: actor, read: r.DryRun, fold: func(b *batch) error {
		out = nil
		if r.OnlyFailed && r.OnlyRunning {
			return fmt.Errorf("only_failed and only_running exclude each other: %w", ErrInvalid)
		}
		if r.RunID == "" && r.StartDate == nil && r.EndDate == nil {
			return fmt.Errorf("say which run, or between which dates: %w", ErrInvalid)
		}
		runs, err := s.selectRuns(b.ctx, selection{dagID: r.DAGID, runID: r.RunID, future: r.IncludeFuture, past: r.IncludePast,
			from: r.StartDate, to: r.EndDate})
		if err != nil {
			return err
		}
		plans := make([]clearing, len(runs))
		for i, lr := range runs { // all that can fail comes first: an error must not leave some of the runs cleared
			if plans[i], err = s.planClear(b.ctx, lr, r); err != nil {
				return err
			}
		}
		for i := range plans {
			if len(plans[i].keys) > 0 && !r.DryRun {
				s.clear(b, &plans[i], r)
			}
			out = append(out, pick(plans[i].lr, plans[i].keys)...)
		}
		return nil
	}})
	return answered(&out, err)
}

// clearing is what a clear is going to do to one run.
type clearing struct {
	lr   *liveRun
	keys []run.Key
	// move makes the run one of another version of its DAG; nil when it stays what it is.
	move func(*store.Tx) error
}

// planClear chooses the instances of a run and reads all that clearing them needs. It changes nothing.
func (s *Scheduler) planClear(ctx context.Context, lr *liveRun, r ClearRequest) (clearing, error) {
	keys, err := selectTasks(lr, r.TaskIDs, r.IncludeUpstream, r.IncludeDownstream, true)
	if err != nil {
		return clearing{}, err
	}
	c := clearing{lr: lr, keys: slices.DeleteFunc(keys, func(k run.Key) bool { return !clearable(lr, k, r) })}
	if len(c.keys) == 0 || r.DryRun {
		return c, nil
	}
	row := lr.run.Row()
	lost := s.cfg.HasBundle != nil && ended(row.State) && !s.cfg.HasBundle(row.BundleVersion)
	if r.RunOnLatest || lost { // without its code a run can only go on with the code there is
		c.lr, c.move, err = s.onLatest(ctx, lr)
	}
	return c, err
}

// clear does what was planned; with RunOnLatest the run goes on with the newest version of its DAG.
func (s *Scheduler) clear(b *batch, c *clearing, r ClearRequest) {
	if c.move != nil {
		b.writes = append(b.writes, c.move)
	}
	s.enter(c.lr)
	b.decide(c.lr, plan.Cleared{Keys: c.keys, KeepRun: !r.ResetDagRuns})
	if r.Note != nil {
		s.noteLater(c.keys, *r.Note)
	}
}

// latestFor returns the newest version of a run's DAG, nil when that is the run's own; an error when the run cannot take it.
func (s *Scheduler) latestFor(ctx context.Context, lr *liveRun) (*indexed, error) {
	row := lr.run.Row()
	ix, err := s.index(ctx, s.st, row.DAGID, 0)
	if err != nil {
		return nil, notFound(err)
	}
	if row.DAGVersion == ix.info.Number && row.BundleVersion == ix.info.BundleVersion {
		return nil, nil
	}
	if !ended(row.State) {
		return nil, fmt.Errorf("DAG run %s is %s: only a finished run can go on with a newer version of its DAG: %w", row.RunID, row.State, ErrConflict)
	}
	return ix, nil
}

// onLatest makes a finished run one of the newest version of its DAG, with instances for tasks that are new. The write it
// returns stores that; nil when the run is one of that version already.
func (s *Scheduler) onLatest(ctx context.Context, lr *liveRun) (*liveRun, func(*store.Tx) error, error) {
	row := lr.run.Row()
	ix, err := s.latestFor(ctx, lr)
	if err != nil || ix == nil {
		return lr, nil, err
	}
	before := row
	row.DAGVersion, row.BundleVersion, row.Version = ix.info.Number, ix.info.BundleVersion, before.Version+1
	tis := lr.run.Instances()
	have := map[string]bool{}
	for _, ti := range tis {
		have[ti.TaskID] = true
	}
	var added []plan.TaskChange
	for _, ti := range plan.Instances(ix.x, row, newID) {
		if have[ti.TaskID] {
			continue
		}
		ti.Version = 1
		added = append(added, plan.TaskChange{Before: run.TaskInstance{Key: ti.Key}, After: ti})
		tis = append(tis, ti)
	}
	opt, err := s.options(ctx, s.st, ix.x, row, true)
	if err != nil {
		return nil, nil, err
	}
	move := func(tx *store.Tx) error {
		if err := tx.ChangeRun(plan.RunChange{Before: before, After: row}); err != nil {
			return err
		}
		return tx.ChangeTasks(added)
	}
	return &liveRun{key: lr.key, info: ix.info, run: plan.NewRun(ix.x, row, tis, opt)}, move, nil
}

func clearable(lr *liveRun, k run.Key, r ClearRequest) bool {
	ti, ok := lr.run.Instance(k)
	if !ok {
		return false
	}
	switch {
	case r.OnlyFailed:
		return ti.State == run.Failed || ti.State == run.UpstreamFailed
	case r.OnlyRunning:
		return ti.State == run.Running
	}
	return true
}

// MarkTasks sets task instances to success, failed or skipped and returns them as they are afterwards.
func (s *Scheduler) MarkTasks(ctx context.Context, actor string, r MarkRequest) ([]run.TaskInstance, error) {
	var out []run.TaskInstance
	err := s.call(ctx, message{actor: actor, read: r.DryRun, fold: func(b *batch) error {
		out = nil
		if r.State != run.Success && r.State != run.Failed && r.State != run.Skipped {
			return fmt.Errorf("a task instance can be marked success, failed or skipped, not %q: %w", r.State, ErrInvalid)
		}
		runs, err := s.selectRuns(b.ctx, selection{dagID: r.DAGID, runID: r.RunID, future: r.IncludeFuture, past: r.IncludePast})
		if err != nil {
			return err
		}
		chosen := make([][]run.Key, len(runs))
		for i, lr := range runs { // all that can fail comes first: an error must not leave some of the runs marked
			if chosen[i], err = selectTasks(lr, r.Tasks, r.IncludeUpstream, r.IncludeDownstream, false); err != nil {
				return err
			}
		}
		for i, lr := range runs {
			keys := chosen[i]
			if len(keys) > 0 && !r.DryRun {
				s.enter(lr)
				b.decide(lr, plan.Marked{Keys: keys, State: r.State, Reason: "marked " + string(r.State) + " by " + actor})
				if r.Note != nil {
					s.noteLater(keys, *r.Note)
				}
			}
			out = append(out, pick(lr, keys)...)
		}
		return nil
	}})
	return answered(&out, err)
}

// MarkRun sets the state of a run: success, failed (which cancels what runs) or queued (which starts it again).
func (s *Scheduler) MarkRun(ctx context.Context, actor, dagID, runID string, state run.State) (run.DAGRun, error) {
	var out run.DAGRun
	err := s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		if state != run.RunSuccess && state != run.RunFailed && state != run.RunQueued {
			return fmt.Errorf("a DAG run can be set to success, failed or queued, not %q: %w", state, ErrInvalid)
		}
		lr, err := s.find(b.ctx, plan.RunKey{DAGID: dagID, RunID: runID})
		if err != nil {
			return notFound(err)
		}
		s.enter(lr)
		b.decide(lr, plan.RunMarked{State: state, Reason: "marked " + string(state) + " by " + actor})
		out = lr.run.Row()
		return nil
	}})
	return answered(&out, err)
}

// SetRunNote replaces the note of a run.
func (s *Scheduler) SetRunNote(ctx context.Context, actor, dagID, runID, note string) (run.DAGRun, error) {
	var out run.DAGRun
	err := s.call(ctx, message{actor: actor, alone: true, fold: func(b *batch) error {
		lr, err := s.find(b.ctx, plan.RunKey{DAGID: dagID, RunID: runID})
		if err != nil {
			return notFound(err)
		}
		before := lr.run.Row()
		out = before
		out.Note, out.Version = note, before.Version+1
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.ChangeRun(plan.RunChange{Before: before, After: out}) })
		return s.replace(b, lr, out, lr.run.Instances())
	}})
	return answered(&out, err)
}

// SetTaskNote replaces the note of a task instance.
func (s *Scheduler) SetTaskNote(ctx context.Context, actor string, k run.Key, note string) (run.TaskInstance, error) {
	var out run.TaskInstance
	err := s.call(ctx, s.taskNote(actor, k, note, &out))
	return answered(&out, err)
}

func (s *Scheduler) taskNote(actor string, k run.Key, note string, out *run.TaskInstance) message {
	return message{actor: actor, alone: true, fold: func(b *batch) error {
		lr, err := s.find(b.ctx, keyOf(k))
		if err != nil {
			return notFound(err)
		}
		before, ok := lr.run.Instance(k)
		if !ok {
			return fmt.Errorf("there is no task instance %s in DAG run %s: %w", describe(k), k.RunID, ErrNotFound)
		}
		after := before
		after.Note, after.Version = note, before.Version+1
		*out = after
		b.writes = append(b.writes, func(tx *store.Tx) error {
			return tx.ChangeTasks([]plan.TaskChange{{Before: before, After: after}})
		})
		tis := lr.run.Instances()
		for i := range tis {
			if tis[i].Key == k {
				tis[i] = after
			}
		}
		return s.replace(b, lr, lr.run.Row(), tis)
	}}
}

// noteLater puts a note on instances in commits of its own, after the change that brought it.
func (s *Scheduler) noteLater(keys []run.Key, note string) {
	for _, k := range keys {
		var out run.TaskInstance
		s.box.put(s.taskNote(actorScheduler, k, note, &out))
	}
}

// replace folds a live run anew from rows that were changed beside plan. Runs that are not live need nothing.
func (s *Scheduler) replace(b *batch, lr *liveRun, row run.DAGRun, tis []run.TaskInstance) error {
	if s.st.runs[lr.key] != lr {
		return nil
	}
	opt, err := s.options(b.ctx, s.st, lr.run.Index(), row, true)
	if err != nil {
		return err
	}
	fresh := &liveRun{key: lr.key, info: lr.info, run: plan.NewRun(lr.run.Index(), row, slices.Clone(tis), opt)}
	s.st.drop(lr)
	s.st.keep(fresh)
	b.after = append(b.after, func() {
		s.box.put(message{actor: actorScheduler, fold: func(b *batch) error {
			if now := s.st.runs[fresh.key]; now == fresh && !ended(row.State) {
				b.decide(fresh, plan.Tick{})
			}
			return nil
		}})
	})
	return nil
}

// SetPaused pauses or unpauses a DAG: a paused DAG gets no automatic runs and starts no tasks.
func (s *Scheduler) SetPaused(ctx context.Context, actor, dagID string, paused bool) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		d, err := s.dagByID(dagID)
		if err != nil {
			return err
		}
		if d.info.Paused == paused {
			return nil
		}
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.SetPaused(dagID, paused) })
		s.st.setPaused(dagID, paused)
		s.setWatchers(s.st)
		return nil
	}})
}

// PutPool creates or changes a pool.
func (s *Scheduler) PutPool(ctx context.Context, actor string, p store.Pool) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		if p.Name == "" || len(p.Name) > 256 {
			return fmt.Errorf("a pool needs a name of at most 256 characters: %w", ErrInvalid)
		}
		if p.Slots < -1 {
			return fmt.Errorf("a pool has 0 or more slots, or -1 for any number, not %d: %w", p.Slots, ErrInvalid)
		}
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.PutPool(p) })
		s.st.pools[p.Name] = plan.Pool{Slots: p.Slots, IncludeDeferred: p.IncludeDeferred}
		return nil
	}})
}

// DeletePool removes a pool. Tasks that name it wait until it exists again.
func (s *Scheduler) DeletePool(ctx context.Context, actor, name string) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		if name == plan.DefaultPool {
			return fmt.Errorf("%s cannot be deleted, only resized: %w", name, ErrInvalid)
		}
		if _, ok := s.st.pools[name]; !ok {
			return fmt.Errorf("there is no pool %q: %w", name, ErrNotFound)
		}
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.DeletePool(name) })
		delete(s.st.pools, name)
		return nil
	}})
}

// WhyWaiting says in words why each unfinished instance of a run does not run now; for a queued run, why it does not begin.
func (s *Scheduler) WhyWaiting(ctx context.Context, dagID, runID string) ([]plan.Blocked, error) {
	var out []plan.Blocked
	k := plan.RunKey{DAGID: dagID, RunID: runID}
	err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(b *batch) error {
		st := s.st
		lr := st.runs[k]
		if lr == nil {
			if _, err := s.store.Run(b.ctx, dagID, runID); err != nil {
				return notFound(err)
			}
			return nil
		}
		if st.queued[k] != nil {
			_, blocked, _ := plan.RunsToStart([]plan.RunCandidate{s.candidate(lr)}, st.running, s.limits(st), b.now)
			for _, r := range blocked {
				out = append(out, plan.Blocked{Key: run.Key{DAGID: dagID, RunID: runID, MapIndex: -1}, Reason: r.Reason})
			}
			return nil
		}
		out = st.queue.Blocked(&st.usage, s.limits(st), &k)
		for _, ti := range lr.run.Instances() {
			why := lr.run.Why(ti.Key, b.now)
			if ti.State.IsSuspended() {
				why = cmp.Or(st.whyDeferred(ti.Key), why)
			}
			if why != "" && !slices.ContainsFunc(out, func(x plan.Blocked) bool { return x.Key == ti.Key }) {
				out = append(out, plan.Blocked{Key: ti.Key, Reason: why})
			}
		}
		return nil
	}})
	return answered(&out, err)
}

// NextRun is the next automatic run of a DAG; false when there is none.
func (s *Scheduler) NextRun(ctx context.Context, dagID string) (store.NextRun, bool, error) {
	var next store.NextRun
	found := false
	err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(b *batch) error {
		d, err := s.dagByID(dagID)
		if err != nil {
			return err
		}
		if d.tt == nil {
			return nil
		}
		if d.asking.fault != "" {
			return fmt.Errorf("%s: %w", d.asking.fault, ErrInvalid)
		}
		slot, ok := d.next(b.now)
		next, found = nextRun(slot), ok
		return nil
	}})
	if err != nil {
		return store.NextRun{}, false, err
	}
	return next, found, nil
}

// pick returns instances as they are now.
func pick(lr *liveRun, keys []run.Key) []run.TaskInstance {
	out := make([]run.TaskInstance, 0, len(keys))
	for _, k := range keys {
		if ti, ok := lr.run.Instance(k); ok {
			out = append(out, ti)
		}
	}
	return out
}
