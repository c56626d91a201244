package timetable

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	robfig "github.com/robfig/cron/v3"

	"ostro.dev/ostro/internal/core/dag"
)

// samples are what a plain run looks at: a year of one zone for each way in which clocks change.
var samples = map[string]int{
	"Europe/Berlin": 2040, "America/New_York": 2006, "Australia/Lord_Howe": 2024, "Australia/Sydney": 2040,
	"America/Sao_Paulo": 2018, "Pacific/Apia": 2011, "Africa/Casablanca": 2023,
}

// oracleExpressions are the presets and one expression of every kind that a change of the clock treats in its own way.
var oracleExpressions = []string{
	"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly",
	"30 * * * *", "*/20 * * * *", "30 2 * * *", "15 0 * * *", "0,30 1-3 * * *", "0 */2 * * *", "59 23 * * *",
	"30 2 * * sun", "0 0 * * mon-fri", "45 1 31 3 *",
}

// TestCronAndPresetsInEveryZoneWithDaylightSavingTimeAreAsALibrarySays compares all ticks from 2000 to 2040. The oracle shares
// nothing with the package: the library walks the calendar as if it were in UTC, which gives the times a clock on the wall must
// show; the zone says which moments show each of them; and two lines below say what happens to a time that no moment or more
// than one shows. A plain run takes the samples, OSTRO_TEST_ZONES=all every zone and all years.
func TestCronAndPresetsInEveryZoneWithDaylightSavingTimeAreAsALibrarySays(t *testing.T) {
	all := os.Getenv("OSTRO_TEST_ZONES") == "all"
	zones := zonesThatChange(t, all)
	if least := map[bool]int{true: 150, false: len(samples)}[all]; len(zones) < least {
		t.Fatalf("%d different zones change their clocks, want at least %d", len(zones), least)
	}
	names, from, to := 0, zones[0].first, zones[0].last
	for _, z := range zones {
		names += len(z.names)
	}
	t.Logf("%d expressions in %d zones with %d names, the first from %d to %d", len(oracleExpressions), len(zones), names, from.Year(), to.Year()-1)
	for _, z := range zones {
		t.Run(z.names[0], func(t *testing.T) {
			t.Parallel()
			for _, e := range oracleExpressions {
				compareInZone(t, e, z)
			}
		})
	}
}

// compareInZone walks an expression in a zone forwards and backwards, and through the timetables of both cron meanings.
func compareInZone(t *testing.T, expression string, z oracleZone) {
	c := ticksOf(t, expression, z.names[0])
	want := z.moments(libraryWalk(t, expression, z), c.cron.everyHour())
	var got, back []time.Time
	for at, ok := c.next(z.first.Add(-1)); ok && at.Before(z.last); at, ok = c.next(at) {
		got = append(got, at)
	}
	for at, ok := c.prev(z.last); ok && !at.Before(z.first); at, ok = c.prev(at) {
		back = append(back, at)
	}
	slices.Reverse(back)
	sameMoments(t, fmt.Sprintf("%q in %s forwards", expression, z.names[0]), want, got)
	sameMoments(t, fmt.Sprintf("%q in %s backwards", expression, z.names[0]), want, back)
	for _, kind := range []string{dag.ScheduleCronTrigger, dag.ScheduleCronInterval} {
		table, err := Parse(dag.Schedule{Kind: kind, Cron: []string{expression}}, z.names[0], time.LoadLocation)
		if err != nil {
			t.Fatal(err)
		}
		var fired []time.Time
		limits := Limits{Start: &want[0], Catchup: true}
		var last *Slot
		for {
			slot, ok := table.Next(last, limits, z.last)
			if !ok || !slot.RunAfter.Before(z.last) {
				break
			}
			fired, last = append(fired, slot.RunAfter), &slot
		}
		rest := want
		if kind == dag.ScheduleCronInterval {
			rest = want[1:] // the first tick is where the first interval begins
		}
		sameMoments(t, fmt.Sprintf("%q in %s as %s", expression, z.names[0], kind), rest, fired)
	}
}

// sameMoments says where two walks part; a comparison of hundreds of thousands is no message.
func sameMoments(t *testing.T, what string, want, got []time.Time) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if !want[i].Equal(got[i]) {
			to := min(i+4, len(want), len(got))
			t.Errorf("%s (-oracle +got):\n%s", what, cmp.Diff(want[max(0, i-2):to], got[max(0, i-2):to]))
			return
		}
	}
	if len(want) != len(got) {
		t.Errorf("%s: %d ticks, the oracle has %d", what, len(got), len(want))
	}
}

// libraryWalk is every time of the zone's years, and a little around, that the library finds on a clock without changes.
func libraryWalk(t *testing.T, expression string, z oracleZone) (walls []time.Time) {
	t.Helper()
	s, err := robfig.ParseStandard(strings.ReplaceAll(expression, "@quarterly", "0 0 1 */3 *"))
	if err != nil {
		t.Fatal(err)
	}
	for at := s.Next(z.first.AddDate(0, 0, -4)); at.Before(z.last.AddDate(0, 0, 4)); at = s.Next(at) {
		walls = append(walls, at)
	}
	return walls
}

// An oracleZone is a stretch of constant offset after the other.
type oracleZone struct {
	names       []string // aliases of each other
	spans       []span
	first, last time.Time // what is looked at
}

type span struct{ from, offset int64 } // in seconds since 1970

// moments is when a clock in the zone shows the given times.
func (z oracleZone) moments(walls []time.Time, everyHour bool) (out []time.Time) {
	i := 0
	for _, wall := range walls {
		w := wall.Unix()
		for i+1 < len(z.spans) && z.spans[i+1].from+3*86400 < w {
			i++
		}
		var shown []int64
		skipped := int64(0)
		for j := i; j < len(z.spans) && z.spans[j].from-3*86400 < w; j++ {
			at := w - z.spans[j].offset
			end := z.last.AddDate(1, 0, 0).Unix()
			if j+1 < len(z.spans) {
				end = z.spans[j+1].from
				if at >= end && w-z.spans[j+1].offset < end {
					skipped = at // the clock went from before this time to after it
				}
			}
			if at >= z.spans[j].from && at < end {
				shown = append(shown, at)
			}
		}
		switch {
		case everyHour: // whenever the wall shows it
		case len(shown) == 0 && skipped != 0: // left out: as the clock would have gone on
			shown = []int64{skipped}
		case len(shown) > 1: // comes twice: the second pass
			shown = shown[len(shown)-1:]
		}
		for _, at := range shown {
			if m := time.Unix(at, 0).UTC(); !m.Before(z.first) && m.Before(z.last) {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// zonesThatChange reads the zone database that comes with Go and finds the zones whose clocks change, aliases together. It
// does not ask for the changes but finds them by halving, so that it owes nothing to the way the package asks.
func zonesThatChange(t *testing.T, all bool) (zones []oracleZone) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	known := map[string]int{}
	for _, f := range archive.File {
		z := oracleZone{names: []string{f.Name}, first: yearOf(2000), last: yearOf(2041)}
		if year := samples[f.Name]; !all {
			z.first, z.last = yearOf(year), yearOf(year+1)
		}
		if f.FileInfo().IsDir() || !all && samples[f.Name] == 0 {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocationFromTZData(f.Name, data)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if z.spans = z.spansOf(zone); len(z.spans) < 2 {
			continue
		}
		key := fmt.Sprint(z.spans)
		if i, ok := known[key]; ok {
			zones[i].names = append(zones[i].names, f.Name)
			continue
		}
		known[key] = len(zones)
		zones = append(zones, z)
	}
	return zones
}

func yearOf(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

func (z oracleZone) spansOf(zone *time.Location) (spans []span) {
	offset := func(at int64) int64 { _, s := time.Unix(at, 0).In(zone).Zone(); return int64(s) }
	at, end := z.first.AddDate(0, 0, -10).Unix(), z.last.AddDate(0, 0, 10).Unix()
	const step = 12 * 3600 // no zone changes its clock twice within
	spans = []span{{at, offset(at)}}
	for ; at < end; at += step {
		if offset(at) == offset(at+step) {
			continue
		}
		low, high := at, at+step
		for high-low > 1 {
			if mid := (low + high) / 2; offset(mid) == offset(at) {
				low = mid
			} else {
				high = mid
			}
		}
		spans = append(spans, span{high, offset(high)})
	}
	return spans
}
