package timetable

import "time"

// cronTrigger fires at each tick; the data interval is the time before it, often of length zero.
type cronTrigger struct {
	ticks    ticks
	interval time.Duration
	// runPast makes a DAG without a start date begin with the tick before now; buffer does so if that tick is no older.
	runPast bool
	buffer  time.Duration
}

func triggerSlot(tick time.Time, interval time.Duration) Slot {
	start := tick.Add(-interval)
	return Slot{LogicalDate: start, Interval: Interval{Start: start, End: tick}, RunAfter: tick}
}

func (c cronTrigger) SlotOf(logicalDate time.Time) Slot {
	return triggerSlot(logicalDate.Add(c.interval), c.interval)
}

func (c cronTrigger) Manual(at time.Time) Interval {
	return Interval{Start: at.Add(-c.interval), End: at}
}

func (c cronTrigger) MaxActiveRuns() int { return 0 }

func (c cronTrigger) Prev(before Slot) (Slot, bool) {
	tick, ok := c.ticks.prev(fill(c, before).Interval.End)
	if !ok {
		return Slot{}, false
	}
	return triggerSlot(tick, c.interval), true
}

func (c cronTrigger) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	var tick time.Time
	var ok bool
	switch {
	case after != nil:
		tick, ok = c.ticks.next(fill(c, *after).Interval.End)
	case limits.Start != nil:
		tick, ok = ceil(c.ticks, *limits.Start)
	default:
		tick, ok = c.first(now)
	}
	if !ok {
		return Slot{}, false
	}
	if !limits.Catchup {
		if after != nil && limits.Start != nil { // the start date was moved since
			if start, ok := ceil(c.ticks, *limits.Start); ok {
				tick = later(tick, start)
			}
		}
		if newest, ok := floor(c.ticks, now); ok {
			tick = later(tick, newest)
		}
	}
	if limits.End != nil && limits.End.Before(tick) {
		return Slot{}, false
	}
	return triggerSlot(tick, c.interval), true
}

// first is where a DAG without a start date begins: at the last tick if that is recent (a tenth of the time between two
// ticks, at least five minutes), else at the coming one.
func (c cronTrigger) first(now time.Time) (time.Time, bool) {
	past, hasPast := floor(c.ticks, now)
	coming, hasComing := ceil(c.ticks, now)
	if !hasPast || !hasComing {
		return coming, hasComing
	}
	buffer := c.buffer
	if buffer == 0 {
		buffer = max(coming.Sub(past)/10, firstBuffer)
	}
	if c.runPast || now.Sub(past) <= buffer {
		return past, true
	}
	return coming, true
}

// firstBuffer is how late a first slot may be found and still count.
const firstBuffer = 5 * time.Minute

// cronInterval fires at the end of the interval between two ticks, and is named after its beginning.
type cronInterval struct{ ticks ticks }

func intervalSlot(start, end time.Time) Slot {
	return Slot{LogicalDate: start, Interval: Interval{Start: start, End: end}, RunAfter: end}
}

func (c cronInterval) SlotOf(logicalDate time.Time) Slot {
	end, ok := c.ticks.next(logicalDate)
	if !ok {
		end = logicalDate
	}
	return intervalSlot(logicalDate, end)
}

// Manual is the last interval that was complete.
func (c cronInterval) Manual(at time.Time) Interval {
	end, ok := floor(c.ticks, at)
	if !ok {
		return Interval{Start: at, End: at}
	}
	start, ok := c.ticks.prev(end)
	if !ok {
		start = end
	}
	return Interval{Start: start, End: end}
}

func (c cronInterval) MaxActiveRuns() int { return 0 }

func (c cronInterval) Prev(before Slot) (Slot, bool) {
	start, ok := c.ticks.prev(before.LogicalDate)
	if !ok {
		return Slot{}, false
	}
	return c.SlotOf(start), true
}

func (c cronInterval) Next(after *Slot, limits Limits, now time.Time) (Slot, bool) {
	var start time.Time
	var known bool
	if limits.Start != nil {
		start, known = ceil(c.ticks, *limits.Start)
	}
	if !limits.Catchup {
		if end, ok := floor(c.ticks, now); ok { // the end of the newest complete interval
			if newest, ok := c.ticks.prev(end); ok {
				start, known = later(start, newest), true
			}
		}
	}
	if after != nil {
		// The end is aligned since the expression may have been changed in between.
		if end, ok := floor(c.ticks, fill(c, *after).Interval.End); ok {
			start, known = later(start, end), true
		}
	}
	if !known || (limits.End != nil && start.After(*limits.End)) {
		return Slot{}, false
	}
	end, ok := c.ticks.next(start)
	if !ok {
		return Slot{}, false
	}
	return intervalSlot(start, end), true
}

// fill works out the interval of a slot of which only the logical date is known.
func fill(t Timetable, s Slot) Slot {
	if s.Interval.End.IsZero() {
		return t.SlotOf(s.LogicalDate)
	}
	return s
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
