package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
)

// A script feeds a log by hand: what came, in the order in which the worker saw it. Times are milliseconds.
type script struct {
	log        *logFile
	zero       time.Time
	outs, errs lineCutter
	read       [2]int64
}

func newScript(l *logFile) *script {
	return &script{log: l, zero: time.Now().Add(-time.Second), outs: lineCutter{log: l, stream: streamOut},
		errs: lineCutter{log: l, stream: streamErr}}
}

func (s *script) at(ms int) time.Time { return s.zero.Add(time.Duration(ms) * time.Millisecond) }

func (s *script) printed(ms int, text string) {
	s.outs.writeAt(s.at(ms), []byte(text))
	s.read[0] += int64(len(text))
	s.log.Reached(streamOut, s.read[0])
}

func (s *script) complained(ms int, text string) {
	s.errs.writeAt(s.at(ms), []byte(text))
	s.read[1] += int64(len(text))
	s.log.Reached(streamErr, s.read[1])
}

func (s *script) logged(ms int, text string, after ...int64) {
	s.log.Add(entry{at: s.at(ms), stream: streamLog, level: "info", text: text, after: after, since: time.Now()})
}

func TestRecordsAreStoredWhereTheTaskMadeThem(t *testing.T) {
	for name, c := range map[string]struct {
		play func(*script)
		want []string
	}{
		"in order":                  {func(s *script) { s.printed(1, "a\n"); s.logged(2, "b", 2, 0); s.printed(3, "c\n") }, []string{"a", "b", "c"}},
		"a record comes early":      {func(s *script) { s.logged(2, "b", 2, 0); s.printed(3, "a\nc\n") }, []string{"a", "b", "c"}},
		"several come early":        {func(s *script) { s.logged(1, "b", 2, 0); s.logged(2, "c", 2, 0); s.printed(3, "a\nd\n") }, []string{"a", "b", "c", "d"}},
		"a record comes late":       {func(s *script) { s.printed(3, "a\nc\n"); s.logged(2, "b", 2, 0) }, []string{"a", "c", "b"}},
		"a child printed before it": {func(s *script) { s.printed(1, "of a child\n"); s.logged(2, "b", 0, 0) }, []string{"of a child", "b"}},
		"a line is not whole yet":   {func(s *script) { s.printed(1, "a"); s.logged(2, "b", 1, 0); s.printed(3, "c\n") }, []string{"b", "ac"}},
		"nothing is known of it":    {func(s *script) { s.printed(3, "a\n"); s.logged(2, "b") }, []string{"a", "b"}},
		"what it waits for is lost": {func(s *script) { s.logged(2, "b", 100, 0); s.log.System("error", "the end") }, []string{"b", "the end"}},
		"nothing comes after it":    {func(s *script) { s.logged(2, "b", 100, 0) }, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, path := testLog(t, nil)
			c.play(newScript(l))
			l.Close()
			lines := readLog(t, path)
			if diff := cmp.Diff(c.want, texts(lines, "")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !slices.IsSortedFunc(lines, func(a, b logLine) int { return a.T.Compare(b.T) }) {
				t.Errorf("the times go backwards: %v", lines)
			}
		})
	}
}

func TestARecordIsHeldBackForAMomentOnly(t *testing.T) {
	l, path := testLog(t, nil)
	newScript(l).logged(1, "alone", 100, 0)
	eventually(t, "the record is stored", func() bool {
		data, _ := os.ReadFile(path)
		return strings.Contains(string(data), "alone")
	})
}

func TestALineOfOneStreamWaitsBehindARecordThatWaitsForTheOther(t *testing.T) {
	l, path := testLog(t, nil)
	s := newScript(l)
	s.logged(2, "b", 2, 0)
	s.complained(3, "c\n")
	s.logged(4, "d", 2, 2)
	s.printed(5, "a\n")
	l.Close()
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, texts(readLog(t, path), "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatATaskPrintedElsewhereIsWaitedForOnce(t *testing.T) {
	l, path := testLog(t, nil)
	s := newScript(l)
	s.logged(1, "a", 100, 0) // printed to a file in the place of stdout
	eventually(t, "the record is stored", func() bool {
		data, _ := os.ReadFile(path)
		return strings.Contains(string(data), `"a"`)
	})
	s.printed(2, "b\n")
	s.logged(3, "c", 102, 0)
	s.printed(4, "d\n")
	l.Close()
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, texts(readLog(t, path), "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTimesDoNotGoBackwardsAcrossWhatIsWrittenAlready(t *testing.T) {
	l, path := testLog(t, nil)
	s := newScript(l)
	s.printed(5, "a\n")
	l.Flush()
	s.logged(1, "b", 0, 0)
	s.printed(2, "c\n")
	l.Close()
	lines := readLog(t, path)
	if !slices.IsSortedFunc(lines, func(a, b logLine) int { return a.T.Compare(b.T) }) {
		t.Errorf("the times go backwards: %v", lines)
	}
}

func TestWhatATaskPrintsAndLogsKeepsItsOrder(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	text := `
import logging, sys
from datetime import datetime
from airflow import DAG
from airflow.operators.python import PythonOperator
def work():
    for i in range(0, 300, 3):
        print(i)
        logging.info("%d", i + 1)
        print(i + 2)
    raise ValueError("the end")
with DAG("real", start_date=datetime(2024, 1, 1), schedule=None, catchup=False) as dag:
    PythonOperator(task_id="work", python_callable=work)
`
	if err := os.WriteFile(filepath.Join(f.bundle, "order.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f.connect()
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint(i))
	}
	for range 5 {
		r := f.do("", task("work"), inFile("order.py"))
		if r.State != run.UpForRetry && r.State != run.Failed {
			t.Fatalf("%+v", r)
		}
		lines := readLog(t, f.logPath(r.AttemptID))
		got := texts(lines, "")
		if !strings.Contains(got[len(got)-1], "ValueError: the end") {
			t.Errorf("the last line is %q", got[len(got)-1])
		}
		if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if !slices.IsSortedFunc(lines, func(a, b logLine) int { return a.T.Compare(b.T) }) {
			t.Errorf("the times go backwards")
		}
	}
}
