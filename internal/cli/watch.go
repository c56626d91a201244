package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// barWidth is how many characters the bar of a task has.
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
	var w strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&w, "\x1b[%dA\x1b[J", b.drawn)
	}
	rows := b.rows(time.Now())
	for _, row := range rows {
		w.WriteString(row + "\n")
	}
	b.drawn = len(rows)
	_, _ = io.WriteString(b.c.Out, w.String()) // a terminal that is gone ends the command by its signal
}

func (b *board) rows(now time.Time) []string {
	names := 4
	for _, ti := range b.tasks {
		names = max(names, utf8.RuneCountInString(wire.InstanceName(ti.TaskID, ti.MapIndex)))
	}
	names = min(names, 40)
	head := fmt.Sprintf("%s  %s  %s  %s", b.run.DAGID, b.run.DagRunID, b.run.State, lasted(b.run.StartDate, b.run.EndDate, now))
	out := []string{b.paintRow(b.run.State, head)}
	from, until := b.span(now)
	tasks, hidden := b.visible()
	for _, ti := range tasks {
		state := stateOf(ti)
		glyph := stateGlyph[state]
		if glyph == "" {
			glyph = "·"
		}
		name := clip(wire.InstanceName(ti.TaskID, ti.MapIndex), names)
		row := fmt.Sprintf("  %s %s  %-15s %8s  %s", glyph, name+strings.Repeat(" ", names-utf8.RuneCountInString(name)), state,
			lasted(ti.StartDate, ti.EndDate, now), bar(ti, from, until, now))
		if ti.TryNumber > 1 {
			row += fmt.Sprintf("  try %d", ti.TryNumber)
		}
		if why := remark(ti); why != "" {
			row += "  " + why
		}
		out = append(out, b.paintRow(state, row))
		if word := b.lastWord(ti); word != "" && (state == "failed" || state == "up_for_retry") {
			out = append(out, clip("      "+word, b.width))
		}
	}
	if hidden > 0 {
		out = append(out, fmt.Sprintf("  … and %d more", hidden))
	}
	return out
}

// visible are the instances there is room for: when not all fit, what runs and what went wrong before what is done.
func (b *board) visible() (tasks []wire.TaskInstance, hidden int) {
	room := b.height - 3
	if room < 1 || len(b.tasks) <= room/2 { // a failure takes two lines
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
		if rank(ti) == 0 {
			used++
		}
		if used > room {
			return sorted[:i], len(sorted) - i
		}
	}
	return sorted, 0
}

// paintRow cuts a row to the terminal, so that it takes one line, and colours it by state.
func (b *board) paintRow(state, row string) string { return b.c.paint(state, clip(row, b.width)) }

func clip(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
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

// bar shows when in the run an instance ran.
func bar(ti wire.TaskInstance, from, until, now time.Time) string {
	whole := until.Sub(from)
	if ti.StartDate == nil || whole <= 0 {
		return strings.Repeat("·", barWidth)
	}
	end := now
	if ti.EndDate != nil {
		end = ti.EndDate.Std()
	}
	at := func(t time.Time) int {
		return min(max(int(float64(barWidth)*float64(t.Sub(from))/float64(whole)), 0), barWidth)
	}
	a := min(at(ti.StartDate.Std()), barWidth-1)
	z := max(at(end), a+1)
	return strings.Repeat("·", a) + strings.Repeat("█", z-a) + strings.Repeat("·", barWidth-z)
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
