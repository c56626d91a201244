package timetable

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
)

// never has no automatic runs: schedule=None, and schedules of assets alone.
type never struct{}

func (never) Next(*Slot, Limits, time.Time) (Slot, bool) { return Slot{}, false }
func (never) Prev(Slot) (Slot, bool)                     { return Slot{}, false }
func (never) SlotOf(t time.Time) Slot                    { return triggerSlot(t, 0) }
func (never) Manual(at time.Time) Interval               { return Interval{Start: at, End: at} }
func (never) MaxActiveRuns() int                         { return 0 }

// once runs a single time, at the start date or as soon as possible.
type once struct{ never }

func (once) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	if after != nil {
		return Slot{}, false
	}
	if limits.Start != nil {
		now = *limits.Start
	}
	if limits.End != nil && now.After(*limits.End) {
		return Slot{}, false
	}
	return triggerSlot(now, 0), true
}

// continuous runs again as soon as the run before has ended; its data interval is the time since the last one.
type continuous struct{ never }

func (continuous) MaxActiveRuns() int { return 1 }

func (continuous) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	start, end := now, now
	switch {
	case after != nil && after.Interval.End.After(after.LogicalDate):
		start, end = after.Interval.End, later(after.Interval.End, now)
	case after != nil:
		// Nothing is known of the last interval but its beginning: this one begins now, so that no logical date comes twice.
		start = later(now, after.LogicalDate.Add(time.Microsecond))
		end = start
	}
	if limits.Start != nil && limits.Start.After(start) {
		start = *limits.Start
		end = later(start, now)
	} else if limits.Start != nil && after == nil {
		start = *limits.Start
	}
	if limits.End != nil && end.After(*limits.End) {
		return Slot{}, false
	}
	slot := intervalSlot(start, end)
	if after != nil && (limits.Start == nil || !limits.Start.After(now)) {
		slot.RunAfter = now // also where the clock was set back since the last run
	}
	return slot, true
}

// events runs at listed moments.
type events struct {
	dates    []time.Time // sorted, without duplicates
	restrict bool        // manual runs are about the newest event
}

func (events) SlotOf(t time.Time) Slot { return triggerSlot(t, 0) }

func (events) MaxActiveRuns() int { return 0 }

func (e events) Manual(at time.Time) Interval {
	if e.restrict {
		i, _ := slices.BinarySearchFunc(e.dates, at.Add(1), time.Time.Compare)
		at = e.dates[max(i-1, 0)]
	}
	return Interval{Start: at, End: at}
}

func (e events) Prev(before Slot) (Slot, bool) {
	i, _ := slices.BinarySearchFunc(e.dates, before.LogicalDate, time.Time.Compare)
	if i == 0 {
		return Slot{}, false
	}
	return triggerSlot(e.dates[i-1], 0), true
}

// Next without catch-up leaves out events that passed, but not the newest: it may have become due a moment ago. At the very
// beginning only a short time counts as a moment.
func (e events) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	i := 0
	if after != nil {
		i, _ = slices.BinarySearchFunc(e.dates, after.LogicalDate.Add(1), time.Time.Compare)
	}
	if limits.Start != nil {
		at, _ := slices.BinarySearchFunc(e.dates, *limits.Start, time.Time.Compare)
		i = max(i, at)
	}
	if !limits.Catchup {
		at, _ := slices.BinarySearchFunc(e.dates, now.Add(1), time.Time.Compare) // the first in the future
		if at > i && (after != nil || !e.dates[at-1].Before(now.Add(-firstBuffer))) {
			at--
		}
		i = max(i, at)
	}
	if i == len(e.dates) || (limits.End != nil && e.dates[i].After(*limits.End)) {
		return Slot{}, false
	}
	return triggerSlot(e.dates[i], 0), true
}

// A period is a timedelta or relativedelta: months on the calendar, in UTC, and real time.
type period struct {
	months int
	fixed  time.Duration
}

func parsePeriod(s dag.Schedule) (period, error) {
	if s.Delta != nil {
		if *s.Delta <= 0 {
			return period{}, fmt.Errorf("schedule field delta: %s is not longer than zero", s.Delta.Duration())
		}
		return period{fixed: s.Delta.Duration()}, nil
	}
	if len(s.RelativeDelta) == 0 {
		return period{}, fmt.Errorf("schedule field delta: no period")
	}
	units := map[string]time.Duration{"weeks": 7 * 24 * time.Hour, "days": 24 * time.Hour, "hours": time.Hour,
		"minutes": time.Minute, "seconds": time.Second, "microseconds": time.Microsecond}
	var p period
	for _, unit := range slices.Sorted(maps.Keys(s.RelativeDelta)) {
		n := s.RelativeDelta[unit]
		switch length, ok := units[unit]; {
		case unit == "years":
			p.months += 12 * n
		case unit == "months":
			p.months += n
		case ok:
			p.fixed += time.Duration(n) * length
		default:
			return period{}, fmt.Errorf("schedule field relativedelta: %s is not a period of time (years to microseconds are)", unit)
		}
	}
	if p.months < 0 || p.fixed < 0 || (p.months == 0 && p.fixed == 0) {
		return period{}, fmt.Errorf("schedule field relativedelta: the period is not longer than zero")
	}
	return p, nil
}

func (p period) after(t time.Time) time.Time  { return addMonths(t, p.months).Add(p.fixed) }
func (p period) before(t time.Time) time.Time { return addMonths(t, -p.months).Add(-p.fixed) }

// seconds is the rough length that rounding uses, with months of 30 days.
func (p period) length() time.Duration { return time.Duration(p.months)*30*24*time.Hour + p.fixed }

// addMonths keeps the day of the month where it can: a month after 31 January is the last day of February.
func addMonths(t time.Time, months int) time.Time {
	if months == 0 {
		return t
	}
	t = t.UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// newest is the last of anchor, anchor+p, anchor+2p, … that is not after t, or anchor itself.
func (p period) newest(anchor, t time.Time) time.Time {
	if p.months == 0 {
		if t.Before(anchor) {
			return anchor
		}
		return anchor.Add(t.Sub(anchor) / p.fixed * p.fixed)
	}
	for next := p.after(anchor); !next.After(t); next = p.after(anchor) {
		anchor = next
	}
	return anchor
}

// deltaTrigger runs every so often; the slots keep the rhythm of the start date, or else of the last run.
type deltaTrigger struct {
	period   period
	interval time.Duration
}

func (d deltaTrigger) SlotOf(logicalDate time.Time) Slot {
	return triggerSlot(logicalDate.Add(d.interval), d.interval)
}

func (d deltaTrigger) Manual(at time.Time) Interval {
	return Interval{Start: at.Add(-d.interval), End: at}
}

func (deltaTrigger) MaxActiveRuns() int { return 0 }

func (d deltaTrigger) Prev(before Slot) (Slot, bool) {
	return triggerSlot(d.period.before(fill(d, before).Interval.End), d.interval), true
}

func (d deltaTrigger) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	tick := now
	switch {
	case after != nil:
		tick = d.period.after(fill(d, *after).Interval.End)
	case limits.Start != nil:
		tick = *limits.Start
	}
	if after != nil && limits.Start != nil && tick.Before(*limits.Start) {
		tick = *limits.Start
	}
	if !limits.Catchup {
		tick = d.period.newest(tick, now)
	}
	if limits.End != nil && limits.End.Before(tick) {
		return Slot{}, false
	}
	return triggerSlot(tick, d.interval), true
}

// deltaInterval runs at the end of each stretch of time of a given length.
type deltaInterval struct{ period period }

func (d deltaInterval) SlotOf(logicalDate time.Time) Slot {
	return intervalSlot(logicalDate, d.period.after(logicalDate))
}

func (d deltaInterval) Manual(at time.Time) Interval {
	return Interval{Start: d.period.before(at), End: at}
}

func (deltaInterval) MaxActiveRuns() int { return 0 }

func (d deltaInterval) Prev(before Slot) (Slot, bool) {
	return d.SlotOf(d.period.before(before.LogicalDate)), true
}

func (d deltaInterval) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	var start time.Time
	known := limits.Start != nil
	if known {
		start = *limits.Start
	}
	if !limits.Catchup {
		rounded := now.UTC().Add(-time.Duration(now.UnixNano()) % d.period.length())
		start, known = later(start, d.period.before(rounded)), true
	}
	if after != nil {
		start, known = later(start, fill(d, *after).Interval.End), true
	}
	if !known || (limits.End != nil && start.After(*limits.End)) {
		return Slot{}, false
	}
	return intervalSlot(start, d.period.after(start)), true
}
