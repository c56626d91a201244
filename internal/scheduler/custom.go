package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// This file asks timetables written in Python. Only the DAG's process can: the question goes to the worker and the answer,
// a few slots ahead, comes back as a message. The loop never waits for it.

// Evaluator asks the timetable of a DAG in a process that has its file imported.
type Evaluator interface {
	Evaluate(ctx context.Context, r workerapi.Evaluate) (*workerapi.Evaluated, error)
}

const (
	// slotsAhead is how many slots are asked for at once.
	slotsAhead = 16
	// evaluateTime bounds one question, the import of the file included.
	evaluateTime = 90 * time.Second
	// evaluateAgain is how long a timetable that failed is left alone.
	evaluateAgain = time.Minute
)

// asking is where the questions to one DAG's timetable stand.
type asking struct {
	open  bool
	fault string    // why the last question failed
	again time.Time // when to ask again after that
}

// customOf is the class of a DAG's timetable written in Python; empty when it has none.
func customOf(s dag.Schedule) string {
	switch {
	case s.Kind == dag.ScheduleCustom:
		return s.Custom
	case s.Kind == dag.ScheduleAssetOrTime && s.Time != nil:
		return customOf(*s.Time)
	}
	return ""
}

// keepAnswers carries over what is known of a DAG's timetable when its state is made anew.
func (d *dagState) keepAnswers(old *dagState) {
	if old == nil || old.info.Version != d.info.Version || old.info.BundleVersion != d.info.BundleVersion {
		return
	}
	if _, ok := d.tt.(*timetable.Answers); ok {
		d.tt, d.asking = old.tt, old.asking
	}
}

// TimetableFault is why a timetable written in Python cannot say when its DAG runs.
type TimetableFault struct {
	DAGID, File, Message string
	At                   time.Time
}

// TimetableFaults lists the timetables that failed when they were last asked, by DAG.
func (s *Scheduler) TimetableFaults() []TimetableFault {
	var out []TimetableFault
	s.faults.Range(func(_, v any) bool {
		out = append(out, v.(TimetableFault))
		return true
	})
	slices.SortFunc(out, func(a, b TimetableFault) int { return cmp.Compare(a.DAGID, b.DAGID) })
	return out
}

// consult makes sure that the answers of a DAG's timetable are good for now; false while they are waited for.
func (s *Scheduler) consult(b *batch, d *dagState) bool {
	a, ok := d.tt.(*timetable.Answers)
	if !ok || !a.Stale(d.info.Schedule.LastSlot, d.info.DAG.Catchup, b.now) {
		return true
	}
	switch {
	case d.asking.open || s.background == nil:
	case b.now.Before(d.asking.again):
		d.due = d.asking.again
	default:
		info, asking := d.info, d.asking
		b.after = append(b.after, func() { // the question is about the last run, which this commit may create
			if !asking.open {
				asking.open = true
				s.background(func(ctx context.Context) { s.askTimetable(ctx, info) })
			}
		})
	}
	return false
}

// askTimetable asks for the slots after the last automatic one and posts the answer.
func (s *Scheduler) askTimetable(ctx context.Context, info store.DAGInfo) {
	g, last := info.DAG, info.Schedule.LastSlot
	q := protocol.Timetable{DAGID: g.ID, Earliest: g.StartDate, Latest: g.EndDate, Catchup: g.Catchup, Limit: slotsAhead}
	after, err := s.lastInterval(ctx, g.ID, last)
	q.After = after
	var slots []timetable.Slot
	var complete bool
	if err == nil {
		slots, complete, _, err = s.evaluate(ctx, info, q)
	}
	if ctx.Err() != nil {
		return
	}
	s.box.put(message{actor: actorScheduler, fold: func(b *batch) error {
		d := s.st.dags[g.ID]
		if d == nil || d.info.Version != info.Version || d.info.BundleVersion != info.BundleVersion {
			return nil
		}
		d.asking.open = false
		s.st.look(d)
		if err != nil {
			if d.asking.fault != err.Error() {
				s.log.Error("a timetable cannot say when its DAG runs", "dag", g.ID, "timetable", customOf(g.Schedule), "error", err)
			}
			d.asking.fault, d.asking.again = err.Error(), b.now.Add(evaluateAgain)
			s.faults.Store(g.ID, TimetableFault{g.ID, g.File, err.Error(), b.now})
			return nil
		}
		d.asking.fault = ""
		s.faults.Delete(g.ID)
		old, _ := d.tt.(*timetable.Answers)
		d.tt = &timetable.Answers{Slots: slots, After: last, Complete: complete, Known: true, Active: old.Active}
		return nil
	}})
}

// lastInterval is the data interval of the last automatic run; nil when there was none.
func (s *Scheduler) lastInterval(ctx context.Context, dagID string, last *time.Time) (*protocol.Interval, error) {
	if last == nil {
		return nil, nil
	}
	out := &protocol.Interval{Start: *last, End: *last}
	rs, _, err := s.store.Runs(ctx, store.RunFilter{DAGID: dagID, LogicalDateGTE: last, LogicalDateLTE: last, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read the last run of %s: %w", dagID, err)
	}
	if len(rs) > 0 && rs[0].DataIntervalStart != nil && rs[0].DataIntervalEnd != nil {
		out.Start, out.End = *rs[0].DataIntervalStart, *rs[0].DataIntervalEnd
	}
	return out, nil
}

// evaluate asks the timetable of a DAG's newest version.
func (s *Scheduler) evaluate(ctx context.Context, info store.DAGInfo, q protocol.Timetable) (slots []timetable.Slot, complete bool, manual timetable.Interval, err error) {
	ctx, cancel := context.WithTimeout(ctx, evaluateTime)
	defer cancel()
	compat := info.DAG.Compat
	if compat == "" {
		compat = s.cfg.Compat
	}
	got, err := s.cfg.Timetables.Evaluate(ctx, workerapi.Evaluate{
		Interpreter: s.cfg.Interpreter, Version: info.BundleVersion, Question: q,
		Describe: protocol.Describe{BundleName: s.cfg.BundleName, BundlePath: s.cfg.BundlePath(info.BundleVersion), File: info.DAG.File,
			ShownPath: s.cfg.BundleShown, Compat: compat, Defaults: s.cfg.Defaults},
	})
	if err != nil {
		return nil, false, manual, fmt.Errorf("ask the timetable %s: %w", customOf(info.DAG.Schedule), err)
	}
	a := got.Answer
	if a.Error != "" {
		return nil, false, manual, fmt.Errorf("the timetable %s of DAG %s failed: %s", customOf(info.DAG.Schedule), info.DAG.ID, a.Error)
	}
	for _, x := range a.Slots {
		slots = append(slots, timetable.Slot{LogicalDate: micro(x.Start), Interval: timetable.Interval{Start: micro(x.Start), End: micro(x.End)}, RunAfter: micro(x.RunAfter)})
	}
	if a.Manual != nil {
		manual = timetable.Interval{Start: micro(a.Manual.Start), End: micro(a.Manual.End)}
	}
	return slots, a.Complete, manual, nil
}

// customDAG is a DAG whose timetable is written in Python; false for all others.
func (s *Scheduler) customDAG(ctx context.Context, dagID string) (store.DAGInfo, bool) {
	if s.cfg.Timetables == nil {
		return store.DAGInfo{}, false
	}
	info, err := s.store.DAG(ctx, dagID)
	return info, err == nil && !info.Removed && customOf(info.DAG.Schedule) != ""
}

// inferInterval asks a timetable in Python for the data interval of a run by hand, unless one was given.
func (s *Scheduler) inferInterval(ctx context.Context, r *TriggerRequest) error {
	if r.LogicalDate == nil || r.DataIntervalStart != nil || r.DataIntervalEnd != nil {
		return nil
	}
	info, ok := s.customDAG(ctx, r.DAGID)
	if !ok {
		return nil
	}
	_, _, manual, err := s.evaluate(ctx, info, protocol.Timetable{DAGID: r.DAGID, Manual: r.LogicalDate})
	if err != nil {
		return errors.Join(ErrInvalid, err)
	}
	r.DataIntervalStart, r.DataIntervalEnd = &manual.Start, &manual.End
	return nil
}

// customSlots asks a timetable in Python for all slots between two dates; nil for all others.
func (s *Scheduler) customSlots(ctx context.Context, dagID string, from, to time.Time) ([]timetable.Slot, error) {
	info, ok := s.customDAG(ctx, dagID)
	if !ok || from.After(to) {
		return nil, nil
	}
	slots, _, _, err := s.evaluate(ctx, info, protocol.Timetable{DAGID: dagID, Earliest: &from, Latest: &to, Catchup: true, Limit: maxBackfill + 1})
	if err != nil {
		return nil, errors.Join(ErrInvalid, err)
	}
	kept := []timetable.Slot{}
	for _, x := range slots {
		if !x.LogicalDate.Before(from) && !x.LogicalDate.After(to) {
			kept = append(kept, x)
		}
	}
	return kept, nil
}
