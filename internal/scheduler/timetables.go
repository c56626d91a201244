package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/store"
)

// dagState is one published DAG with where its timetable stands.
type dagState struct {
	info store.DAGInfo
	tt   timetable.Timetable
	// due is when the timetable must be looked at again; zero: now. far when it never gets due by itself.
	due time.Time
	// asking is where the questions to a timetable written in Python stand.
	asking *asking
	// byHand is true where the installation creates no runs by schedule.
	byHand bool
}

// never is a due that does not come.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// automatic says whether the timetable may create runs.
func (d *dagState) automatic() bool {
	return !d.byHand && !d.info.Paused && !d.info.Removed && d.tt != nil
}

func (d *dagState) limits() timetable.Limits {
	g := d.info.DAG
	return timetable.Limits{Start: g.StartDate, End: g.EndDate, Catchup: g.Catchup}
}

// next is the slot to create next.
func (d *dagState) next(now time.Time) (timetable.Slot, bool) {
	var after *timetable.Slot
	if last := d.info.Schedule.LastSlot; last != nil {
		after = &timetable.Slot{LogicalDate: *last}
	}
	return d.tt.Next(after, d.limits(), now)
}

// maxActiveRuns is how many runs of the DAG may be live before no more are created automatically.
func (d *dagState) maxActiveRuns(l plan.Limits) int {
	n := d.info.DAG.MaxActiveRuns
	if n == 0 {
		n = l.MaxActiveRuns
	}
	if n == 0 {
		n = 16
	}
	if m := d.tt.MaxActiveRuns(); m > 0 {
		n = min(n, m)
	}
	return n
}

func (s *Scheduler) loadDAGs(ctx context.Context, st *state) error {
	infos, _, err := s.store.DAGs(ctx, store.DAGFilter{IncludeRemoved: true})
	if err != nil {
		return fmt.Errorf("read DAGs: %w", err)
	}
	st.dags = make(map[string]*dagState, len(infos))
	for _, i := range infos {
		d := s.newDAGState(i)
		if s.st != nil {
			d.keepAnswers(s.st.dags[i.DAG.ID])
		}
		st.dags[i.DAG.ID] = d
		st.look(d)
	}
	return s.loadAssets(ctx, st)
}

func (s *Scheduler) newDAGState(i store.DAGInfo) *dagState {
	d := &dagState{info: i, byHand: s.cfg.ByHand, asking: &asking{}}
	tt, err := timetable.Parse(i.DAG.Schedule, i.DAG.Timezone, time.LoadLocation)
	if err != nil { // the bundle refuses such DAGs; a time zone may be missing on another machine
		s.log.Error("a DAG cannot be scheduled by time", "dag", i.DAG.ID, "error", err)
		return d
	}
	d.tt = tt
	return d
}

// DAGsChanged says that DAGs were published or removed.
func (s *Scheduler) DAGsChanged() {
	s.box.put(message{actor: actorScheduler, alone: true, fold: func(b *batch) error { s.rereadDAGs(b); return nil }})
}

// rereadDAGs takes in what was published. What cannot be read now is read with the next look at everything.
func (s *Scheduler) rereadDAGs(b *batch) {
	st := s.st
	err := s.loadDAGs(b.ctx, st)
	if st.dagsStale = err != nil; err != nil {
		s.log.Error("changed DAGs cannot be read; they are tried again", "error", err, "in", s.cfg.Interval.String())
		return
	}
	s.setWatchers(st)
	used := map[versionKey]bool{}
	for _, lr := range st.runs {
		used[versionKey{lr.key.DAGID, lr.info.Number}] = true
	}
	for k := range st.indexes {
		if d := st.dags[k.dagID]; !used[k] && (d == nil || d.info.Version != k.number) {
			delete(st.indexes, k)
		}
	}
	st.runsDirty = true
}

// createScheduled creates the runs that timetables ask for now and records what comes next. It says whether it created any.
func (s *Scheduler) createScheduled(b *batch) bool {
	created := false
	for _, id := range s.st.dagsInOrder(b.now) {
		d := s.st.dags[id]
		for s.step(b, d) {
			created = true
		}
		s.st.dueBy(d.due)
	}
	return created
}

// look has a DAG's timetable looked at in the next turn.
func (st *state) look(d *dagState) {
	d.due, st.dagsDirty = time.Time{}, true
	st.dagsNow = st.dagsNow || d.automatic()
}

// dueBy notes that a DAG is due at a time.
func (st *state) dueBy(at time.Time) {
	if at.Before(st.dagsDue) {
		st.dagsDue = at
	}
}

// dagsInOrder lists the DAGs whose timetables are due. The caller says, for each, when it is due again.
func (st *state) dagsInOrder(now time.Time) []string {
	if !st.dagsDirty && st.dagsDue.After(now) {
		return nil
	}
	st.dagsDue, st.dagsDirty, st.dagsNow = never, false, false
	var due []string
	for id, d := range st.dags {
		if d.due.After(now) {
			st.dueBy(d.due)
		} else {
			due = append(due, id)
		}
	}
	slices.Sort(due)
	return due
}

// step creates one scheduled run of a DAG if it is due, and else says when to look again.
func (s *Scheduler) step(b *batch, d *dagState) bool {
	d.due = never
	if d.tt == nil || d.info.Removed || !s.consult(b, d) {
		return false
	}
	slot, ok := d.next(b.now)
	s.showNext(b, d, slot, ok)
	if !ok || !d.automatic() || s.held {
		return false
	}
	if slot.RunAfter.After(b.now) {
		d.due = slot.RunAfter
		return false
	}
	if s.st.active[d.info.DAG.ID] >= d.maxActiveRuns(s.cfg.Limits) {
		return false // recount makes it due when a run ends
	}
	at := slot.LogicalDate
	d.info.Schedule.LastSlot = &at
	err := s.createRun(b, d, run.DAGRun{
		DAGID: d.info.DAG.ID, RunID: timetable.RunID(string(run.TypeScheduled), slot.RunAfter), Type: run.TypeScheduled,
		LogicalDate: &at, DataIntervalStart: &slot.Interval.Start, DataIntervalEnd: &slot.Interval.End,
		RunAfter: slot.RunAfter, TriggeredBy: actorScheduler,
	})
	if err != nil && !errors.Is(err, ErrConflict) {
		s.log.Error("a scheduled run could not be created", "dag", d.info.DAG.ID, "logical_date", at, "error", err)
		d.due = b.now.Add(s.cfg.Interval)
		return false
	}
	// Somebody may have triggered a run with this date already: the slot is served all the same.
	next, ok := d.next(b.now)
	s.writeSchedule(b, d, next, ok) // of a timetable in Python that must be asked: none until it has answered
	return true
}

// showNext records the next run for people if it is not what the store says.
func (s *Scheduler) showNext(b *batch, d *dagState, slot timetable.Slot, ok bool) {
	was := d.info.Schedule.NextRun
	if (was == nil && !ok) || (was != nil && ok && *was == nextRun(slot)) {
		return
	}
	s.writeSchedule(b, d, slot, ok)
}

func (s *Scheduler) writeSchedule(b *batch, d *dagState, slot timetable.Slot, ok bool) {
	d.info.Schedule.NextRun = nil
	if ok {
		n := nextRun(slot)
		d.info.Schedule.NextRun = &n
	}
	id, now := d.info.DAG.ID, d.info.Schedule
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.SetNextRun(id, now) })
}

func nextRun(s timetable.Slot) store.NextRun {
	return store.NextRun{
		LogicalDate: s.LogicalDate.UTC(), IntervalStart: s.Interval.Start.UTC(), IntervalEnd: s.Interval.End.UTC(),
		RunAfter: s.RunAfter.UTC(),
	}
}

// createRun enters a new DAG run, of the newest version of its DAG, into the batch. ErrConflict when its id or its
// logical date is taken.
func (s *Scheduler) createRun(b *batch, d *dagState, r run.DAGRun) error {
	st := s.st
	k := runKey(r)
	if st.runs[k] != nil {
		return fmt.Errorf("DAG run %s of %s exists already: %w", r.RunID, r.DAGID, ErrConflict)
	}
	if _, err := s.store.Run(b.ctx, r.DAGID, r.RunID); err == nil {
		return fmt.Errorf("DAG run %s of %s exists already: %w", r.RunID, r.DAGID, ErrConflict)
	} else if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("look for DAG run %s: %w", r.RunID, err)
	}
	if other, err := s.runAt(b, r); err != nil {
		return err
	} else if other != "" {
		return fmt.Errorf("DAG run %s of %s has the logical date %s already: %w", other, r.DAGID, r.LogicalDate.Format(time.RFC3339), ErrConflict)
	}
	return s.enterRun(b, r)
}

// enterRun is createRun for a run whose id and logical date are known to be free.
func (s *Scheduler) enterRun(b *batch, r run.DAGRun) error {
	st, k := s.st, runKey(r)
	ix, err := s.index(b.ctx, st, r.DAGID, 0)
	if err != nil {
		return err
	}
	r.State, r.QueuedAt, r.Version = run.RunQueued, b.now, 1
	r.DAGVersion, r.BundleVersion = ix.info.Number, ix.info.BundleVersion
	if len(r.Conf) == 0 {
		r.Conf = []byte("{}")
	}
	opt, err := s.options(b.ctx, st, ix.x, r, false)
	if err != nil {
		return err
	}
	tis := plan.Instances(ix.x, r, newID)
	for i := range tis {
		tis[i].Version = 1
	}
	lr := &liveRun{key: k, info: ix.info, run: plan.NewRun(ix.x, r, slices.Clone(tis), opt)}
	st.keep(lr)
	c := b.change(lr)
	c.create, c.row, c.tis = true, r, tis
	return nil
}

// runAt returns the id of the run that has r's logical date already.
func (s *Scheduler) runAt(b *batch, r run.DAGRun) (string, error) {
	if r.LogicalDate == nil {
		return "", nil
	}
	for k, lr := range s.st.runs {
		if at := lr.run.Row().LogicalDate; k.DAGID == r.DAGID && at != nil && at.Equal(*r.LogicalDate) {
			return k.RunID, nil
		}
	}
	found, _, err := s.store.Runs(b.ctx, store.RunFilter{DAGID: r.DAGID, LogicalDateGTE: r.LogicalDate, LogicalDateLTE: r.LogicalDate, Limit: 1})
	if err != nil {
		return "", fmt.Errorf("look for a DAG run at %s: %w", r.LogicalDate, err)
	}
	if len(found) > 0 {
		return found[0].RunID, nil
	}
	return "", nil
}

// neighbours are the slots before and after a run, for its templates.
type neighbours struct {
	prev, next       timetable.Slot
	hasPrev, hasNext bool
}

func (s *Scheduler) neighboursOf(lr *liveRun) *neighbours {
	if lr.slots != nil {
		return lr.slots
	}
	n := &neighbours{}
	lr.slots = n
	r, g := lr.run.Row(), lr.run.Index().DAG
	if r.LogicalDate == nil || g.Schedule.Kind == dag.ScheduleNone {
		return n
	}
	tt, err := timetable.Parse(g.Schedule, g.Timezone, time.LoadLocation)
	if err != nil {
		return n
	}
	here := tt.SlotOf(*r.LogicalDate)
	n.prev, n.hasPrev = tt.Prev(here)
	n.next, n.hasNext = tt.Next(&here, timetable.Limits{Start: g.StartDate, Catchup: true}, s.now())
	return n
}
