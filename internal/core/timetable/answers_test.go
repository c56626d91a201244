package timetable

import (
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
)

func TestAnswersOfATimetableInPythonAreKeptUntilTheyAreStale(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC) }
	ptr := func(at time.Time) *time.Time { return &at }
	a := &Answers{Known: true, After: ptr(day(1))}
	for n := 2; n <= 4; n++ {
		a.Slots = append(a.Slots, intervalSlot(day(n), day(n+1)))
	}
	done := &Answers{Known: true, Complete: true, Slots: a.Slots, After: a.After}
	for _, c := range []struct {
		name    string
		answers *Answers
		after   *time.Time
		catchup bool
		now     time.Time
		stale   bool
		next    int // day of the next slot, 0 for none
	}{
		{"never asked", &Answers{}, nil, true, day(1), true, 0},
		{"the first kept slot", a, ptr(day(1)), false, day(2), false, 2},
		{"in the middle", a, ptr(day(3)), false, day(4), false, 4},
		{"used up", a, ptr(day(4)), true, day(4), true, 0},
		{"used up, and there are no more", done, ptr(day(4)), true, day(4), false, 0},
		{"from another date", a, ptr(day(9)), true, day(4), true, 0},
		{"before the first run", a, nil, true, day(4), true, 0},
		{"two slots are due, with catch-up", a, ptr(day(1)), true, day(5), false, 2},
		{"two slots are due, without catch-up", a, ptr(day(1)), false, day(5), true, 2},
		{"one slot is due, without catch-up", a, ptr(day(1)), false, day(3), false, 2},
	} {
		if got := c.answers.Stale(c.after, c.catchup, c.now); got != c.stale {
			t.Errorf("%s: stale is %t, want %t", c.name, got, c.stale)
		}
		var after *Slot
		if c.after != nil {
			after = &Slot{LogicalDate: *c.after}
		}
		got, ok := c.answers.Next(after, Limits{}, c.now)
		if ok != (c.next != 0) || (ok && !got.LogicalDate.Equal(day(c.next))) {
			t.Errorf("%s: next is %v, %t; want day %d", c.name, got.LogicalDate, ok, c.next)
		}
	}
	if got := a.SlotOf(day(3)).Interval.End; !got.Equal(day(4)) {
		t.Errorf("a kept slot ends %v", got)
	}
	if got := a.Manual(day(7)); !got.End.Equal(day(7)) {
		t.Errorf("the interval of a run by hand is %v", got)
	}
	tt, err := Parse(dag.Schedule{Kind: dag.ScheduleCustom, Custom: "my.Timetable", MaxActiveRuns: 2}, "", nil)
	if _, ok := tt.(*Answers); !ok || err != nil || tt.MaxActiveRuns() != 2 {
		t.Errorf("a custom timetable is %#v: %v", tt, err)
	}
	if _, ok := tt.Prev(Slot{}); ok {
		t.Error("a custom timetable knows the slot before another one")
	}
}
