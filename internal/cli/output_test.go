package cli

import (
	"bytes"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/api/v2/wire"
)

func TestNothingToListIsAnEmptyListForPrograms(t *testing.T) {
	for format, want := range map[string]string{"json": "[]\n", "yaml": "[]\n"} {
		var out bytes.Buffer
		c := &command{Streams: Streams{Out: &out}, output: format}
		var none []wire.DAG
		if err := c.show(none, nil); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", format, out.String(), want)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Setenv("OSTRO_HOME", t.TempDir())
	for _, format := range []string{"table", "json", "yaml"} {
		var errs bytes.Buffer
		code := Run(t.Context(), []string{"version", "-o", format}, Streams{In: strings.NewReader(""), Out: full{}, Err: &errs})
		if want := "ostro: write the output: no space left on device\n"; code != exitHome || errs.String() != want {
			t.Errorf("%s: exit code %d, %q, want %q", format, code, errs.String(), want)
		}
	}
}

func TestTheFurtherLinesOfAReasonAreShownWithTheState(t *testing.T) {
	var out bytes.Buffer
	c := &command{Streams: Streams{Out: &out}, output: "table"}
	failed := "failed"
	ti := wire.TaskInstance{TaskID: "t", MapIndex: -1, State: &failed, TryNumber: 1}
	ti.Ostro.Reason = "ValueError: not mapped: add\n  images:\n    \x1b[31mx: y\n"
	c.instanceState(ti, []wire.Try{{TryNumber: 1, State: &failed, Ostro: ti.Ostro}})
	want := `TASK  STATE   TRY  STARTED (UTC)  DURATION  REMARK
t     failed  1    -              -         ValueError: not mapped: add …

reason:
  ValueError: not mapped: add
    images:
       [31mx: y

TRY  STATE   STARTED (UTC)  DURATION  REASON
1    failed  -              -         ValueError: not mapped: add …
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestATableShowsTheBeginningOfALongReasonAndTheStateAllThatIsKept(t *testing.T) {
	var out bytes.Buffer
	c := &command{Streams: Streams{Out: &out}, output: "table"}
	failed := "failed"
	ti := wire.TaskInstance{TaskID: "t", MapIndex: -1, State: &failed, TryNumber: 1}
	ti.Ostro.Reason = "ValueError: " + strings.Repeat("x", 3000) + "… (6 000 000 characters in all; the log has them)"
	c.instanceState(ti, []wire.Try{{TryNumber: 1, State: &failed, Ostro: ti.Ostro}})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got := len(lines); got != 8 {
		t.Fatalf("%d lines:\n%s", got, out.String())
	}
	if want := "  " + ti.Ostro.Reason; lines[4] != want {
		t.Errorf("the reason is shown as %.60q", lines[4])
	}
	for _, at := range []int{1, 7} {
		if n := columnsOf(lines[at]); n > 220 || !strings.HasSuffix(lines[at], "x…") {
			t.Errorf("a row of %d columns: %.60q", n, lines[at])
		}
	}
}

func TestTheNextRunOfAPausedDAGSaysWhatComesOfIt(t *testing.T) {
	now := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		paused, catchup bool
		in              time.Duration
		overdue         bool
		want            string
	}{
		{false, true, -time.Hour, false, ""},
		{true, true, time.Hour, false, "it runs only if it is unpaused by then"},
		{true, true, -time.Hour, true, "the runs after it follow (catchup)"},
		{true, false, -time.Hour, true, "the latest run that is due then starts"},
	} {
		at := now.Add(c.in)
		var d wire.DAGDetails
		d.DAGID, d.IsPaused, d.Catchup, d.NextDagrunRunAfter = "d", c.paused, c.catchup, wire.AtPtr(&at)
		late := overdue(d, now)
		if said := whilePaused(d, late); late != c.overdue || !strings.Contains(said, c.want) || !strings.Contains(said, "ostro dags unpause d") {
			t.Errorf("%+v: overdue %t, %s", c, late, said)
		}
	}
}
