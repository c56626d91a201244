package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// aRun is a board of a run with one instance in each of some states, for a terminal of a width.
func aRun(width int) *board {
	at := wire.At(time.Unix(0, 0))
	b := &board{c: &command{output: "table"}, width: width, height: 24, tails: map[string][]string{"火曜日の予測モデルを訓練する": {"ValueError: 日本語のエラー " + strings.Repeat("長い", 60)}},
		run: &wire.DAGRun{DAGID: "a_pipeline", DagRunID: "manual__2026-11-23T05:10:17.410175+00:00", State: "running", StartDate: &at}}
	for _, t := range []struct{ name, state, reason string }{
		{"a_task_with_a_name_that_is_longer_than_others", "success", ""},
		{"火曜日の予測モデルを訓練する", "failed", "ValueError: 日本語のエラー " + strings.Repeat("長い", 60)},
		{"flaky", "up_for_retry", ""},
		{"after", "scheduled", "pool gpu is full: 2 of 2 slots are taken by other tasks of this installation"},
	} {
		ti := wire.TaskInstance{TaskID: t.name, MapIndex: -1, State: &t.state, TryNumber: 2}
		ti.Ostro.Reason = t.reason
		if t.state != "scheduled" {
			ti.StartDate, ti.EndDate = &at, &at
		}
		b.tasks = append(b.tasks, ti)
	}
	return b
}

func TestARunFitsTheTerminalAndItsStatesAreSeen(t *testing.T) {
	for _, width := range []int{40, 60, 80, 100, 390} {
		text := strings.Join(aRun(width).rows(time.Unix(9, 0)), "\n")
		for row := range strings.SplitSeq(text, "\n") {
			if n := columnsOf(row); n > width {
				t.Errorf("%d columns of %d: %s", n, width, row)
			}
			if strings.Contains(row, "up_for_retry") && !strings.Contains(row, "0ms") {
				t.Errorf("%d columns cut the duration: %s", width, row)
			}
		}
		for _, want := range []string{"  running  9.00s", "  0ms", " success ", " failed ", " scheduled ", "pool gpu is full: 2 of 2", "ValueError: 日本語", "a_task_with"} {
			if !strings.Contains(text, want) {
				t.Errorf("%d columns show no %q:\n%s", width, want, text)
			}
		}
	}
	if rows := aRun(10).rows(time.Unix(9, 0)); columnsOf(rows[0]) > 10 || columnsOf(rows[1]) > 10 {
		t.Errorf("10 columns:\n%s", strings.Join(rows, "\n"))
	}
}

func TestWhatARowSaysIsNotSaidAgainBelowIt(t *testing.T) {
	if text := strings.Join(aRun(390).rows(time.Unix(9, 0)), "\n"); strings.Count(text, "ValueError") != 1 || strings.Count(text, "pool gpu") != 1 {
		t.Errorf("said twice:\n%s", text)
	}
	if rows := aRun(200).rows(time.Unix(9, 0)); len(rows) != 6 { // the failure's row is cut, so the line below it names the error
		t.Errorf("%d rows:\n%s", len(rows), strings.Join(rows, "\n"))
	}
}

func TestTheColumnsOfATextAreThoseOfATerminal(t *testing.T) {
	for text, want := range map[string]int{"abc": 3, "jürgen": 6, "ju\u0308rgen": 6, "日本": 4, "✓ ok": 4, "🚀": 2, "한글": 4, "": 0} {
		if got := columnsOf(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
	for text, want := range map[string]string{"abcdef": "abc…", "日本語": "日…", "abcd": "abcd", "ab日本": "ab…"} {
		if got := clip(text, 4); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
}

func TestWhoStopsWatchingIsToldThatTheRunGoesOn(t *testing.T) {
	for _, format := range []string{"table", "json"} {
		ctx, cancel := context.WithCancel(t.Context())
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			cancel() // as Ctrl-C does
			<-r.Context().Done()
		}))
		var out bytes.Buffer
		err := (&command{Streams: Streams{Out: &out, Err: &out}, output: format}).follow(ctx, client.New(server.URL, "t"), "d", "r")
		server.Close()
		cancel()
		code, hint := codeOf(err)
		if code != exitInterrupted || !strings.Contains(hint, "the run goes on") || !strings.Contains(hint, "ostro runs cancel d r") || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %v, %s, %s", format, code, err, hint, out.String())
		}
	}
}
