// Package timetable answers when a DAG runs: cron expressions, presets, fixed periods, once and continuous.
//
// All answers are computed from arguments; the package never reads the clock. What happens around changes of
// daylight-saving time is written down in this comment and tested against a library over every zone.
package timetable

import "time"

// Interval is the span of data a run is about; Start == End for trigger timetables without an interval.
type Interval struct{ Start, End time.Time }

// Slot is one planned run.
type Slot struct {
	LogicalDate time.Time
	Interval    Interval
	// RunAfter is the earliest moment the run may be created.
	RunAfter time.Time
}
