package timetable

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/core/dag"
)

func seconds(d time.Duration) *dag.Seconds { s := dag.Seconds(d); return &s }

func at(s string) *time.Time { t := moment(s); return &t }

func timetableOf(t *testing.T, s dag.Schedule) Timetable {
	t.Helper()
	tt, err := Parse(s, "", time.LoadLocation)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return tt
}

var (
	daily         = dag.Schedule{Kind: dag.ScheduleCronTrigger, Cron: []string{"@daily"}}
	dailyInterval = dag.Schedule{Kind: dag.ScheduleCronInterval, Cron: []string{"@daily"}}
	hours6        = dag.Schedule{Kind: dag.ScheduleDeltaTrigger, Delta: seconds(6 * time.Hour)}
	hours6Of      = dag.Schedule{Kind: dag.ScheduleDeltaInterval, Delta: seconds(6 * time.Hour)}
	month         = dag.Schedule{Kind: dag.ScheduleDeltaInterval, RelativeDelta: map[string]int{"months": 1}}
	listed        = dag.Schedule{Kind: dag.ScheduleEvents, Events: []time.Time{moment("2024-03-01 00:00"), moment("2024-01-01 00:00"), moment("2024-02-01 00:00")}}
)

func TestNextSlot(t *testing.T) {
	withInterval := daily
	withInterval.Interval = seconds(24 * time.Hour)
	always := daily
	always.RunImmediately = json.RawMessage("true")
	twoHours := daily
	twoHours.RunImmediately = json.RawMessage("7200")
	two := dag.Schedule{Kind: dag.ScheduleCronTrigger, Cron: []string{"0 6 * * *", "0 18 * * *"}}
	for _, tc := range []struct {
		name       string
		schedule   dag.Schedule
		last       string // logical date
		start, end *time.Time
		catchup    bool
		now        string
		want       string // start → end of the interval @ run after; "" for none
	}{
		{name: "a cron trigger with catch-up begins at the first tick from the start date", schedule: daily, start: at("2024-01-01 12:00"), catchup: true, now: "2024-06-01 00:00", want: "2024-01-02 → 2024-01-02"},
		{name: "a start date on a tick counts", schedule: daily, start: at("2024-01-01 00:00"), catchup: true, now: "2024-06-01 00:00", want: "2024-01-01 → 2024-01-01"},
		{name: "a cron trigger with catch-up goes on tick by tick", schedule: daily, last: "2024-01-02 00:00", start: at("2024-01-01 12:00"), catchup: true, now: "2024-06-01 00:00", want: "2024-01-03 → 2024-01-03"},
		{name: "without catch-up only the newest tick is left", schedule: daily, start: at("2024-01-01 12:00"), now: "2024-06-01 10:00", want: "2024-06-01 → 2024-06-01"},
		{name: "without catch-up the next tick comes after the newest run", schedule: daily, last: "2024-06-01 00:00", start: at("2024-01-01 12:00"), now: "2024-06-01 10:00", want: "2024-06-02 → 2024-06-02"},
		{name: "without catch-up a pause is not made up for", schedule: daily, last: "2024-06-01 00:00", now: "2024-06-09 10:00", want: "2024-06-09 → 2024-06-09"},
		{name: "a start date in the future is waited for", schedule: daily, start: at("2025-01-01 12:00"), now: "2024-06-09 10:00", want: "2025-01-02 → 2025-01-02"},
		{name: "an end date ends it", schedule: daily, last: "2024-01-31 00:00", end: at("2024-01-31 12:00"), catchup: true, now: "2024-06-09 10:00", want: ""},
		{name: "an end date on the tick still runs", schedule: daily, last: "2024-01-30 00:00", end: at("2024-01-31 00:00"), catchup: true, now: "2024-06-09 10:00", want: "2024-01-31 → 2024-01-31"},
		{name: "without a start date the coming tick is the first", schedule: daily, now: "2024-06-09 10:00", want: "2024-06-10 → 2024-06-10"},
		{name: "without a start date a tick just past counts", schedule: daily, now: "2024-06-09 02:00", want: "2024-06-09 → 2024-06-09"},
		{name: "run_immediately takes the past tick", schedule: always, now: "2024-06-09 23:00", want: "2024-06-09 → 2024-06-09"},
		{name: "run_immediately with a time takes a past tick that is newer", schedule: twoHours, now: "2024-06-09 01:59", want: "2024-06-09 → 2024-06-09"},
		{name: "run_immediately with a time leaves a past tick that is older", schedule: twoHours, now: "2024-06-09 02:01", want: "2024-06-10 → 2024-06-10"},
		{name: "a trigger with an interval is named after its beginning", schedule: withInterval, last: "2024-06-01 00:00", catchup: true, now: "2024-06-09 10:00", want: "2024-06-02 → 2024-06-03"},
		{name: "several expressions tick together", schedule: two, last: "2024-06-01 06:00", catchup: true, now: "2024-06-09 10:00", want: "2024-06-01 18:00 → 2024-06-01 18:00"},

		{name: "an interval runs at its end", schedule: dailyInterval, start: at("2024-01-01 00:00"), catchup: true, now: "2024-06-01 00:00", want: "2024-01-01 → 2024-01-02"},
		{name: "an interval begins where the last ended", schedule: dailyInterval, last: "2024-01-01 00:00", start: at("2024-01-01 00:00"), catchup: true, now: "2024-06-01 00:00", want: "2024-01-02 → 2024-01-03"},
		{name: "an interval without catch-up is the newest complete one", schedule: dailyInterval, start: at("2024-01-01 00:00"), now: "2024-06-09 10:00", want: "2024-06-08 → 2024-06-09"},
		{name: "an interval that ends now is complete", schedule: dailyInterval, start: at("2024-01-01 00:00"), now: "2024-06-09 00:00", want: "2024-06-08 → 2024-06-09"},
		{name: "an interval without catch-up goes on after the last", schedule: dailyInterval, last: "2024-06-08 00:00", now: "2024-06-09 10:00", want: "2024-06-09 → 2024-06-10"},
		{name: "an interval with catch-up needs a start date", schedule: dailyInterval, catchup: true, now: "2024-06-09 10:00", want: ""},
		{name: "an interval that begins after the end date does not run", schedule: dailyInterval, last: "2024-06-08 00:00", end: at("2024-06-08 12:00"), catchup: true, now: "2024-07-09 10:00", want: ""},

		{name: "a delta keeps the rhythm of the start date", schedule: hours6, start: at("2024-01-01 01:00"), now: "2024-01-03 10:00", want: "2024-01-03 07:00 → 2024-01-03 07:00"},
		{name: "a delta with catch-up begins at the start date", schedule: hours6, start: at("2024-01-01 01:00"), catchup: true, now: "2024-01-03 10:00", want: "2024-01-01 01:00 → 2024-01-01 01:00"},
		{name: "a delta goes on after the last run", schedule: hours6, last: "2024-01-03 07:00", now: "2024-01-03 10:00", want: "2024-01-03 13:00 → 2024-01-03 13:00"},
		{name: "a delta without a start date runs now", schedule: hours6, now: "2024-01-03 10:00", want: "2024-01-03 10:00 → 2024-01-03 10:00"},
		{name: "a delta interval runs at its end", schedule: hours6Of, start: at("2024-01-01 01:00"), catchup: true, now: "2024-01-03 10:00", want: "2024-01-01 01:00 → 2024-01-01 07:00"},
		{name: "a delta interval without catch-up is the newest complete one", schedule: hours6Of, start: at("2024-01-01 00:00"), now: "2024-01-03 10:00", want: "2024-01-03 → 2024-01-03 06:00"},
		{name: "a month after the end of January is the end of February", schedule: month, last: "2023-12-31 00:00", catchup: true, now: "2024-05-03 10:00", want: "2024-01-31 → 2024-02-29"},

		{name: "events come in order", schedule: listed, catchup: true, now: "2024-05-03 10:00", want: "2024-01-01 → 2024-01-01"},
		{name: "events go on", schedule: listed, last: "2024-01-01 00:00", catchup: true, now: "2024-05-03 10:00", want: "2024-02-01 → 2024-02-01"},
		{name: "events end", schedule: listed, last: "2024-03-01 00:00", catchup: true, now: "2024-05-03 10:00", want: ""},
		{name: "events without catch-up leave out what passed", schedule: listed, now: "2024-01-15 10:00", want: "2024-02-01 → 2024-02-01"},
		{name: "an event a moment ago is not missed", schedule: listed, now: "2024-02-01 00:01", want: "2024-02-01 → 2024-02-01"},
		{name: "events without catch-up leave one after a pause", schedule: listed, last: "2024-01-01 00:00", now: "2024-05-15 10:00", want: "2024-03-01 → 2024-03-01"},

		{name: "once runs at the start date", schedule: dag.Schedule{Kind: dag.ScheduleOnce}, start: at("2024-01-01 00:00"), now: "2024-05-03 10:00", want: "2024-01-01 → 2024-01-01"},
		{name: "once without a start date runs now", schedule: dag.Schedule{Kind: dag.ScheduleOnce}, now: "2024-05-03 10:00", want: "2024-05-03 10:00 → 2024-05-03 10:00"},
		{name: "once is over afterwards", schedule: dag.Schedule{Kind: dag.ScheduleOnce}, last: "2024-01-01 00:00", now: "2024-05-03 10:00", want: ""},
		{name: "continuous begins at the start date", schedule: dag.Schedule{Kind: dag.ScheduleContinuous}, start: at("2024-01-01 00:00"), now: "2024-05-03 10:00", want: "2024-01-01 → 2024-05-03 10:00"},
		{name: "continuous runs again at once", schedule: dag.Schedule{Kind: dag.ScheduleContinuous}, last: "2024-05-03 09:00", start: at("2024-01-01 00:00"), now: "2024-05-03 10:00", want: "2024-05-03 10:00 → 2024-05-03 10:00"},
		{name: "no schedule, no slot", schedule: dag.Schedule{Kind: dag.ScheduleNone}, start: at("2024-01-01 00:00"), now: "2024-05-03 10:00", want: ""},
		{name: "assets bring no slot of time", schedule: dag.Schedule{Kind: dag.ScheduleAssets}, start: at("2024-01-01 00:00"), now: "2024-05-03 10:00", want: ""},
		{name: "assets or time have the time's slots", schedule: dag.Schedule{Kind: dag.ScheduleAssetOrTime, Time: &daily}, now: "2024-05-03 23:00", want: "2024-05-04 → 2024-05-04"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tt := timetableOf(t, tc.schedule)
			var last *Slot
			if tc.last != "" {
				last = &Slot{LogicalDate: moment(tc.last)}
			}
			slot, ok := tt.Next(last, Limits{Start: tc.start, End: tc.end, Catchup: tc.catchup}, moment(tc.now))
			got := ""
			if ok {
				got = show(slot.Interval)
				if !slot.LogicalDate.Equal(slot.Interval.Start) || !slot.RunAfter.Equal(slot.Interval.End) {
					t.Errorf("logical date %s, run after %s of %s", slot.LogicalDate, slot.RunAfter, got)
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func show(i Interval) string {
	f := func(t time.Time) string { return strings.TrimSuffix(t.Format("2006-01-02 15:04"), " 00:00") }
	return f(i.Start) + " → " + f(i.End)
}

func TestManualRunsGetTheIntervalTheTimetableHasForThem(t *testing.T) {
	restricted := listed
	restricted.RestrictEvents = true
	for name, tc := range map[string]struct {
		schedule dag.Schedule
		want     string
	}{
		"cron trigger":       {daily, "2024-02-10 15:00 → 2024-02-10 15:00"},
		"cron interval":      {dailyInterval, "2024-02-09 → 2024-02-10"},
		"delta trigger":      {hours6, "2024-02-10 15:00 → 2024-02-10 15:00"},
		"delta interval":     {hours6Of, "2024-02-10 09:00 → 2024-02-10 15:00"},
		"relative delta":     {month, "2024-01-10 15:00 → 2024-02-10 15:00"},
		"events":             {listed, "2024-02-10 15:00 → 2024-02-10 15:00"},
		"events, restricted": {restricted, "2024-02-01 → 2024-02-01"},
		"none":               {dag.Schedule{Kind: dag.ScheduleNone}, "2024-02-10 15:00 → 2024-02-10 15:00"},
	} {
		if got := show(timetableOf(t, tc.schedule).Manual(moment("2024-02-10 15:00"))); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestPrevUndoesNext(t *testing.T) {
	for _, s := range []dag.Schedule{daily, dailyInterval, hours6, hours6Of, listed} {
		tt := timetableOf(t, s)
		start := moment("2024-01-01 00:00")
		first, _ := tt.Next(nil, Limits{Start: &start, Catchup: true}, start)
		second, _ := tt.Next(&first, Limits{Start: &start, Catchup: true}, start)
		if got, ok := tt.Prev(second); !ok || cmp.Diff(first, got) != "" {
			t.Errorf("%s: before %+v comes %+v, want %+v", s.Kind, second, got, first)
		}
		if got := tt.SlotOf(second.LogicalDate); cmp.Diff(second, got) != "" {
			t.Errorf("%s: slot of %s is %+v, want %+v", s.Kind, second.LogicalDate, got, second)
		}
	}
	if _, ok := timetableOf(t, listed).Prev(Slot{LogicalDate: moment("2024-01-01 00:00")}); ok {
		t.Error("there is an event before the first")
	}
}

func TestOnlyContinuousLimitsItsRuns(t *testing.T) {
	if n := timetableOf(t, dag.Schedule{Kind: dag.ScheduleContinuous}).MaxActiveRuns(); n != 1 {
		t.Errorf("continuous allows %d runs", n)
	}
	if n := timetableOf(t, daily).MaxActiveRuns(); n != 0 {
		t.Errorf("daily allows %d runs", n)
	}
}

func TestAContinuousScheduleGoesOnWhenTheClockWasSetBack(t *testing.T) {
	last := Slot{LogicalDate: time.Date(2024, 5, 3, 10, 0, 0, 0, time.UTC)}
	now := last.LogicalDate.Add(-3 * time.Hour)
	got, ok := timetableOf(t, dag.Schedule{Kind: dag.ScheduleContinuous}).Next(&last, Limits{}, now)
	if !ok || !got.RunAfter.Equal(now) || !got.LogicalDate.After(last.LogicalDate) {
		t.Errorf("the next run: %+v, want one now with a later logical date", got)
	}
}

func TestSlotsOfABackfill(t *testing.T) {
	from, to := moment("2024-02-27 12:00"), moment("2024-03-01 00:00")
	var got []string
	for _, s := range Slots(timetableOf(t, daily), from, to, 100) {
		got = append(got, RunID("backfill", s.RunAfter))
	}
	want := []string{"backfill__2024-02-28T00:00:00+00:00", "backfill__2024-02-29T00:00:00+00:00", "backfill__2024-03-01T00:00:00+00:00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if n := len(Slots(timetableOf(t, daily), from, to, 2)); n != 2 {
		t.Errorf("%d slots although 2 were asked for", n)
	}
}

func TestScheduleErrorsNameTheField(t *testing.T) {
	for want, s := range map[string]dag.Schedule{
		`schedule field cron: cron expression "0 25 * * *", field hour, column 3: 25 is not in 0-23`: {Kind: dag.ScheduleCronTrigger, Cron: []string{"0 25 * * *"}},
		"schedule field cron: no expression":                         {Kind: dag.ScheduleCronInterval},
		`schedule field timezone: "Mars/Base" is not a time zone`:    {Kind: dag.ScheduleCronTrigger, Cron: []string{"@daily"}, Timezone: "Mars/Base"},
		"schedule field delta: no period":                            {Kind: dag.ScheduleDeltaTrigger},
		"schedule field delta: -1s is not longer than zero":          {Kind: dag.ScheduleDeltaTrigger, Delta: seconds(-time.Second)},
		"schedule field relativedelta: hour is not a period of time": {Kind: dag.ScheduleDeltaInterval, RelativeDelta: map[string]int{"hour": 1}},
		"schedule field relativedelta: the period is not longer":     {Kind: dag.ScheduleDeltaInterval, RelativeDelta: map[string]int{"days": 0}},
		"schedule field interval: -1s is negative":                   {Kind: dag.ScheduleCronTrigger, Cron: []string{"@daily"}, Interval: seconds(-time.Second)},
		"schedule field run_immediately: \"x\" is neither":           {Kind: dag.ScheduleCronTrigger, Cron: []string{"@daily"}, RunImmediately: json.RawMessage(`"x"`)},
		"schedule field events: no event dates":                      {Kind: dag.ScheduleEvents},
		"schedule field time: missing beside the assets":             {Kind: dag.ScheduleAssetOrTime},
		"schedule field time: schedule field cron: no expression":    {Kind: dag.ScheduleAssetOrTime, Time: &dag.Schedule{Kind: dag.ScheduleCronTrigger}},
		"schedule field custom: timetable class airflow.sdk.CronPartitionTimetable is not one that Ostro can compute: it makes runs for partitions": {Kind: dag.ScheduleCustom, Custom: "airflow.sdk.CronPartitionTimetable"},
		`schedule field kind: unknown kind "sometimes"`: {Kind: "sometimes"},
	} {
		if _, err := Parse(s, "", time.LoadLocation); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestTheSchedulesZoneComesBeforeTheDAGs(t *testing.T) {
	for _, tc := range []struct{ zone, fallback, want string }{
		{"", "", "2024-06-02 00:00"}, {"", "Europe/Berlin", "2024-06-01 22:00"},
		{"Asia/Kolkata", "Europe/Berlin", "2024-06-01 18:30"}, {"+02:00", "", "2024-06-01 22:00"},
	} {
		s := daily
		s.Timezone = tc.zone
		tt, err := Parse(s, tc.fallback, time.LoadLocation)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := tt.Next(nil, Limits{Start: at("2024-06-01 00:00"), Catchup: true}, moment("2024-06-01 12:00"))
		if tc.want == "2024-06-02 00:00" { // the start date itself is a tick in UTC
			got, _ = tt.Next(&got, Limits{Catchup: true}, moment("2024-06-01 12:00"))
		}
		if !got.RunAfter.Equal(moment(tc.want)) {
			t.Errorf("zone %q, the DAG's %q: %s, want %s", tc.zone, tc.fallback, got.RunAfter, tc.want)
		}
	}
}

func TestRunIDsLookLikeAirflows(t *testing.T) {
	berlin := time.FixedZone("", 7200)
	for want, at := range map[string]time.Time{
		"scheduled__2024-01-01T00:00:00+00:00":        moment("2024-01-01 00:00"),
		"scheduled__2023-12-31T22:00:00+00:00":        time.Date(2024, 1, 1, 0, 0, 0, 0, berlin),
		"scheduled__2024-01-01T00:00:00.123456+00:00": moment("2024-01-01 00:00").Add(123456 * time.Microsecond),
	} {
		if got := RunID("scheduled", at); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Whatever the schedule: slots move forward, never overlap what came before, and an answer does not go back as time goes on.
func TestSlotsMoveForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}).Draw(t, "zone")
		schedule := rapid.SampledFrom([]dag.Schedule{daily, dailyInterval, hours6, hours6Of, month, listed,
			{Kind: dag.ScheduleCronTrigger, Cron: []string{"*/20 * * * *", "5 4 * * *"}},
			{Kind: dag.ScheduleCronInterval, Cron: []string{"30 2 * * *"}}}).Draw(t, "schedule")
		tt, err := Parse(schedule, zone, time.LoadLocation)
		if err != nil {
			t.Fatal(err)
		}
		now := moment("2024-01-01 00:00").Add(time.Duration(rapid.Int64Range(0, 365*24*3600).Draw(t, "now")) * time.Second)
		start := now.Add(-time.Duration(rapid.Int64Range(0, 90*24*3600).Draw(t, "age")) * time.Second)
		limits := Limits{Start: &start, Catchup: rapid.Bool().Draw(t, "catchup")}
		var last *Slot
		for step := range 20 {
			slot, ok := tt.Next(last, limits, now)
			if !ok {
				return
			}
			if last != nil && (!slot.LogicalDate.After(last.LogicalDate) || slot.RunAfter.Before(last.RunAfter)) {
				t.Fatalf("step %d: %s after %s", step, show(slot.Interval), show(last.Interval))
			}
			later := now.Add(time.Duration(rapid.Int64Range(0, 3*24*3600).Draw(t, "pass")) * time.Second)
			if again, ok := tt.Next(last, limits, later); !ok || again.LogicalDate.Before(slot.LogicalDate) {
				if schedule.Kind != dag.ScheduleEvents || ok {
					t.Fatalf("step %d: at %s %s, at %s %s", step, now, show(slot.Interval), later, show(again.Interval))
				}
			}
			if slot.RunAfter.After(now) {
				now = slot.RunAfter.Add(time.Duration(rapid.Int64Range(0, 999).Draw(t, "late")) * time.Millisecond)
				due, ok := tt.Next(last, limits, now)
				if !ok || (!limits.Catchup && cmp.Diff(slot, due) != "" && due.LogicalDate.Before(slot.LogicalDate)) {
					t.Fatalf("step %d: the slot %s is gone when it is due: %s", step, show(slot.Interval), fmt.Sprint(due, ok))
				}
				slot = due
			}
			last = &slot
		}
	})
}
