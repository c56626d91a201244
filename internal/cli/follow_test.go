package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// failedBoard is a board that shows one failed task, with a reason and the end of its log.
func failedBoard(reason string, tail ...string) (*board, *bytes.Buffer) {
	var out bytes.Buffer
	failed, host := "failed", "here"
	ti := wire.TaskInstance{TaskID: "pod", MapIndex: -1, State: &failed, TryNumber: 1, Hostname: &host}
	ti.Ostro.Reason = reason
	b := &board{c: &command{Streams: Streams{Out: &out}, output: "table"}, run: &wire.DAGRun{}, tasks: []wire.TaskInstance{ti},
		tails: map[string][]string{"pod": tail}, told: map[string]*told{}}
	return b, &out
}

func TestAFailureWithSeveralLinesIsToldWhole(t *testing.T) {
	b, out := failedBoard("AirflowException: no cluster; add\n  pods: process\n  images:\n    x: y\n", "  images:", "    x: y")
	b.tell(b.tasks)
	want := "pod failed: AirflowException: no cluster; add …\n      pods: process\n      images:\n        x: y\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	b, out = failedBoard("ValueError: no", "Traceback", "ValueError: no")
	b.tell(b.tasks)
	if want := "pod failed: ValueError: no\n    Traceback\n    ValueError: no\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestTheLineBelowAFailureNamesTheError(t *testing.T) {
	for _, c := range []struct {
		reason string
		tail   []string
		want   string
	}{
		{"AirflowException: no cluster; add\n  x: y", []string{"  x: y"}, "AirflowException: no cluster; add …"},
		{"exit code 3", []string{"Traceback", "OSError: gone"}, "OSError: gone"},
	} {
		b, _ := failedBoard(c.reason, c.tail...)
		rows := b.rows(time.Time{})
		if got := strings.TrimSpace(rows[len(rows)-1]); got != c.want {
			t.Errorf("%q: %q below it, want %q", c.reason, got, c.want)
		}
	}
}

func TestAReasonWithoutEndIsCut(t *testing.T) {
	if got := furtherLines(strings.Repeat("line\n", 100)); len(got) != mostReason+1 || got[mostReason] != "…" {
		t.Errorf("%d lines: %s", len(got), fmt.Sprint(got))
	}
}
