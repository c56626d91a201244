package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// barWidth is how many characters the bar of a task has where there is room for it.
const barWidth = 24

// follow shows a run until it ends and returns its result as an error. Between the server's messages a terminal is
// redrawn so that durations move.
func (c *command) follow(ctx context.Context, cl *client.Client, dagID, runID string) error {
	if c.output != "table" {
		return c.waitQuietly(ctx, cl, dagID, runID)
	}
	b := &board{c: c, dagID: dagID, runID: runID, tails: map[string][]string{}, told: map[string]*told{}}
	b.width, b.height, b.live = terminal(c.Out)
	err := c.untilOver(ctx, cl, func(cl *client.Client) (bool, error) {
		b.tries = func(ti wire.TaskInstance) []wire.Try {
			all, err := cl.Tries(ctx, dagID, runID, ti.TaskID, ti.MapIndex)
			if err != nil {
				return nil // the stream goes on and says what matters
			}
			return all
		}
		err := b.stream(ctx, cl)
		return b.over, err
	})
	b.draw()
	if interrupted(ctx) && !b.over {
		return goesOn(dagID, runID)
	}
	return b.result(err)
}

// stream shows what one server says of the run.
func (b *board) stream(ctx context.Context, cl *client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, ended := make(chan wire.Live), make(chan error, 1)
	go func() {
		ended <- cl.Live(ctx, b.dagID, b.runID, func(m wire.Live) error {
			select {
			case messages <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case m := <-messages:
			b.fold(m)
		case <-tick.C:
			if b.live {
				b.draw()
			}
		case err := <-ended:
			return err
		}
	}
}

// waitQuietly waits and prints the final run as JSON or YAML.
func (c *command) waitQuietly(ctx context.Context, cl *client.Client, dagID, runID string) error {
	var run wire.DAGRun
	over := false
	err := c.untilOver(ctx, cl, func(cl *client.Client) (bool, error) {
		last, err := cl.Wait(ctx, dagID, runID)
		if over = err == nil && (last.State == "success" || last.State == "failed"); over {
			run, err = cl.Run(ctx, dagID, runID)
		}
		return over, err
	})
	if interrupted(ctx) && !over {
		return goesOn(dagID, runID)
	}
	if err != nil {
		return err
	}
	if !over {
		return brokenOff(dagID, runID)
	}
	if err := c.show(run, func() {}); err != nil {
		return err
	}
	if run.State != "success" {
		return errFailed
	}
	return nil
}

// interrupted tells whether somebody has ended the command.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// goesOn says to whom a run was shown and who has seen enough that it has not ended with the command.
func goesOn(dagID, runID string) error {
	return &problem{code: exitInterrupted, err: context.Canceled,
		hint: fmt.Sprintf("the run goes on; watch it with: ostro runs watch %s %s, or end it with: ostro runs cancel %s %s", dagID, runID, dagID, runID)}
}

// brokenOff says that no server is there to follow the run with.
func brokenOff(dagID, runID string) error {
	return &problem{code: exitUnreachable, err: fmt.Errorf("the server ended the stream before run %s ended", runID),
		hint: "the run goes on without it; watch again with: ostro runs watch " + dagID + " " + runID}
}

// board is the picture of a run.
type board struct {
	c            *command
	dagID, runID string
	live         bool
	width        int
	height       int
	run          *wire.DAGRun
	tasks        []wire.TaskInstance
	tails        map[string][]string
	told         map[string]*told // where there is no terminal to redraw: what has been said
	tries        func(wire.TaskInstance) []wire.Try
	drawn        int // lines on the screen that the next drawing replaces
	over         bool
}

func (b *board) fold(m wire.Live) {
	if m.Run != nil {
		if !b.live && b.run == nil {
			fmt.Fprintf(b.c.Out, "%s %s: %s\n", m.Run.DAGID, m.Run.DagRunID, m.Run.State)
		}
		b.run = m.Run
	}
	for name, tail := range m.Logs {
		b.tails[name] = tail
	}
	for _, ti := range m.Tasks {
		same := func(x wire.TaskInstance) bool { return x.TaskID == ti.TaskID && x.MapIndex == ti.MapIndex }
		at := slices.IndexFunc(b.tasks, same)
		if at < 0 {
			b.tasks = append(b.tasks, ti)
			byTask(b.tasks)
		} else {
			b.tasks[at] = ti
		}
	}
	if !b.live {
		b.tell(m.Tasks)
	}
	b.over = m.Type == "end"
	if b.live {
		b.draw()
	}
}

// draw puts the table in the place of the last one.
func (b *board) draw() {
	if !b.live || b.run == nil {
		return
	}
	if width, height, ok := terminal(b.c.Out); ok { // it may have been resized
		b.width, b.height = width, height
	}
	var w strings.Builder
	if b.drawn > 0 { // the cursor may be behind a ^C or what else was typed
		fmt.Fprintf(&w, "\r\x1b[%dA\x1b[J", b.drawn)
	}
	rows := b.rows(time.Now())
	for _, row := range rows {
		w.WriteString(row + "\n")
	}
	b.drawn = len(rows)
	_, _ = io.WriteString(b.c.Out, w.String()) // a terminal that is gone ends the command by its signal
}

func (b *board) rows(now time.Time) []string {
	l := b.layout(now)
	out := []string{b.c.paint(b.run.State, b.head(now))}
	from, until := b.span(now)
	tasks, hidden := b.visible()
	for _, ti := range tasks {
		state := stateOf(ti)
		glyph := stateGlyph[state]
		if glyph == "" {
			glyph = "·"
		}
		row := fmt.Sprintf("  %s %s  %s %*s", glyph, pad(clip(wire.InstanceName(ti.TaskID, ti.MapIndex), l.names), l.names), pad(state, l.states),
			l.times, lasted(ti.StartDate, ti.EndDate, now))
		if l.bar > 0 {
			row += "  " + bar(ti, from, until, now, l.bar)
		}
		more := ""
		if ti.TryNumber > 1 {
			more += fmt.Sprintf("  try %d", ti.TryNumber)
		}
		if why := remark(ti); why != "" {
			more += "  " + why
		}
		shown := row + more
		if b.width > 0 && b.width-columnsOf(row) < leastMore { // its beginning would say nothing and cut the row
			shown = row
		}
		out = append(out, b.c.paint(state, clip(shown, b.width)))
		if word := b.below(ti, row+more); word != "" {
			out = append(out, clip("      "+word, b.width))
		}
	}
	if hidden > 0 {
		out = append(out, fmt.Sprintf("  … and %d more", hidden))
	}
	return out
}

// leastMore is the room for what stands behind a row, "  try 2", in which it is begun.
const leastMore = 7

// head is the line about the run. Where it is too long, the names give way: how the run is doing is seen in any case.
func (b *board) head(now time.Time) string {
	name, state := b.run.DAGID+"  "+b.run.DagRunID, "  "+b.run.State+"  "+lasted(b.run.StartDate, b.run.EndDate, now)
	if b.width > 0 {
		name = clip(name, max(b.width-columnsOf(state), 1))
	}
	return clip(name+state, b.width)
}

// layout is how many columns each part of a row has.
type layout struct{ names, states, times, bar int }

// layout shares out the width of the terminal: first the bars give way, then the names, for a state must be seen.
func (b *board) layout(now time.Time) layout {
	const leastBar, leastNames, between = 8, 12, 7 // between them stand spaces and the glyph
	l := layout{names: 4, states: 15, times: 8, bar: barWidth}
	states, times := 0, 0
	for _, ti := range b.tasks {
		l.names = max(l.names, columnsOf(wire.InstanceName(ti.TaskID, ti.MapIndex)))
		states = max(states, len(stateOf(ti)))
		times = max(times, len(lasted(ti.StartDate, ti.EndDate, now)))
	}
	l.names = min(l.names, 40)
	if b.width <= 0 {
		return l
	}
	if l.bar = min(barWidth, b.width-between-l.states-l.times-l.names-2); l.bar >= leastBar {
		return l
	}
	l.bar = 0
	if b.width-between-l.states-l.times < min(l.names, leastNames) {
		l.states, l.times = states, times
	}
	l.names = min(l.names, max(b.width-between-l.states-l.times, leastNames/2))
	return l
}

// below is the line below a row: the last word about a failure, or what holds an instance back, unless the row has room
// to say it.
func (b *board) below(ti wire.TaskInstance, row string) string {
	why, fits := remark(ti), b.width > 0 && columnsOf(row) <= b.width
	switch {
	case endedBadly(ti):
		word := cmp.Or(b.lastWord(ti), why)
		if fits && strings.Contains(why, word) {
			return ""
		}
		return word
	case held(ti) && !fits && b.width > 0:
		return why
	}
	return ""
}

// endedBadly tells whether the last try of an instance failed.
func endedBadly(ti wire.TaskInstance) bool {
	return stateOf(ti) == "failed" || stateOf(ti) == "up_for_retry"
}

// held tells whether an instance waits for something else than its upstream tasks, which are seen, and it is known for what.
func held(ti wire.TaskInstance) bool {
	return ti.EndDate == nil && ti.State != nil && stateOf(ti) != "running" && remark(ti) != ""
}

// visible are the instances there is room for: when not all fit, what runs and what went wrong before what is done.
func (b *board) visible() (tasks []wire.TaskInstance, hidden int) {
	room := max(b.height-3, 1)
	if b.height <= 0 || len(b.tasks) <= room/2 { // some take two lines
		return b.tasks, 0
	}
	rank := func(ti wire.TaskInstance) int {
		switch stateOf(ti) {
		case "failed", "up_for_retry":
			return 0
		case "running", "restarting", "deferred":
			return 1
		case "success", "skipped", "removed":
			return 3
		}
		return 2
	}
	sorted := slices.Clone(b.tasks)
	slices.SortStableFunc(sorted, func(x, y wire.TaskInstance) int { return rank(x) - rank(y) })
	used := 0
	for i, ti := range sorted {
		used++
		if endedBadly(ti) || held(ti) {
			used++
		}
		if used > room {
			return sorted[:i], len(sorted) - i
		}
	}
	return sorted, 0
}

// span is the time the bars cover: from the run's start to its end, or to now.
func (b *board) span(now time.Time) (from, until time.Time) {
	from, until = now, now
	if b.run.StartDate != nil {
		from = b.run.StartDate.Std()
	}
	if b.run.EndDate != nil {
		until = b.run.EndDate.Std()
	}
	return from, until
}

// bar shows when in the run an instance ran, in so many characters.
func bar(ti wire.TaskInstance, from, until, now time.Time, width int) string {
	whole := until.Sub(from)
	if ti.StartDate == nil || whole <= 0 {
		return strings.Repeat("·", width)
	}
	end := now
	if ti.EndDate != nil {
		end = ti.EndDate.Std()
	}
	at := func(t time.Time) int {
		return min(max(int(float64(width)*float64(t.Sub(from))/float64(whole)), 0), width)
	}
	a := min(at(ti.StartDate.Std()), width-1)
	z := max(at(end), a+1)
	return strings.Repeat("·", a) + strings.Repeat("█", z-a) + strings.Repeat("·", width-z)
}

// result is the command's end: how the run ended, or why watching did.
func (b *board) result(err error) error {
	if err != nil {
		return err
	}
	if b.run == nil || !b.over {
		return brokenOff(b.dagID, b.runID)
	}
	if !b.live {
		fmt.Fprintf(b.c.Out, "%s %s: %s in %s\n", b.run.DAGID, b.run.DagRunID, b.run.State, lasted(b.run.StartDate, b.run.EndDate, time.Now()))
	}
	if b.run.State == "success" {
		return nil
	}
	for _, ti := range b.tasks {
		if stateOf(ti) == "failed" {
			index := ""
			if ti.MapIndex >= 0 {
				index = fmt.Sprintf(" --map-index %d", ti.MapIndex)
			}
			fmt.Fprintf(b.c.Err, "See: ostro tasks logs %s %s %s%s\n", b.dagID, ti.TaskID, b.runID, index)
		}
	}
	return errFailed
}
