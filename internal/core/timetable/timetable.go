// Package timetable answers when a DAG runs: cron expressions, presets, fixed periods, lists of events, once and
// continuous, with data intervals, catch-up and time zones as Airflow has them.
//
// All answers are computed from arguments; the package never reads the clock and never loads a time zone by itself. It
// must not know about runs, stores or what a slot is used for.
//
// # Daylight-saving time
//
// A cron expression speaks of wall-clock time in its zone. Twice a year that is not one to one with real time, and this
// is what happens then. These are Airflow's rules made exact; around a change Airflow itself can be an hour off for an
// expression of every hour on some days only, since it adds wall-clock differences to real time:
//
//   - An expression that covers every hour ("*/5 * * * *", "30 * * * *") follows real time: it fires whenever a clock on
//     the wall shows a matching time. Nothing fires in the hour that is left out in spring; both passes of the hour that
//     is repeated in autumn fire.
//   - Every other expression fires once for each matching wall-clock time. A time that is left out in spring is moved
//     forward by the length of the gap (02:30 fires when the wall shows 03:30); if that moment matches as well it still
//     fires once. A time that comes twice in autumn fires at its second pass.
//
// Periods given as a time delta are real time and know nothing of zones; months and years are counted in UTC.
package timetable

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/dag"
)

// Interval is the span of data a run is about; Start == End for trigger timetables without an interval.
type Interval struct{ Start, End time.Time }

// Slot is one planned run.
type Slot struct {
	LogicalDate time.Time
	Interval    Interval
	// RunAfter is the earliest moment the run may be created.
	RunAfter time.Time
}

// Limits are the DAG's bounds on its timetable.
type Limits struct {
	// Start and End are the DAG's start_date and end_date, nil when it has none.
	Start, End *time.Time
	// Catchup asks for every slot since Start, not only for the newest.
	Catchup bool
}

// Timetable plans the automatic runs of one DAG. Implementations are immutable and safe for concurrent use.
type Timetable interface {
	// Next is the slot after the newest automatic one, or the first if after is nil, and false if there is none. A slot
	// whose RunAfter is not later than now is due. The answer for the same after never moves into the past as now
	// advances; without catch-up it moves forward so that only the newest slot that is due is left.
	//
	// Of after only LogicalDate is needed: a zero Interval is worked out from it.
	Next(after *Slot, limits Limits, now time.Time) (Slot, bool)
	// Prev is the slot before another one, whatever the limits, and false if there is none.
	Prev(before Slot) (Slot, bool)
	// SlotOf is the slot that has a logical date.
	SlotOf(logicalDate time.Time) Slot
	// Manual is the data interval of a run that a person triggers for a moment.
	Manual(at time.Time) Interval
	// MaxActiveRuns is how many runs the timetable allows at once, 0 for any number.
	MaxActiveRuns() int
}

// Zones finds a time zone by its IANA name. time.LoadLocation is one; this package does not call it by itself since it
// may read files.
type Zones func(name string) (*time.Location, error)

// Parse makes the timetable of a schedule. defaultZone is the DAG's time zone, "" for UTC. Errors name the field of the
// schedule and, for cron expressions, the field and column (a *SyntaxError).
func Parse(s dag.Schedule, defaultZone string, zones Zones) (Timetable, error) {
	switch s.Kind {
	case dag.ScheduleNone, "", dag.ScheduleAssets:
		return never{}, nil
	case dag.ScheduleOnce:
		return once{}, nil
	case dag.ScheduleContinuous:
		return continuous{}, nil
	case dag.ScheduleCronTrigger, dag.ScheduleCronInterval:
		return parseCronSchedule(s, defaultZone, zones)
	case dag.ScheduleDeltaTrigger, dag.ScheduleDeltaInterval:
		period, err := parsePeriod(s)
		if err != nil {
			return nil, err
		}
		if s.Kind == dag.ScheduleDeltaInterval {
			return deltaInterval{period: period}, nil
		}
		interval, err := parseInterval(s)
		return deltaTrigger{period: period, interval: interval}, err
	case dag.ScheduleEvents:
		if len(s.Events) == 0 {
			return nil, fmt.Errorf("schedule field events: no event dates")
		}
		dates := slices.Clone(s.Events)
		slices.SortFunc(dates, time.Time.Compare)
		return events{dates: slices.CompactFunc(dates, time.Time.Equal), restrict: s.RestrictEvents}, nil
	case dag.ScheduleAssetOrTime:
		if s.Time == nil {
			return nil, fmt.Errorf("schedule field time: missing beside the assets")
		}
		if s.Time.Kind == dag.ScheduleAssetOrTime {
			return nil, fmt.Errorf("schedule field time: a second schedule of assets or time inside the first")
		}
		t, err := Parse(*s.Time, defaultZone, zones)
		if err != nil {
			return nil, fmt.Errorf("schedule field time: %w", err)
		}
		return t, nil
	case dag.ScheduleCustom:
		if strings.HasPrefix(s.Custom, "airflow.sdk.") { // none of these can be asked: see python/ostro/partitions.py
			return nil, fmt.Errorf("schedule field custom: timetable class %s is not one that Ostro can compute: "+
				"it makes runs for partitions of assets, which are not built; use a cron expression, a timedelta, EventsTimetable or a timetable class of your own", s.Custom)
		}
		return custom(s), nil
	default:
		return nil, fmt.Errorf("schedule field kind: unknown kind %q", s.Kind)
	}
}

func parseCronSchedule(s dag.Schedule, defaultZone string, zones Zones) (Timetable, error) {
	zone, err := findZone(s.Timezone, defaultZone, zones)
	if err != nil {
		return nil, err
	}
	if len(s.Cron) == 0 {
		return nil, fmt.Errorf("schedule field cron: no expression")
	}
	var all union
	for _, expression := range s.Cron {
		cron, err := ParseCron(expression)
		if err != nil {
			return nil, fmt.Errorf("schedule field cron: %w", err)
		}
		all = append(all, cronTicks{cron: cron, zone: zone})
	}
	var source ticks = all
	if len(all) == 1 {
		source = all[0]
	}
	if s.Kind == dag.ScheduleCronInterval {
		return cronInterval{ticks: source}, nil
	}
	interval, err := parseInterval(s)
	if err != nil {
		return nil, err
	}
	always, buffer, err := parseRunImmediately(s.RunImmediately)
	if err != nil {
		return nil, err
	}
	return cronTrigger{ticks: source, interval: interval, runPast: always, buffer: buffer}, nil
}

func parseInterval(s dag.Schedule) (time.Duration, error) {
	if s.Interval == nil {
		return 0, nil
	}
	if *s.Interval < 0 {
		return 0, fmt.Errorf("schedule field interval: %s is negative", s.Interval.Duration())
	}
	return s.Interval.Duration(), nil
}

// parseRunImmediately reads CronTriggerTimetable's run_immediately: true, or a number of seconds. Airflow treats false
// like absent: a tick that is only just past still counts.
func parseRunImmediately(raw json.RawMessage) (always bool, buffer time.Duration, err error) {
	if len(raw) == 0 {
		return false, 0, nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return false, 0, fmt.Errorf("schedule field run_immediately: %w", err)
	}
	switch v := value.(type) {
	case nil:
		return false, 0, nil
	case bool:
		return v, 0, nil
	case float64:
		return false, time.Duration(v * float64(time.Second)), nil
	}
	return false, 0, fmt.Errorf("schedule field run_immediately: %s is neither true, false nor a number of seconds", raw)
}

// findZone resolves the schedule's zone, or the DAG's. Fixed offsets such as +02:00 need no database.
func findZone(name, fallback string, zones Zones) (*time.Location, error) {
	if name == "" {
		name = fallback
	}
	if name == "" || name == "UTC" || name == "Etc/UTC" {
		return time.UTC, nil
	}
	if t, err := time.Parse("-07:00", name); err == nil {
		_, offset := t.Zone()
		return time.FixedZone(name, offset), nil
	}
	if name == "Local" || zones == nil {
		return nil, fmt.Errorf("schedule field timezone: %q is not a time zone", name)
	}
	zone, err := zones(name)
	if err != nil {
		return nil, fmt.Errorf("schedule field timezone: %q is not a time zone: %w", name, err)
	}
	return zone, nil
}

// Slots lists the slots whose logical dates lie in [from, to], oldest first, at most limit of them; a backfill is made
// of these.
func Slots(t Timetable, from, to time.Time, limit int) []Slot {
	var out []Slot
	var last *Slot
	for len(out) < limit {
		slot, ok := t.Next(last, Limits{Start: &from, End: &to, Catchup: true}, to)
		if !ok || slot.LogicalDate.After(to) || (last != nil && !slot.LogicalDate.After(last.LogicalDate)) {
			break
		}
		if !slot.LogicalDate.Before(from) {
			out = append(out, slot)
		}
		last = &slot
	}
	return out
}

// RunID is the id of an automatic or manual run as Airflow 3 makes it: "scheduled__2024-01-01T00:00:00+00:00". The date is
// the run's RunAfter.
func RunID(runType string, runAfter time.Time) string {
	layout := "2006-01-02T15:04:05-07:00"
	if runAfter.Nanosecond()/1000 != 0 {
		layout = "2006-01-02T15:04:05.000000-07:00"
	}
	return runType + "__" + runAfter.UTC().Format(layout)
}
