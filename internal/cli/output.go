package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// output is where commands print, and remembers what kept it from arriving there: a list that was cut off by a full disk
// must not look like a short one.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// written is the fault of the output, if it has one.
func (c *command) written() error {
	if o, ok := c.Out.(*output); ok && o.err != nil {
		return &problem{code: exitHome, err: fmt.Errorf("write the output: %w", reason(o.err))}
	}
	return nil
}

// plain is the writer behind an output, which may be a terminal.
func plain(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.Writer
	}
	return w
}

// show prints a value as JSON or YAML, or lets table print it for people.
func (c *command) show(v any, table func()) error {
	if c.output == "table" {
		table()
		return c.written()
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.IsNil() && r.Type() != reflect.TypeFor[json.RawMessage]() {
		v = []any{} // nothing to list is an empty list
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if c.output == "json" {
		_, err := c.Out.Write(b.Bytes())
		return err
	}
	var node yaml.Node // JSON is YAML; a node keeps the order of members
	if err := yaml.Unmarshal(b.Bytes(), &node); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	blockStyle(&node)
	y := yaml.NewEncoder(c.Out)
	y.SetIndent(2)
	if err := y.Encode(&node); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return y.Close()
}

// blockStyle drops JSON's quotes and braces; the encoder quotes what would otherwise read as something else.
func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// terminal tells whether w is one, and how large.
func terminal(w io.Writer) (width, height int, ok bool) {
	f, isFile := plain(w).(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return width, height, err == nil
}

// colours tells whether output may be coloured: on a terminal, unless NO_COLOR says no.
func (c *command) colours() bool {
	if c.environ["NO_COLOR"] != "" || c.environ["TERM"] == "dumb" {
		return false
	}
	_, _, ok := terminal(c.Out)
	return ok
}

// colour codes of states.
var stateColour = map[string]string{"success": "32", "failed": "31", "upstream_failed": "33", "running": "36", "up_for_retry": "33",
	"up_for_reschedule": "33", "skipped": "35", "queued": "90", "scheduled": "90", "deferred": "35", "restarting": "36", "removed": "90", "-": "90"}

// glyphs of states; each is told apart without colour too.
var stateGlyph = map[string]string{"success": "✓", "failed": "✗", "upstream_failed": "⊘", "running": "▶", "up_for_retry": "↻",
	"up_for_reschedule": "↻", "skipped": "→", "queued": "…", "scheduled": "…", "deferred": "⏸", "restarting": "↻", "removed": "×", "awaiting_input": "?"}

func (c *command) paint(state, s string) string {
	code := stateColour[state]
	if code == "" || !c.colours() {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// table prints aligned columns. A cell that names a state is coloured when colour is on.
func (c *command) table(head []string, rows [][]string) {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], columnsOf(cell))
		}
	}
	for n, row := range append([][]string{head}, rows...) {
		var b strings.Builder
		for i, cell := range row {
			filler := strings.Repeat(" ", width[i]-columnsOf(cell))
			if n > 0 {
				cell = c.paint(cell, cell)
			}
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(filler + "  ")
			}
		}
		fmt.Fprintln(c.Out, strings.TrimRight(b.String(), " "))
	}
}

// oneLine keeps a cell on its line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// cellColumns is how much of a text a table shows: two lines of a terminal.
const cellColumns = 160

// beginning is what a table or a message shows of a text.
func beginning(s string) string { return clip(firstLine(s), cellColumns) }

// firstLine is the first line of a text, with a mark when that is not all.
func firstLine(s string) string {
	first, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if strings.TrimSpace(rest) != "" {
		first += " …"
	}
	return oneLine(first)
}

func str(p *string) string {
	if p == nil {
		return ""
	}
	return oneLine(*p)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// moment is a date as tables show it.
func moment(t *wire.Time) string {
	if t == nil {
		return "-"
	}
	return t.Std().UTC().Format("2006-01-02 15:04:05")
}

// lasted is a duration in words short enough for a table.
func lasted(start, end *wire.Time, now time.Time) string {
	if start == nil {
		return "-"
	}
	until := now
	if end != nil {
		until = end.Std()
	}
	return human(until.Sub(start.Std()))
}

func human(d time.Duration) string {
	switch {
	case d < 0:
		return "0ms"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}
