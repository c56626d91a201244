package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

const loudFile = `
from datetime import datetime
from airflow import DAG
from airflow.operators.python import PythonOperator

def loud():
    raise Exception("x" * 6_000_000)

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None):
    PythonOperator(task_id="loud", python_callable=loud)
`

func TestOfAnExceptionOfAnyLengthTheReasonIsShortAndTheLogWhole(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "loud.py"), []byte(loudFile), 0o644); err != nil {
		t.Fatal(err)
	}
	f.connect()
	r := f.do("", task("loud"), func(a *executor.Attempt) { a.Startup.DagRelPath = "loud.py" })
	if n := utf8.RuneCountInString(r.Reason); r.State != run.UpForRetry || n > excerpt.Reason || !strings.HasPrefix(r.Reason, "Exception: xxx") ||
		!strings.HasSuffix(r.Reason, "… (6 000 011 characters in all; the log has them)") {
		t.Errorf("%s with a reason of %d characters: %.60q", r.State, n, r.Reason)
	}
	kept := 0
	for _, line := range readLog(t, f.logPath(r.AttemptID)) {
		if line.S == streamLog {
			kept += strings.Count(line.M, "x")
		}
	}
	if kept < 6_000_000 {
		t.Errorf("the log has %d of the characters", kept)
	}
}

func TestAReasonThatWasCutInTheMiddleOfASecretShowsNoneOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.MaskedValues = []string{"configured-secret"}
	f.connect()
	r := f.do(`t.send("RetryTask", end_date="2024-01-01T00:00:00Z", reason="it was configured-sec… (9 000 characters in all; the log has them)"); silent = True`)
	if want := "it was … (9 000 characters in all; the log has them)"; r.Reason != want {
		t.Errorf("reason %q, want %q", r.Reason, want)
	}
}

func TestNoticesAreBoundedInNumberAndLength(t *testing.T) {
	var r report
	for i := range 2 * maxNotices {
		r.take(&protocol.AddNotice{Text: fmt.Sprint("notice ", i)})
		r.take(&protocol.AddNotice{Text: "notice 0"}) // again
	}
	r.take(&protocol.AddNotice{Text: strings.Repeat("x", 5000)})
	if len(r.notices) != maxNotices || r.unkept != maxNotices+1 {
		t.Errorf("%d are kept and %d are not", len(r.notices), r.unkept)
	}
	a := &attempt{w: &Worker{}, report: report{notices: r.notices[:1], unkept: 2}, places: func(s string) string { return s }}
	want := []string{"notice 0", "the task had 2 more to say than the 20 that are kept"}
	if diff := cmp.Diff(want, a.judge(ending{}).Notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
	r = report{}
	r.take(&protocol.AddNotice{Text: strings.Repeat("x", 5000)})
	if n := utf8.RuneCountInString(r.notices[0]); n != excerpt.Notice || !strings.HasSuffix(r.notices[0], "… (5 000 characters in all)") {
		t.Errorf("a notice of %d characters: %.60q", n, r.notices[0])
	}
}

func TestAnImportErrorIsBounded(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "broken.py"), []byte(`raise ValueError("x" * 2_000_000)`), 0o644); err != nil {
		t.Fatal(err)
	}
	s := f.connect()
	parsed, err := s.Parse(t.Context(), workerapi.Parse{Version: "v1", TimeoutSeconds: 30,
		Describe: protocol.Describe{Type: "Describe", File: "broken.py", BundlePath: f.bundle}})
	if err != nil || len(parsed.Described.Errors) != 1 {
		t.Fatalf("parse: %+v, %v", parsed, err)
	}
	e := parsed.Described.Errors[0]
	if n := utf8.RuneCountInString(e.Message); n > excerpt.Reason || !strings.HasSuffix(e.Message, "… (2 000 012 characters in all)") {
		t.Errorf("a message of %d characters: %.60q", n, e.Message)
	}
	if n := utf8.RuneCountInString(e.Traceback); n > excerpt.Traceback || !strings.Contains(e.Traceback, "broken.py\", line 1") || !strings.HasSuffix(e.Traceback, " characters in all)") {
		t.Errorf("a traceback of %d characters: %.60q", n, e.Traceback)
	}
}
