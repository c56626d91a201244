package timetable

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones must not depend on the machine

	"github.com/google/go-cmp/cmp"
	robfig "github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

func TestCronExpressionsTickWhenTheySay(t *testing.T) {
	for _, tc := range []struct {
		expression, zone, from string
		want                   []string
	}{
		{"0 2 * * 1", "UTC", "2024-01-01 02:00", []string{"2024-01-08 02:00", "2024-01-15 02:00"}},
		{"@hourly", "UTC", "2024-01-01 00:00", []string{"2024-01-01 01:00"}},
		{"@daily", "UTC", "2024-02-28 00:00", []string{"2024-02-29 00:00", "2024-03-01 00:00"}},
		{"@weekly", "UTC", "2024-01-01 00:00", []string{"2024-01-07 00:00"}},
		{"@quarterly", "UTC", "2024-01-01 00:00", []string{"2024-04-01 00:00", "2024-07-01 00:00"}},
		{"@yearly", "UTC", "2024-01-01 00:00", []string{"2025-01-01 00:00"}},
		{"*/15 9-10 * * MON-FRI", "UTC", "2024-01-05 10:30", []string{"2024-01-05 10:45", "2024-01-08 09:00"}},
		{"0 0 13 * FRI", "UTC", "2024-09-01 00:00", []string{"2024-09-06 00:00", "2024-09-13 00:00", "2024-09-20 00:00"}},
		{"0 0 29 2 *", "UTC", "2097-01-01 00:00", []string{"2104-02-29 00:00"}},
		{"0 0 l * *", "UTC", "2024-02-01 00:00", []string{"2024-02-29 00:00", "2024-03-31 00:00"}},
		{"0 0 28-L 2 *", "UTC", "2024-02-01 00:00", []string{"2024-02-28 00:00", "2024-02-29 00:00", "2025-02-28 00:00"}},
		{"0 0 15W * *", "UTC", "2024-06-01 00:00", []string{"2024-06-14 00:00", "2024-07-15 00:00"}},
		{"0 0 W1 * *", "UTC", "2024-05-20 00:00", []string{"2024-06-03 00:00"}},
		{"0 0 ? * L5", "UTC", "2024-01-01 00:00", []string{"2024-01-26 00:00", "2024-02-23 00:00"}},
		{"0 0 * * 5#2", "UTC", "2024-01-01 00:00", []string{"2024-01-12 00:00", "2024-02-09 00:00"}},
		{"0 0 * * sat#1,sun#1", "UTC", "2024-01-01 00:00", []string{"2024-01-06 00:00", "2024-01-07 00:00", "2024-02-03 00:00"}},
		{"0 0 * * fri-mon", "UTC", "2024-01-04 00:00", []string{"2024-01-05 00:00", "2024-01-06 00:00", "2024-01-07 00:00", "2024-01-08 00:00", "2024-01-12 00:00"}},
		{"0 0 * * 5-7", "UTC", "2024-01-05 00:00", []string{"2024-01-06 00:00", "2024-01-07 00:00", "2024-01-12 00:00"}},
		{"0 0 */19 * 0-6", "UTC", "2024-02-02 00:00", []string{"2024-02-20 00:00", "2024-03-01 00:00"}},
		{"0 0 * * 7", "UTC", "2024-01-01 00:00", []string{"2024-01-07 00:00"}},
		{"0 22-2/2 * * *", "UTC", "2024-01-01 21:00", []string{"2024-01-01 22:00", "2024-01-02 00:00", "2024-01-02 02:00", "2024-01-02 22:00"}},
		{"10/20 * * * *", "UTC", "2024-01-01 00:00", []string{"2024-01-01 00:10", "2024-01-01 00:30", "2024-01-01 00:50"}},
		// Summer time begins: 02:00 to 03:00 does not exist. It ends: 02:00 to 03:00 comes twice.
		{"30 2 * * *", "Europe/Berlin", "2024-03-29 23:00", []string{"2024-03-30 01:30", "2024-03-31 01:30", "2024-04-01 00:30"}},
		{"30 2 * * *", "Europe/Berlin", "2024-10-26 12:00", []string{"2024-10-27 01:30", "2024-10-28 01:30"}},
		{"30 2,3 * * *", "Europe/Berlin", "2024-03-30 12:00", []string{"2024-03-31 01:30", "2024-04-01 00:30"}},
		{"0,30 2,3 * * *", "Europe/Berlin", "2024-03-30 12:00", []string{"2024-03-31 01:00", "2024-03-31 01:30", "2024-04-01 00:00"}},
		{"*/30 * * * *", "Europe/Berlin", "2024-03-31 00:00", []string{"2024-03-31 00:30", "2024-03-31 01:00"}},
		{"30 * * * *", "Europe/Berlin", "2024-10-26 23:45", []string{"2024-10-27 00:30", "2024-10-27 01:30", "2024-10-27 02:30"}},
		{"0 */2 * * *", "Europe/Berlin", "2024-10-26 21:00", []string{"2024-10-26 22:00", "2024-10-27 01:00", "2024-10-27 03:00"}},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-02 12:00", []string{"2018-11-03 03:00", "2018-11-04 03:00", "2018-11-05 02:00"}},
	} {
		t.Run(tc.expression+" in "+tc.zone, func(t *testing.T) {
			c := ticksOf(t, tc.expression, tc.zone)
			at := moment(tc.from)
			first := at
			var got []string
			for range tc.want {
				next, ok := c.next(at)
				if !ok {
					t.Fatalf("no tick after %s", at)
				}
				got = append(got, next.Format("2006-01-02 15:04"))
				at = next
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ticks in UTC (-want +got):\n%s", diff)
			}
			for i := len(tc.want) - 2; i >= 0; i-- {
				prev, ok := c.prev(at)
				if !ok || prev.Format("2006-01-02 15:04") != tc.want[i] {
					t.Errorf("before %s: %s, want %s", at, prev, tc.want[i])
				}
				at = prev
			}
			if prev, ok := c.prev(at); ok && prev.After(first) {
				t.Errorf("walking back finds %s between %s and %s", prev, first, at)
			}
		})
	}
}

func TestTheLastDayOfALeapYearThatNoTableCoversIsADay(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Sydney"} {
		c := ticksOf(t, "0 */6 * * *", zone)
		at, n := moment("2040-12-30 00:00"), 0
		for end := moment("2041-01-03 00:00"); n < 100; n++ {
			var ok bool
			if at, ok = c.next(at); !ok || at.After(end) {
				break
			}
		}
		if n != 16 {
			t.Errorf("%s: %d ticks in four days, want 16", zone, n)
		}
	}
}

func TestASixthFieldIsTheSecond(t *testing.T) {
	c := ticksOf(t, "59 23 * * * */20", "UTC")
	got, _ := c.next(moment("2024-01-01 23:59"))
	if want := moment("2024-01-01 23:59").Add(20 * time.Second); !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if back, _ := c.prev(got); !back.Equal(moment("2024-01-01 23:59")) {
		t.Errorf("before it: %s", back)
	}
}

func TestCronErrorsNameTheFieldAndTheColumn(t *testing.T) {
	for expression, want := range map[string]SyntaxError{
		"61 * * * *":       {Field: "minute", Column: 1, Reason: "61 is not in 0-59"},
		"0 24 * * *":       {Field: "hour", Column: 3, Reason: "24 is not in 0-23"},
		"0 0 0 * *":        {Field: "day of month", Column: 5, Reason: "0 is not in 1-31"},
		"0 0 1 13 *":       {Field: "month", Column: 7, Reason: "13 is not in 1-12"},
		"0 0 * * 1,8":      {Field: "day of week", Column: 11, Reason: "8 is not in 0-7"},
		"0 0 * * * 60":     {Field: "second", Column: 11, Reason: "60 is not in 0-59"},
		"0 2-x * * *":      {Field: "hour", Column: 5, Reason: "x is not in 0-23"},
		"0  5-5 * * *":     {Field: "hour", Column: 4, Reason: "the range 5-5 is one value: write 5, or * for all"},
		"*/0 * * * *":      {Field: "minute", Column: 3, Reason: `the step "0" is not a whole number from 1`},
		"*/ * * * *":       {Field: "minute", Column: 3, Reason: `the step "" is not a whole number from 1`},
		"1,,2 * * * *":     {Field: "minute", Column: 3, Reason: "an item is empty"},
		"-5 * * * *":       {Field: "minute", Column: 1, Reason: "a value is missing"},
		"? * * * *":        {Field: "minute", Column: 1, Reason: "? stands alone, in a field for days"},
		"H * * * *":        {Field: "minute", Column: 1, Reason: `"h": hashed and random values (H, R) are not supported; write the value`},
		"0 0 * foo *":      {Field: "month", Column: 7, Reason: `"foo" is neither in 1-12 nor one of jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec`},
		"0 0 * * 1#6":      {Field: "day of week", Column: 11, Reason: "after # comes 1 to 5: 5#2 is the second Friday"},
		"0 0 * * L":        {Field: "day of week", Column: 9, Reason: "L needs a weekday after it: L5 is the last Friday"},
		"0 0 1,15W * *":    {Field: "day of month", Column: 7, Reason: "W stands alone in its field, without a list"},
		"0 0 W * *":        {Field: "day of month", Column: 5, Reason: "W needs a day of the month beside it: 15W is the weekday nearest to the 15th"},
		"0 0 30 2 *":       {Field: "day of month", Column: 5, Reason: "no such day comes in the given months"},
		"0 0 * *":          {Reason: "has 4 fields, needs 5 (minute, hour, day of month, month, day of week) or 6 (and second)"},
		"0 0 * * * 0 2024": {Reason: "has 7 fields, needs 5 (minute, hour, day of month, month, day of week) or 6 (and second)"},
		"@dayly":           {Reason: "is no preset (@hourly, @daily, @weekly, @monthly, @quarterly, @yearly)"},
		"":                 {Reason: "has 0 fields, needs 5 (minute, hour, day of month, month, day of week) or 6 (and second)"},
	} {
		_, err := ParseCron(expression)
		var got *SyntaxError
		if !errors.As(err, &got) {
			t.Errorf("%q: error %v", expression, err)
			continue
		}
		want.Expression = expression
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", expression, diff)
		}
	}
}

func TestCronAgreesWithALibraryInUTC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expression := drawExpression(t)
		if parts := strings.Fields(expression); parts[2] != "*" && parts[4] != "*" && strings.Contains(parts[2]+parts[4], "*") {
			t.Skip("croniter and the library differ about stars with a step in one day field beside the other")
		}
		library, err := robfig.ParseStandard(expression)
		if err != nil {
			t.Skip("the library does not take it")
		}
		c, err := ParseCron(expression)
		if err != nil {
			t.Skip("never comes") // the library finds no time either; the table above tests the errors
		}
		s := cronTicks{cron: c, zone: time.UTC}
		at := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "from"), 0).UTC()
		for range 5 {
			want := library.Next(at)
			if want.IsZero() {
				return // the library looks five years ahead
			}
			got, ok := s.next(at)
			if !ok || !got.Equal(want) {
				t.Fatalf("%q after %s: got %s, the library %s", expression, at, got, want)
			}
			if back, ok := s.prev(got); !ok || back.After(at) {
				t.Fatalf("%q before %s: got %s, want at most %s", expression, got, back, at)
			}
			at = got
		}
	})
}

// changes are days around which a zone's clock changes: by an hour, by half an hour, at midnight, by a whole day, and in a
// year with two changes close together.
var changes = []struct{ zone, day string }{
	{"Europe/Berlin", "2024-03-31"}, {"Europe/Berlin", "2024-10-27"},
	{"America/New_York", "2024-03-10"}, {"America/New_York", "2024-11-03"},
	{"Australia/Lord_Howe", "2024-04-07"}, {"Australia/Lord_Howe", "2024-10-06"},
	{"America/Sao_Paulo", "2018-11-04"}, {"America/Sao_Paulo", "2018-02-18"},
	{"Pacific/Apia", "2011-12-30"}, {"Africa/Casablanca", "2024-03-10"}, {"Africa/Casablanca", "2024-04-14"},
	{"America/St_Johns", "2011-03-13"}, {"America/St_Johns", "2010-11-07"}, {"Asia/Kolkata", "2024-03-31"},
}

func TestCronFollowsThePolicyAroundEveryChangeOfTheClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom(changes).Draw(t, "change")
		minute := rapid.SampledFrom([]string{"0", "30", "*/15", "*", "7", "0,59", "20-40"}).Draw(t, "minute")
		hour := rapid.SampledFrom([]string{"*", "*/1", "0-23", "0", "1", "2", "3", "*/2", "1-3", "2,23", "22-2"}).Draw(t, "hour")
		weekday := rapid.SampledFrom([]string{"*", "*", "*", "0", "6", "sun-mon"}).Draw(t, "weekday")
		expression := fmt.Sprintf("%s %s * * %s", minute, hour, weekday)
		c := ticksOf(t, expression, change.zone)
		middle := moment(change.day + " 00:00")
		want := scan(c, middle.Add(-50*time.Hour), middle.Add(74*time.Hour))

		var got []time.Time
		for at, ok := c.next(middle.Add(-50*time.Hour - time.Minute)); ok && at.Before(middle.Add(74*time.Hour)); at, ok = c.next(at) {
			got = append(got, at)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q in %s around %s, forwards (-scan +next):\n%s", expression, change.zone, change.day, diff)
		}
		var back []time.Time
		for at, ok := c.prev(middle.Add(74 * time.Hour)); ok && !at.Before(middle.Add(-50*time.Hour)); at, ok = c.prev(at) {
			back = append([]time.Time{at}, back...)
		}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Fatalf("%q in %s around %s, backwards (-scan +prev):\n%s", expression, change.zone, change.day, diff)
		}
	})
}

// scan looks at every minute and applies the policy of the package comment word by word.
func scan(c cronTicks, from, to time.Time) []time.Time {
	matches := func(wall time.Time) bool {
		return c.cron.matchesDay(midnight(wall)) && c.cron.hour&(1<<wall.Hour()) != 0 && c.cron.minute&(1<<wall.Minute()) != 0
	}
	offset := func(t time.Time) time.Duration { return offsetOf(t.In(c.zone)) }
	type jump struct {
		at    time.Time
		by    time.Duration
		first time.Duration // the offset before
	}
	var jumps []jump
	for t := from.Add(-48 * time.Hour); t.Before(to.Add(48 * time.Hour)); t = t.Add(time.Minute) {
		if d := offset(t) - offset(t.Add(-time.Minute)); d != 0 {
			jumps = append(jumps, jump{t, d, offset(t.Add(-time.Minute))})
		}
	}
	var out []time.Time
	for t := from; t.Before(to); t = t.Add(time.Minute) {
		fires := matches(t.Add(offset(t)))
		for _, j := range jumps {
			if c.cron.hour == 1<<24-1 {
				break
			}
			if j.by < 0 && t.Before(j.at) && !t.Before(j.at.Add(j.by)) {
				fires = false // comes again after the jump
			}
			if j.by > 0 && !t.Before(j.at) && t.Before(j.at.Add(j.by)) && matches(t.Add(j.first)) {
				fires = true // was jumped over
			}
		}
		if fires {
			out = append(out, t)
		}
	}
	return out
}

func FuzzParseCron(f *testing.F) {
	for _, seed := range []string{"0 2 * * 1", "*/5 1-3,7 L * fri#2", "@daily", "15W * ? jan-mar/2 L5 0", "0 0 15W * *", "-", "1-/ * * * *"} {
		f.Add(seed)
	}
	from := moment("2024-02-29 12:00")
	f.Fuzz(func(t *testing.T, expression string) {
		c, err := ParseCron(expression)
		if err != nil {
			var bad *SyntaxError
			if !errors.As(err, &bad) || bad.Column < 0 || bad.Column > len(expression)+1 {
				t.Fatalf("error without a place in the expression: %#v", err)
			}
			return
		}
		s := cronTicks{cron: c, zone: time.UTC}
		next, ok := s.next(from)
		if !ok || !next.After(from) {
			t.Fatalf("%q: next is %s, %v", expression, next, ok)
		}
		if prev, ok := s.prev(next); !ok || prev.After(from) {
			t.Fatalf("%q: before %s comes %s, %v", expression, next, prev, ok)
		}
	})
}

type tester interface {
	Helper()
	Fatalf(string, ...any)
}

func ticksOf(t tester, expression, zone string) cronTicks {
	t.Helper()
	c, err := ParseCron(expression)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatalf("zone: %v", err)
	}
	return cronTicks{cron: c, zone: location}
}

func moment(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func drawExpression(t *rapid.T) string {
	var parts []string
	for _, f := range []cronField{minuteField, hourField, dayField, monthField, weekdayField} {
		value := func() int { return rapid.IntRange(f.min, f.max).Draw(t, f.name) }
		item := func() string {
			switch rapid.IntRange(0, 5).Draw(t, "form") {
			case 0:
				low, high := value(), value()
				if low >= high {
					return fmt.Sprint(low)
				}
				return fmt.Sprintf("%d-%d", low, high)
			case 1:
				return fmt.Sprintf("*/%d", rapid.IntRange(1, 20).Draw(t, "step"))
			case 2:
				return fmt.Sprintf("%d/%d", value(), rapid.IntRange(1, 20).Draw(t, "step"))
			case 3:
				if f.names != nil {
					return f.names[value()-f.min]
				}
			}
			return fmt.Sprint(value())
		}
		if rapid.IntRange(0, 2).Draw(t, "open") > 0 {
			parts = append(parts, "*")
			continue
		}
		items := []string{item()}
		if rapid.Bool().Draw(t, "list") {
			items = append(items, item())
		}
		parts = append(parts, strings.Join(items, ","))
	}
	return strings.Join(parts, " ")
}
