package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/store"
)

// maxBackfill is how many dates one backfill may have: they are created in one transaction.
const maxBackfill = 20_000

// BackfillRequest orders runs of a DAG for past dates.
type BackfillRequest struct {
	DAGID    string
	From, To time.Time // logical dates, both included
	Conf     json.RawMessage
	// Reprocess is "none" (also when empty), "failed" or "completed".
	Reprocess     string
	MaxActiveRuns int // 10 when zero
	Reverse       bool
	// KeepVersion lets runs that exist already go on with the version of their DAG they ran with.
	KeepVersion bool

	// slots are the dates of a timetable written in Python, asked before; nil for all others.
	slots []timetable.Slot
}

// backfillState is a backfill that is not complete.
type backfillState struct {
	store.Backfill
	live int // of its runs
}

// loadBackfills reads the open backfills. Live runs are counted when they are kept.
func (s *Scheduler) loadBackfills(ctx context.Context, st *state) error {
	open, newest, err := s.store.OpenBackfills(ctx)
	if err != nil {
		return fmt.Errorf("read backfills: %w", err)
	}
	st.backfills, st.newestBackfill = map[int64]*backfillState{}, newest
	for _, b := range open {
		st.backfills[b.ID] = &backfillState{Backfill: b}
	}
	return nil
}

// backfillDate is one date of a backfill with the run that is there already.
type backfillDate struct {
	slot timetable.Slot
	have *run.DAGRun
	// reason is why it gets no run.
	reason string
}

// CreateBackfill creates the runs of a backfill and returns it. ErrConflict while another one of the DAG is not complete.
func (s *Scheduler) CreateBackfill(ctx context.Context, actor string, r BackfillRequest) (store.Backfill, error) {
	var err error
	if r.slots, err = s.customSlots(ctx, r.DAGID, r.From, r.To); err != nil {
		return store.Backfill{}, err
	}
	var out store.Backfill
	err = s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		d, dates, err := s.planBackfill(b, &r)
		if err != nil {
			return err
		}
		for _, other := range s.st.backfills {
			if other.DAGID == r.DAGID {
				return fmt.Errorf("backfill %d of DAG %s is not complete; there can be one at a time: %w", other.ID, r.DAGID, ErrConflict)
			}
		}
		if len(dates) == 0 {
			return fmt.Errorf("DAG %s has no dates between %s and %s that are over: %w", r.DAGID, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), ErrInvalid)
		}
		row := &store.Backfill{ID: s.st.newestBackfill + 1, DAGID: r.DAGID, From: micro(r.From), To: micro(r.To), Conf: r.Conf,
			Reprocess: r.Reprocess, MaxActiveRuns: r.MaxActiveRuns, Reverse: r.Reverse, CreatedBy: actor}
		s.st.newestBackfill++
		s.st.backfills[row.ID] = &backfillState{Backfill: *row}
		rows := make([]store.BackfillRun, len(dates))
		for i, date := range dates {
			rows[i] = store.BackfillRun{Ordinal: i + 1, LogicalDate: date.slot.LogicalDate, Reason: date.reason}
			if rows[i].RunID, err = s.backfillRun(b, d, date, *row, !r.KeepVersion); err != nil {
				return b.spoil(err)
			}
		}
		b.late = append(b.late, func(tx *store.Tx) error { return tx.CreateBackfill(row, rows) })
		b.after = append(b.after, func() { out = *row })
		return nil
	}})
	return answered(&out, err)
}

// PlanBackfill lists the logical dates a backfill would run, in its order.
func (s *Scheduler) PlanBackfill(ctx context.Context, r BackfillRequest) ([]time.Time, error) {
	var err error
	if r.slots, err = s.customSlots(ctx, r.DAGID, r.From, r.To); err != nil {
		return nil, err
	}
	var out []time.Time
	err = s.call(ctx, message{actor: actorScheduler, read: true, fold: func(b *batch) error {
		_, dates, err := s.planBackfill(b, &r)
		if err != nil {
			return err
		}
		for _, d := range dates {
			if d.reason == "" {
				out = append(out, d.slot.LogicalDate)
			}
		}
		return nil
	}})
	return answered(&out, err)
}

// planBackfill checks a request, fills in what it leaves open and lists its dates.
func (s *Scheduler) planBackfill(b *batch, r *BackfillRequest) (*dagState, []backfillDate, error) {
	d, err := s.dagByID(r.DAGID)
	if err != nil {
		return nil, nil, err
	}
	if err := checkBackfill(d, r, b.now); err != nil {
		return nil, nil, err
	}
	slots := r.slots
	if slots == nil {
		slots = timetable.Slots(d.tt, r.From, r.To, maxBackfill+1)
	}
	slots = slices.DeleteFunc(slots, func(x timetable.Slot) bool { return !x.Interval.End.Before(b.now) })
	if len(slots) > maxBackfill {
		return nil, nil, fmt.Errorf("between %s and %s are more than %d dates; make the range smaller: %w", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), maxBackfill, ErrInvalid)
	}
	if r.Reverse {
		slices.Reverse(slots)
	}
	have, err := s.runsBetween(b.ctx, r.DAGID, slots)
	if err != nil {
		return nil, nil, err
	}
	out := make([]backfillDate, len(slots))
	for i, slot := range slots {
		out[i] = backfillDate{slot: slot}
		if there, ok := have[slot.LogicalDate.UnixMicro()]; ok {
			out[i].have = &there
			out[i].reason = leftAlone(there.State, r.Reprocess)
		}
	}
	return d, out, nil
}

// leftAlone is why a date that has a run gets no other; empty when its run is run again.
func leftAlone(state run.State, reprocess string) string {
	switch {
	case !ended(state):
		return store.BackfillInFlight
	case reprocess == "completed", reprocess == "failed" && state == run.RunFailed:
		return ""
	}
	return store.BackfillExists
}

// checkBackfill refuses what makes no sense, with Airflow's rules.
func checkBackfill(d *dagState, r *BackfillRequest, now time.Time) error {
	g := d.info.DAG
	if r.Reprocess == "" {
		r.Reprocess = "none"
	}
	if r.MaxActiveRuns == 0 {
		r.MaxActiveRuns = 10
	}
	conf, err := confObject(r.Conf)
	if err != nil {
		return err
	}
	r.Conf = conf
	switch {
	case len(g.AllowedRunTypes) > 0 && !slices.Contains(g.AllowedRunTypes, string(run.TypeBackfill)):
		return fmt.Errorf("DAG %s allows runs of type %s only: %w", g.ID, strings.Join(g.AllowedRunTypes, ", "), ErrInvalid)
	case d.tt == nil || !periodic(g.Schedule):
		return fmt.Errorf("DAG %s has no schedule with dates of its own (%s), so there is nothing to backfill: %w", g.ID, g.Schedule.Kind, ErrInvalid)
	case !slices.Contains([]string{"none", "failed", "completed"}, r.Reprocess):
		return fmt.Errorf("reprocess behaviour is none, failed or completed, not %q: %w", r.Reprocess, ErrInvalid)
	case r.MaxActiveRuns < 1:
		return fmt.Errorf("max_active_runs is at least 1, not %d: %w", r.MaxActiveRuns, ErrInvalid)
	case r.From.After(r.To):
		return fmt.Errorf("from_date (%s) must not be after to_date (%s): %w", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), ErrInvalid)
	case !r.From.Before(now):
		return fmt.Errorf("a backfill cannot be executed for future dates: %w", ErrInvalid)
	}
	if !slices.ContainsFunc(g.Tasks, func(t dag.Task) bool { return t.DependsOnPast }) {
		return nil
	}
	switch {
	case r.Reverse:
		return fmt.Errorf("a backfill cannot run in reverse when the DAG has tasks with depends_on_past: %w", ErrInvalid)
	case r.Reprocess == "none":
		return fmt.Errorf("the DAG has tasks with depends_on_past: set the reprocess behaviour to completed or failed: %w", ErrInvalid)
	}
	return nil
}

// periodic says whether a schedule has dates that can be listed.
func periodic(x dag.Schedule) bool {
	switch x.Kind {
	case dag.ScheduleNone, "", dag.ScheduleOnce, dag.ScheduleContinuous, dag.ScheduleAssets:
		return false
	case dag.ScheduleCustom:
		return !x.NotPeriodic
	case dag.ScheduleAssetOrTime:
		return x.Time != nil && periodic(*x.Time)
	}
	return true
}

// runsBetween lists, by logical date, the runs of a DAG in the span of slots. What is in memory is newer than the store.
func (s *Scheduler) runsBetween(ctx context.Context, dagID string, slots []timetable.Slot) (map[int64]run.DAGRun, error) {
	if len(slots) == 0 {
		return nil, nil
	}
	first, last := slots[0].LogicalDate, slots[len(slots)-1].LogicalDate
	if last.Before(first) {
		first, last = last, first
	}
	stored, _, err := s.store.Runs(ctx, store.RunFilter{DAGID: dagID, LogicalDateGTE: &first, LogicalDateLTE: &last})
	if err != nil {
		return nil, fmt.Errorf("read the runs of %s: %w", dagID, err)
	}
	out := make(map[int64]run.DAGRun, len(stored))
	for _, r := range stored {
		out[r.LogicalDate.UnixMicro()] = r
	}
	for k, lr := range s.st.runs {
		if r := lr.run.Row(); k.DAGID == dagID && r.LogicalDate != nil {
			out[r.LogicalDate.UnixMicro()] = r
		}
	}
	return out, nil
}

// backfillRun creates the run of one date, or runs the one that is there again, and returns its id; none for a date that
// is left alone.
func (s *Scheduler) backfillRun(b *batch, d *dagState, date backfillDate, bf store.Backfill, latest bool) (string, error) {
	if date.reason != "" {
		return "", nil
	}
	if date.have != nil {
		return date.have.RunID, s.reprocess(b, *date.have, bf, latest)
	}
	at, start, end := micro(date.slot.LogicalDate), micro(date.slot.Interval.Start), micro(date.slot.Interval.End)
	row := run.DAGRun{DAGID: bf.DAGID, RunID: timetable.RunID(string(run.TypeBackfill), date.slot.RunAfter), Type: run.TypeBackfill,
		LogicalDate: &at, DataIntervalStart: &start, DataIntervalEnd: &end, RunAfter: micro(date.slot.RunAfter), Conf: bf.Conf,
		TriggeredBy: bf.CreatedBy, BackfillID: bf.ID}
	if s.st.runs[runKey(row)] != nil {
		return "", fmt.Errorf("DAG run %s of %s exists already with another logical date: %w", row.RunID, row.DAGID, ErrConflict)
	}
	return row.RunID, s.enterRun(b, row)
}

// reprocess makes a finished run one of a backfill and clears it.
func (s *Scheduler) reprocess(b *batch, r run.DAGRun, bf store.Backfill, latest bool) error {
	lr, err := s.find(b.ctx, runKey(r))
	if err != nil {
		return err
	}
	if latest || (s.cfg.HasBundle != nil && !s.cfg.HasBundle(r.BundleVersion)) {
		var move func(*store.Tx) error
		if lr, move, err = s.onLatest(b.ctx, lr); err != nil {
			return err
		}
		if move != nil {
			b.writes = append(b.writes, move)
		}
	}
	before := lr.run.Row()
	after := before
	after.Type, after.BackfillID, after.TriggeredBy, after.Version = run.TypeBackfill, bf.ID, bf.CreatedBy, before.Version+1
	if string(bf.Conf) != "{}" {
		after.Conf = bf.Conf
	}
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.ChangeRun(plan.RunChange{Before: before, After: after}) })
	opt, err := s.options(b.ctx, s.st, lr.run.Index(), after, true)
	if err != nil {
		return err
	}
	again := &liveRun{key: lr.key, info: lr.info, run: plan.NewRun(lr.run.Index(), after, lr.run.Instances(), opt)}
	s.enter(again)
	var keys []run.Key
	for _, ti := range again.run.Instances() {
		keys = append(keys, ti.Key)
	}
	b.decide(again, plan.Cleared{Keys: keys, Reason: fmt.Sprintf("cleared by backfill %d", bf.ID)})
	return nil
}

// openBackfill finds a backfill that can still be changed.
func (s *Scheduler) openBackfill(b *batch, id int64) (*backfillState, error) {
	if x := s.st.backfills[id]; x != nil {
		return x, nil
	}
	if _, err := s.store.Backfill(b.ctx, id); err != nil {
		return nil, notFound(err)
	}
	return nil, fmt.Errorf("backfill %d is already completed: %w", id, ErrConflict)
}

// PauseBackfill pauses or unpauses a backfill: its queued runs wait, those that run go on.
func (s *Scheduler) PauseBackfill(ctx context.Context, actor string, id int64, paused bool) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		x, err := s.openBackfill(b, id)
		if err != nil || x.Paused == paused {
			return err
		}
		row := x.Backfill
		x.Paused, s.st.runsDirty = paused, true
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.PauseBackfill(row, paused) })
		return nil
	}})
}

// CancelBackfill ends a backfill: its queued runs fail, those that run go on, as in Airflow.
func (s *Scheduler) CancelBackfill(ctx context.Context, actor string, id int64) error {
	return s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		x, err := s.openBackfill(b, id)
		if err != nil {
			return err
		}
		row, was := x.Backfill, x.Paused
		for _, lr := range s.st.queued {
			if lr.run.Row().BackfillID == id {
				b.decide(lr, plan.RunMarked{State: run.RunFailed, Reason: fmt.Sprintf("backfill %d was cancelled by %s", id, actor)})
			}
		}
		delete(s.st.backfills, id)
		b.writes = append(b.writes, func(tx *store.Tx) error {
			if !was {
				if err := tx.PauseBackfill(row, true); err != nil {
					return err
				}
			}
			return tx.CompleteBackfill(row, "backfill.cancelled")
		})
		return nil
	}})
}

// completeBackfills ends the backfills whose last run has ended, in the same commit.
func (s *Scheduler) completeBackfills(b *batch) {
	for _, id := range slices.Sorted(maps.Keys(s.st.backfills)) {
		x := s.st.backfills[id]
		if x.live > 0 {
			continue
		}
		row := x.Backfill
		delete(s.st.backfills, id)
		b.late = append(b.late, func(tx *store.Tx) error { return tx.CompleteBackfill(row, "backfill.completed") })
	}
}
