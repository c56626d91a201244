package timetable

import "time"

// ticks is a set of moments that can be walked in both directions.
type ticks interface {
	next(t time.Time) (time.Time, bool) // the first after t
	prev(t time.Time) (time.Time, bool) // the last before t
}

// ceil is t itself if it is a tick, else the next one.
func ceil(s ticks, t time.Time) (time.Time, bool) { return s.next(t.Add(-1)) }

// floor is t itself if it is a tick, else the one before.
func floor(s ticks, t time.Time) (time.Time, bool) { return s.prev(t.Add(1)) }

// cronTicks is a cron expression in a time zone. The package comment has the rules for changes of the clock.
//
// Real time is cut into segments of constant offset from UTC. In a segment, wall-clock time and real time differ by a
// constant, so the expression is searched on the wall clock and shifted back.
type cronTicks struct {
	cron *Cron
	zone *time.Location
}

// A segment is a stretch of constant offset; a zero start or end is open.
type segment struct {
	start, end time.Time
	offset     time.Duration
	// gap is how far the clock jumped ahead at the start, fold how far it will jump back at the end.
	gap, fold time.Duration
}

func (c cronTicks) segmentAt(t time.Time) segment {
	local := t.In(c.zone)
	s := segment{offset: offsetOf(local)}
	s.start, s.end = local.ZoneBounds()
	if !s.end.IsZero() && !s.end.After(t) {
		// In the years that a zone's rules cover without a table, from 2037, Go ends the last segment after 365 days: a day
		// too early in a leap year.
		s.end = s.end.AddDate(0, 0, 1)
	}
	if !s.start.IsZero() {
		s.gap = max(0, s.offset-offsetOf(s.start.Add(-time.Second).In(c.zone)))
	}
	if !s.end.IsZero() {
		s.fold = max(0, s.offset-offsetOf(s.end.In(c.zone)))
	}
	if c.cron.everyHour() {
		s.gap, s.fold = 0, 0 // it follows real time: nothing is moved and nothing happens once only
	}
	return s
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

func (c cronTicks) next(t time.Time) (time.Time, bool) {
	at := t.UTC().Truncate(time.Second).Add(time.Second)
	limit := at.AddDate(horizon, 0, 0)
	for at.Before(limit) {
		s := c.segmentAt(at)
		end := limit
		if !s.end.IsZero() && s.end.Before(limit) {
			end = s.end
		}
		// Times in the fold wait for their second pass, in the segment after this one.
		wall, ok := c.cron.atOrAfter(at.Add(s.offset), end.Add(s.offset-s.fold))
		found := wall.Add(-s.offset)
		if s.gap > 0 && at.Before(s.start.Add(s.gap)) {
			// Times that the clock jumped over are read on the clock as it went before.
			before := s.offset - s.gap
			if moved, jumped := c.cron.atOrAfter(at.Add(before), s.start.Add(s.offset).UTC()); jumped {
				if moved = moved.Add(-before); !ok || moved.Before(found) {
					found, ok = moved, true
				}
			}
		}
		if ok {
			return found.UTC(), true
		}
		if s.end.IsZero() {
			break
		}
		at = s.end.UTC()
	}
	return time.Time{}, false
}

func (c cronTicks) prev(t time.Time) (time.Time, bool) {
	at := t.UTC().Add(-1).Truncate(time.Second)
	limit := at.AddDate(-horizon, 0, 0)
	for at.After(limit) {
		s := c.segmentAt(at)
		start := limit
		if !s.start.IsZero() && s.start.After(limit) {
			start = s.start.UTC()
		}
		latest := at
		if s.fold > 0 && !latest.Before(s.end.Add(-s.fold)) {
			latest = s.end.UTC().Add(-s.fold - time.Second)
		}
		wall, ok := c.cron.atOrBefore(latest.Add(s.offset), start.Add(s.offset))
		found := wall.Add(-s.offset)
		if s.gap > 0 {
			before := s.offset - s.gap
			latest := at
			if end := s.start.UTC().Add(s.gap - time.Second); latest.After(end) {
				latest = end
			}
			if moved, jumped := c.cron.atOrBefore(latest.Add(before), s.start.UTC().Add(before)); jumped {
				if moved = moved.Add(-before); !ok || moved.After(found) {
					found, ok = moved, true
				}
			}
		}
		if ok {
			return found.UTC(), true
		}
		if s.start.IsZero() {
			break
		}
		at = s.start.UTC().Add(-time.Second)
	}
	return time.Time{}, false
}

// union ticks whenever one of its members does.
type union []ticks

func (u union) next(t time.Time) (best time.Time, found bool) {
	for _, s := range u {
		if at, ok := s.next(t); ok && (!found || at.Before(best)) {
			best, found = at, true
		}
	}
	return best, found
}

func (u union) prev(t time.Time) (best time.Time, found bool) {
	for _, s := range u {
		if at, ok := s.prev(t); ok && (!found || at.After(best)) {
			best, found = at, true
		}
	}
	return best, found
}
