package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// A server that is upgraded or killed ends the streams of those who follow a run, and the run goes on: the next server is
// waited for so long.
const (
	successorPatience = 20 * time.Second
	successorPause    = 100 * time.Millisecond
)

// untilOver calls watch, which follows a run and reports whether it has seen its end, again with the next server when the
// stream breaks off before.
func (c *command) untilOver(ctx context.Context, cl *client.Client, watch func(*client.Client) (over bool, err error)) error {
	for {
		over, err := watch(cl)
		var gone *client.Unreachable
		if over || ctx.Err() != nil || err != nil && !errors.As(err, &gone) {
			return err
		}
		next := c.successor(ctx)
		if next == nil {
			return err
		}
		cl = next
	}
}

// successor is the server that answers now or soon; nil when none does.
func (c *command) successor(ctx context.Context) *client.Client {
	ctx, cancel := context.WithTimeout(ctx, successorPatience)
	defer cancel()
	tick := time.NewTicker(successorPause)
	defer tick.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if cl, err := c.connect(); err == nil {
			if _, err := cl.Version(ctx); err == nil {
				return cl
			}
		}
		if !said {
			fmt.Fprintln(c.Err, "The server is gone, the run goes on; waiting for the next server …")
			said = true
		}
	}
}

// told is what has been said of an instance.
type told struct {
	try       int
	started   bool
	ended     string     // the state that was told as its end; empty: none
	lastStart *wire.Time // of the try before
	note      string     // the last line about an instance that neither runs nor has ended
}

// An event is a line about an instance and when what it says came about.
type event struct {
	at   time.Time
	text string
	tail []string // the last lines of its log
}

// An instance in one of these states has come to the end of a try.
var endOfTry = map[string]bool{"success": true, "failed": true, "up_for_retry": true, "skipped": true, "upstream_failed": true, "removed": true}

// These are worth a line although nothing starts or ends.
var pauseOfTry = map[string]bool{"deferred": true, "up_for_reschedule": true, "restarting": true, "awaiting_input": true}

// tell prints what is new of instances, each start and each end of a try once, in the order in which they came about. What
// the server gathers into one message may be several of them.
func (b *board) tell(tis []wire.TaskInstance) {
	var events []event
	for _, ti := range tis {
		events = append(events, b.news(ti)...)
	}
	slices.SortStableFunc(events, func(x, y event) int { return x.at.Compare(y.at) })
	for _, e := range events {
		fmt.Fprintln(b.c.Out, e.text)
		for _, l := range e.tail {
			fmt.Fprintln(b.c.Out, "    "+oneLine(l))
		}
	}
}

// news is what has not been said of an instance.
func (b *board) news(ti wire.TaskInstance) (out []event) {
	name, state := wire.InstanceName(ti.TaskID, ti.MapIndex), stateOf(ti)
	t := b.toldOf(name, ti.TryNumber)
	if ti.TryNumber > t.try {
		out = append(out, b.missed(ti, t)...)
	}
	ends := endOfTry[state]
	if (state == "running" || ends && ran(ti.Hostname)) && t.begins(ti.StartDate) {
		out = append(out, event{at: ti.StartDate.Std(), text: name + " running" + ofTry(ti.TryNumber)})
	}
	switch {
	case ends && t.ended != state:
		t.ended = state
		out = append(out, b.end(name, ti))
	case pauseOfTry[state], state == "scheduled" && remark(ti) != "": // ready, and something holds it back
		text := name + " " + state + ofTry(ti.TryNumber)
		if why := clip(remark(ti), cellColumns); why != "" {
			text += ": " + why
		}
		if text != t.note {
			t.note = text
			out = append(out, event{at: time.Now(), text: text})
		}
	}
	return out
}

// toldOf is what has been said of an instance. Of one that is met in a later try, the tries before it count as missed.
func (b *board) toldOf(name string, try int) *told {
	t := b.told[name]
	if t == nil {
		t = &told{try: try}
		if try > 1 {
			t.try = 0
		}
		b.told[name] = t
	}
	return t
}

// begins reports whether the start of the try is to be said now, and notes that it is. An instance that has just come to a new
// try may still have the start of the one before.
func (t *told) begins(start *wire.Time) bool {
	if t.started || start == nil || t.lastStart != nil && start.Std().Equal(t.lastStart.Std()) {
		return false
	}
	t.started, t.lastStart = true, start
	return true
}

// missed is what has not been said of the tries before the instance's last one, and makes room for that one.
func (b *board) missed(ti wire.TaskInstance, t *told) (out []event) {
	name := wire.InstanceName(ti.TaskID, ti.MapIndex)
	if t.try > 0 && t.ended == "" || ti.TryNumber > t.try+1 {
		for _, try := range b.tries(ti) {
			if try.TryNumber < t.try || try.TryNumber >= ti.TryNumber || try.TryNumber == t.try && t.ended != "" {
				continue
			}
			if ran(try.Hostname) && try.StartDate != nil && (try.TryNumber != t.try || !t.started) {
				out = append(out, event{at: try.StartDate.Std(), text: name + " running" + ofTry(try.TryNumber)})
			}
			if try.StartDate != nil {
				t.lastStart = try.StartDate
			}
			if try.EndDate != nil {
				text := fmt.Sprintf("%s %s%s after %s", name, orDash(str(try.State)), ofTry(try.TryNumber), lasted(try.StartDate, try.EndDate, time.Now()))
				if try.Ostro.Reason != "" {
					text += ": " + beginning(try.Ostro.Reason)
				}
				out = append(out, event{at: try.EndDate.Std(), text: text})
			}
		}
	}
	*t = told{try: ti.TryNumber, lastStart: t.lastStart}
	return out
}

// end is the line for the end of a try.
func (b *board) end(name string, ti wire.TaskInstance) event {
	state := stateOf(ti)
	e := event{at: time.Now(), text: name + " " + state + ofTry(ti.TryNumber)}
	if ti.EndDate != nil {
		e.at = ti.EndDate.Std()
		if ran(ti.Hostname) && (state == "success" || state == "failed" || state == "up_for_retry") {
			e.text += " after " + lasted(ti.StartDate, ti.EndDate, time.Now())
		}
	}
	if why := clip(remark(ti), cellColumns); why != "" {
		e.text += ": " + why
	}
	if state == "failed" || state == "up_for_retry" {
		e.tail = furtherLines(ti.Ostro.Reason)
		if e.tail == nil {
			e.tail = b.tails[name]
		}
	}
	return e
}

// mostReason is how many further lines of a reason are shown: enough for what a message says to add to a file.
const mostReason = 20

// furtherLines are those of a reason beside its first. The end of the log would show a piece of such a message.
func furtherLines(reason string) []string {
	_, rest, _ := strings.Cut(strings.TrimSpace(reason), "\n")
	if strings.TrimSpace(rest) == "" {
		return nil
	}
	lines := strings.Split(rest, "\n")
	if len(lines) > mostReason {
		lines = append(lines[:mostReason], "…")
	}
	return lines
}

// lastWord is the line about a failure that has room below its row: of a reason with several lines the first, which names
// the error, else the last line of its log.
func (b *board) lastWord(ti wire.TaskInstance) string {
	tail := b.tails[wire.InstanceName(ti.TaskID, ti.MapIndex)]
	switch {
	case furtherLines(ti.Ostro.Reason) != nil:
		return firstLine(ti.Ostro.Reason)
	case len(tail) > 0:
		return oneLine(tail[len(tail)-1])
	}
	return ""
}

// ran says whether an instance or a try has had a process, by the host it ran on. What ends without one (skipped with its upstream, empty) has the time of
// its end as its start, as in Airflow.
func ran(hostname *string) bool { return hostname != nil }

// ofTry names the try when it is not the first.
func ofTry(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (try %d)", n)
}
