package plan

import (
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// This file tells the times of a run anew when the clock was set.

// clockSet moves every time of what is open by as much as the clock was set. What has ended keeps the times it was given, and
// so does what is meant by the calendar: logical dates, data intervals, a run_after that somebody named.
func (d *decider) clockSet(by time.Duration) {
	if d.row.State.IsFinished() {
		return
	}
	d.runClockSet(by)
	d.each(func(in *instance) {
		if !in.ti.State.IsFinished() {
			d.instanceClockSet(in, by)
		}
	})
}

func (d *decider) runClockSet(by time.Duration) {
	r := &d.row
	queued := by + d.ahead(r.QueuedAt.Add(by))
	started := moved(r.StartDate, by)
	started = moved(started, d.ahead(deref(started)))
	if queued == 0 && same(started, r.StartDate) {
		return
	}
	d.touchRow()
	if r.RunAfter.Equal(r.QueuedAt) { // it was to run at once
		r.RunAfter = r.RunAfter.Add(queued)
	}
	r.QueuedAt, r.StartDate = r.QueuedAt.Add(queued), started
}

func (d *decider) instanceClockSet(in *instance, by time.Duration) {
	ti := &in.ti
	old := [...]*time.Time{ti.ScheduledAt, ti.QueuedAt, ti.StartDate, ti.EndDate}
	var now [len(old)]*time.Time
	heal := time.Duration(0) // how far the last thing that happened lies ahead
	for i, t := range old {
		now[i] = moved(t, by)
		heal = min(heal, d.ahead(deref(now[i])))
	}
	changed := by != 0 && ti.NextAt != nil
	for i := range now {
		now[i] = moved(now[i], heal)
		changed = changed || !same(now[i], old[i])
	}
	if !changed {
		return
	}
	d.touch(in)
	ti.ScheduledAt, ti.QueuedAt, ti.StartDate, ti.EndDate = now[0], now[1], now[2], now[3]
	if ti.NextAt != nil {
		next := moved(ti.NextAt, by+heal)
		ti.NextAt = next
		if ti.State == run.UpForRetry || ti.State == run.UpForReschedule {
			d.timers.add(*next, in)
		}
	}
}

// ahead is how much a time of something that has happened must be moved not to lie ahead: zero or less. Clocks of several
// machines may differ by a little.
func (d *decider) ahead(t time.Time) time.Duration {
	if by := d.now.Sub(t); by < -time.Second {
		return by
	}
	return 0
}

func moved(t *time.Time, by time.Duration) *time.Time {
	if t == nil || by == 0 {
		return t
	}
	at := t.Add(by)
	return &at
}

func same(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// notBefore is at, or the start where that is later: nothing ends before it begins, whatever the clock says.
func notBefore(at time.Time, start *time.Time) time.Time {
	if start != nil && at.Before(*start) {
		return *start
	}
	return at
}
