package timetable

import (
	"time"

	"ostro.dev/ostro/internal/core/dag"
)

// Answers is a timetable of an author's own: its class is written in Python, and only the DAG's process can ask it. What it
// has answered is kept here, a few slots ahead, and read like any other timetable; Stale says when it must be asked again.
// The zero value knows nothing yet.
type Answers struct {
	// Slots follow After, oldest first.
	Slots []Slot
	// After is the logical date of the automatic run the first slot comes after; nil: it is the first of all.
	After *time.Time
	// Complete: the timetable has no slot after these.
	Complete bool
	// Known: the timetable has been asked.
	Known bool
	// Active is how many runs the timetable allows at once, 0 for any number.
	Active int
}

// Stale says whether the timetable must be asked before Next can be relied on: the answers are of another time, there are
// none left, or, without catch-up, a slot was missed, which the timetable may leave out when it is asked again.
func (a *Answers) Stale(after *time.Time, catchup bool, now time.Time) bool {
	if !a.Known {
		return true
	}
	rest, ok := a.rest(after)
	if !ok || (len(rest) == 0 && !a.Complete) {
		return true
	}
	return !catchup && len(rest) > 1 && !rest[1].RunAfter.After(now)
}

// rest are the slots after a logical date; false when the answers do not go on from it.
func (a *Answers) rest(after *time.Time) ([]Slot, bool) {
	if same(a.After, after) {
		return a.Slots, true
	}
	if after != nil {
		for i, s := range a.Slots {
			if s.LogicalDate.Equal(*after) {
				return a.Slots[i+1:], true
			}
		}
	}
	return nil, false
}

func same(a, b *time.Time) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Equal(*b))
}

// Next is the kept answer; the limits went to the timetable with the question.
func (a *Answers) Next(after *Slot, _ Limits, _ time.Time) (Slot, bool) {
	var at *time.Time
	if after != nil {
		at = &after.LogicalDate
	}
	rest, ok := a.rest(at)
	if !ok || len(rest) == 0 {
		return Slot{}, false
	}
	return rest[0], true
}

// Prev is not known of a timetable that only looks ahead.
func (a *Answers) Prev(Slot) (Slot, bool) { return Slot{}, false }

// SlotOf is the kept slot with that logical date, or one without an interval.
func (a *Answers) SlotOf(logicalDate time.Time) Slot {
	for _, s := range a.Slots {
		if s.LogicalDate.Equal(logicalDate) {
			return s
		}
	}
	return triggerSlot(logicalDate, 0)
}

// Manual is a moment: who triggers a run asks the timetable itself before.
func (a *Answers) Manual(at time.Time) Interval { return Interval{Start: at, End: at} }

// MaxActiveRuns is what the class says of itself.
func (a *Answers) MaxActiveRuns() int { return a.Active }

// custom is the timetable of an author's class that has not been asked yet.
func custom(s dag.Schedule) *Answers { return &Answers{Active: s.MaxActiveRuns} }
