package timetable

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// presets are the names that stand for expressions, as in Airflow and croniter.
var presets = map[string]string{
	"@hourly":    "0 * * * *",
	"@daily":     "0 0 * * *",
	"@midnight":  "0 0 * * *",
	"@weekly":    "0 0 * * 0",
	"@monthly":   "0 0 1 * *",
	"@quarterly": "0 0 1 */3 *",
	"@yearly":    "0 0 1 1 *",
	"@annually":  "0 0 1 1 *",
}

// SyntaxError says what is wrong with a cron expression and where.
type SyntaxError struct {
	Expression string
	Field      string // "minute", "hour", "day of month", "month", "day of week", "second", or "" for the whole
	Column     int    // of the first wrong character, from 1
	Reason     string
}

// Error reads like: cron expression "61 * * * *", field minute, column 1: 61 is not in 0-59.
func (e *SyntaxError) Error() string {
	where := ""
	if e.Field != "" {
		where = fmt.Sprintf(", field %s, column %d", e.Field, e.Column)
	}
	return fmt.Sprintf("cron expression %q%s: %s", e.Expression, where, e.Reason)
}

// A Cron is a parsed expression: the set of wall-clock times it matches, without a time zone.
type Cron struct {
	expression string
	// Bit n of each set is value n.
	second, minute, hour, day, month, weekday uint64
	// anyDay and anyWeekday are true for * and ?: if only one of the two day fields is restricted it alone decides; if
	// both are, a day that either matches counts.
	anyDay, anyWeekday bool
	lastDay            bool     // L in the day of month
	nearest            int      // 15W: the weekday nearest to the 15th; 0 is none
	nth                [7]uint8 // by weekday: bit n for the n-th in the month, bit 6 for the last
}

// String is the expression as written.
func (c *Cron) String() string { return c.expression }

// a cronField describes one of the six fields.
type cronField struct {
	name     string
	min, max int
	names    []string // of the values from min on
}

var (
	minuteField  = cronField{name: "minute", max: 59}
	hourField    = cronField{name: "hour", max: 23}
	dayField     = cronField{name: "day of month", min: 1, max: 31}
	monthField   = cronField{name: "month", min: 1, max: 12, names: strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")}
	weekdayField = cronField{name: "day of week", max: 6, names: strings.Fields("sun mon tue wed thu fri sat")}
	secondField  = cronField{name: "second", max: 59}
)

// ParseCron reads a cron expression as croniter (and so Airflow) does: five fields, or six with the seconds last; names,
// lists, ranges (also backwards: fri-mon), steps, ? and L, 15W, L5 (the last Friday) and 5#2 (the second Friday); or a
// preset such as @daily. The error is a *SyntaxError.
func ParseCron(expression string) (*Cron, error) {
	text := lower(expression)
	if strings.HasPrefix(strings.TrimSpace(text), "@") {
		preset, ok := presets[strings.TrimSpace(text)]
		if !ok {
			return nil, &SyntaxError{Expression: expression, Reason: "is no preset (@hourly, @daily, @weekly, @monthly, @quarterly, @yearly)"}
		}
		text = preset
	}
	parts := splitFields(text)
	if len(parts) != 5 && len(parts) != 6 {
		return nil, &SyntaxError{Expression: expression, Reason: fmt.Sprintf(
			"has %d fields, needs 5 (minute, hour, day of month, month, day of week) or 6 (and second)", len(parts))}
	}
	c := &Cron{expression: expression, second: 1}
	p := parser{expression: expression, cron: c}
	for i, f := range []struct {
		field cronField
		set   *uint64
	}{{minuteField, &c.minute}, {hourField, &c.hour}, {dayField, &c.day}, {monthField, &c.month}, {weekdayField, &c.weekday}, {secondField, &c.second}} {
		if i == len(parts) {
			break
		}
		set, err := p.field(f.field, parts[i])
		if err != nil {
			return nil, err
		}
		*f.set = set
	}
	// A field that lists every value is open too, if the other one has a star somewhere: croniter's rule.
	c.anyDay = parts[2].any() || (c.day == dayField.span(1, 31, 1) && strings.Contains(parts[4].text, "*"))
	c.anyWeekday = parts[4].any() || (c.weekday == weekdayField.span(0, 6, 1) && strings.Contains(parts[2].text, "*"))
	// Search from a leap year: 29 February and the fifth Friday of February come within 40 years, even across 2100.
	from := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, ok := c.atOrAfter(from, from.AddDate(horizon, 0, 0)); !ok {
		return nil, &SyntaxError{Expression: expression, Field: dayField.name, Column: parts[2].column, Reason: "no such day comes in the given months"}
	}
	return c, nil
}

// lower keeps the length of the text, so that columns stay right, also where it is not UTF-8.
func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// horizon is how many years are searched for a matching day.
const horizon = 60

// A part is one field's text with its position.
type part struct {
	text   string
	column int // from 1
}

// any is true for a field that leaves its value open.
func (p part) any() bool {
	for item := range strings.SplitSeq(p.text, ",") {
		if item == "*" || item == "?" {
			return true
		}
	}
	return false
}

func splitFields(text string) []part {
	var out []part
	for at := 0; at < len(text); {
		if text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r' {
			at++
			continue
		}
		end := at
		for end < len(text) && !strings.ContainsRune(" \t\n\r", rune(text[end])) {
			end++
		}
		out = append(out, part{text: text[at:end], column: at + 1})
		at = end
	}
	return out
}

type parser struct {
	expression string
	cron       *Cron
}

func (p parser) fail(f cronField, at part, format string, args ...any) error {
	return &SyntaxError{Expression: p.expression, Field: f.name, Column: at.column, Reason: fmt.Sprintf(format, args...)}
}

// field reads the comma-separated items of a field.
func (p parser) field(f cronField, whole part) (uint64, error) {
	if strings.Contains(whole.text, "?") && (whole.text != "?" || (f.name != dayField.name && f.name != weekdayField.name)) {
		return 0, p.fail(f, whole, "? stands alone, in a field for days")
	}
	var set uint64
	at := whole.column
	for text := range strings.SplitSeq(whole.text, ",") {
		item := part{text: text, column: at}
		at += len(text) + 1
		if text == "" {
			return 0, p.fail(f, item, "an item is empty")
		}
		values, err := p.item(f, item, whole)
		if err != nil {
			return 0, err
		}
		set |= values
	}
	return set, nil
}

// item reads one item; what only day fields have goes straight into the Cron.
func (p parser) item(f cronField, item, whole part) (uint64, error) {
	switch f.name {
	case dayField.name:
		if item.text == "l" {
			p.cron.lastDay = true
			return 0, nil
		}
		if rest, ok := strings.CutSuffix(item.text, "w"); ok || strings.HasPrefix(item.text, "w") {
			return 0, p.nearest(f, item, whole, strings.TrimPrefix(rest, "w"))
		}
		if low, ok := strings.CutSuffix(item.text, "-l"); ok {
			item.text = low + "-31"
		}
	case weekdayField.name:
		if days, n, ok := strings.Cut(item.text, "#"); ok {
			return 0, p.nth(f, item, days, n)
		}
		if rest, ok := strings.CutPrefix(item.text, "l"); ok {
			day, err := p.value(f, part{rest, item.column + 1})
			if err != nil {
				return 0, p.fail(f, item, "L needs a weekday after it: L5 is the last Friday")
			}
			p.cron.nth[day%7] |= 1 << 6
			return 0, nil
		}
	}
	return p.values(f, item)
}

func (p parser) nearest(f cronField, item, whole part, digits string) error {
	day, err := p.value(f, part{digits, item.column})
	if err != nil {
		return p.fail(f, item, "W needs a day of the month beside it: 15W is the weekday nearest to the 15th")
	}
	if item.text != whole.text {
		return p.fail(f, item, "W stands alone in its field, without a list")
	}
	p.cron.nearest = day
	return nil
}

func (p parser) nth(f cronField, item part, days, n string) error {
	count, err := strconv.Atoi(n)
	if err != nil || count < 1 || count > 5 {
		return p.fail(f, part{n, item.column + len(days) + 1}, "after # comes 1 to 5: 5#2 is the second Friday")
	}
	set, err := p.values(f, part{days, item.column})
	if err != nil {
		return err
	}
	for day := range 7 {
		if set&(1<<day) != 0 {
			p.cron.nth[day] |= 1 << count
		}
	}
	return nil
}

// values reads "*", "5", "1-5", "*/2", "1-9/2" or "5/2".
func (p parser) values(f cronField, item part) (uint64, error) {
	body, stepText, stepped := strings.Cut(item.text, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 || n > 1000 || stepText[0] == '+' {
			return 0, p.fail(f, part{stepText, item.column + len(body) + 1}, "the step %q is not a whole number from 1", stepText)
		}
		step = n
	}
	if body == "*" || item.text == "?" {
		return f.span(f.min, f.max, step), nil
	}
	lowText, highText, ranged := strings.Cut(body, "-")
	low, err := p.value(f, part{lowText, item.column})
	if err != nil {
		return 0, err
	}
	high := low
	switch {
	case ranged:
		if high, err = p.value(f, part{highText, item.column + len(lowText) + 1}); err != nil {
			return 0, err
		}
		if low == high {
			return 0, p.fail(f, item, "the range %s is one value: write %s, or * for all", body, lowText)
		}
	case stepped:
		high = f.max // 5/15 is 5-59/15
	}
	if f.name == weekdayField.name && low == 7 {
		low, high = 0, high%7
	}
	return f.span(low, high, step), nil
}

// span is the set of low, low+step, … up to high, around the end of the field if high is less than low. A weekday 7 is
// Sunday, 0.
func (f cronField) span(low, high, step int) uint64 {
	size := f.max - f.min + 1
	if high < low {
		high += size
	}
	var set uint64
	for v := low; v <= high; v += step {
		set |= 1 << (f.min + (v-f.min)%size)
	}
	return set
}

// value reads one number or name; weekday 7 stays 7, so that 5-7 is a range.
func (p parser) value(f cronField, at part) (int, error) {
	for i, name := range f.names {
		if at.text == name {
			return f.min + i, nil
		}
	}
	limit := f.max
	if f.name == weekdayField.name {
		limit = 7
	}
	n := 0
	for _, r := range at.text {
		if r < '0' || r > '9' || n > 1000 {
			n = -1
			break
		}
		n = n*10 + int(r-'0')
	}
	switch {
	case at.text == "":
		return 0, p.fail(f, at, "a value is missing")
	case n < 0 && strings.ContainsAny(at.text[:1], "hr"):
		return 0, p.fail(f, at, "%q: hashed and random values (H, R) are not supported; write the value", at.text)
	case n < 0 && f.names != nil:
		return 0, p.fail(f, at, "%q is neither in %d-%d nor one of %s", at.text, f.min, limit, strings.Join(f.names, ", "))
	case n < f.min || n > limit:
		return 0, p.fail(f, at, "%s is not in %d-%d", at.text, f.min, limit)
	}
	return n, nil
}

// everyHour is true for expressions that follow real time across changes of the clock.
func (c *Cron) everyHour() bool { return c.hour == 1<<24-1 }

// matchesDay decides about a day, given by its midnight.
func (c *Cron) matchesDay(day time.Time) bool {
	year, month, d := day.Date()
	if c.month&(1<<month) == 0 {
		return false
	}
	if c.anyDay && c.anyWeekday {
		return true
	}
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	byDay := c.day&(1<<d) != 0 || (c.lastDay && d == last) || (c.nearest > 0 && d == nearestWeekday(year, month, min(c.nearest, last), last))
	nth := c.nth[day.Weekday()]
	byWeekday := c.weekday&(1<<day.Weekday()) != 0 || nth&(1<<((d-1)/7+1)) != 0 || (nth&(1<<6) != 0 && d+7 > last)
	switch {
	case c.anyDay:
		return byWeekday
	case c.anyWeekday:
		return byDay
	}
	return byDay || byWeekday
}

// nearestWeekday is the day of the month from Monday to Friday that is nearest to a day, inside the month.
func nearestWeekday(year int, month time.Month, day, last int) int {
	switch time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == last {
			return day - 2
		}
		return day + 1
	}
	return day
}

// atOrAfter is the first match not before w and before limit; both are wall-clock times written as UTC.
func (c *Cron) atOrAfter(w, limit time.Time) (time.Time, bool) {
	day := midnight(w)
	from := int(w.Sub(day) / time.Second)
	for day.Before(limit) {
		if c.month&(1<<day.Month()) == 0 {
			day, from = time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC), 0
			continue
		}
		if c.matchesDay(day) {
			if s, ok := c.secondFrom(from); ok {
				found := day.Add(time.Duration(s) * time.Second)
				return found, found.Before(limit)
			}
		}
		day, from = day.AddDate(0, 0, 1), 0
	}
	return time.Time{}, false
}

// atOrBefore is the last match not after w and not before limit.
func (c *Cron) atOrBefore(w, limit time.Time) (time.Time, bool) {
	day := midnight(w)
	to := int(w.Sub(day) / time.Second)
	for !day.Before(midnight(limit)) {
		if c.month&(1<<day.Month()) == 0 {
			day, to = time.Date(day.Year(), day.Month(), 0, 0, 0, 0, 0, time.UTC), 86399
			continue
		}
		if c.matchesDay(day) {
			if s, ok := c.secondUntil(to); ok {
				found := day.Add(time.Duration(s) * time.Second)
				return found, !found.Before(limit)
			}
		}
		day, to = day.AddDate(0, 0, -1), 86399
	}
	return time.Time{}, false
}

func midnight(w time.Time) time.Time {
	return time.Date(w.Year(), w.Month(), w.Day(), 0, 0, 0, 0, time.UTC)
}

// secondFrom is the first matching second of a day from a given one on.
func (c *Cron) secondFrom(from int) (int, bool) {
	h, m, s := from/3600, from/60%60, from%60
	if c.hour&(1<<h) != 0 {
		if c.minute&(1<<m) != 0 {
			if v := c.second >> s << s; v != 0 {
				return h*3600 + m*60 + bits.TrailingZeros64(v), true
			}
		}
		if v := c.minute >> (m + 1) << (m + 1); v != 0 {
			return h*3600 + bits.TrailingZeros64(v)*60 + bits.TrailingZeros64(c.second), true
		}
	}
	if v := c.hour >> (h + 1) << (h + 1); v != 0 {
		return bits.TrailingZeros64(v)*3600 + bits.TrailingZeros64(c.minute)*60 + bits.TrailingZeros64(c.second), true
	}
	return 0, false
}

// secondUntil is the last matching second of a day up to a given one.
func (c *Cron) secondUntil(to int) (int, bool) {
	h, m, s := to/3600, to/60%60, to%60
	below := func(set uint64, n int) uint64 { return set & (1<<n - 1) }
	highest := func(set uint64) int { return bits.Len64(set) - 1 }
	if c.hour&(1<<h) != 0 {
		if c.minute&(1<<m) != 0 {
			if v := below(c.second, s+1); v != 0 {
				return h*3600 + m*60 + highest(v), true
			}
		}
		if v := below(c.minute, m); v != 0 {
			return h*3600 + highest(v)*60 + highest(c.second), true
		}
	}
	if v := below(c.hour, h); v != 0 {
		return highest(v)*3600 + highest(c.minute)*60 + highest(c.second), true
	}
	return 0, false
}
