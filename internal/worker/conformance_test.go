package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// realFile is a DAG file as people write them, run by the real Python runtime.
const realFile = `
import os, sys, time
from datetime import datetime
from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

def note(context):
    print("callback for", context["task_instance"].task_id)

def boom():
    raise ValueError("quality too low")

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None, catchup=False) as dag:
    PythonOperator(task_id="empty", python_callable=lambda: None)
    PythonOperator(task_id="value", python_callable=lambda ds, **_: {"ds": ds, "pid": os.getppid()})
    PythonOperator(task_id="boom", python_callable=boom, on_failure_callback=note)
    PythonOperator(task_id="gone", python_callable=lambda: os._exit(0))
    PythonOperator(task_id="slow", python_callable=lambda: (print("up", flush=True), time.sleep(1000)))
    PythonOperator(task_id="daemon", python_callable=lambda: os.system("setsid sleep 1000 & echo started"))
    BashOperator(task_id="bash", bash_command="echo {{ ds }} $AIRFLOW_CTX_TASK_ID; exit 3")
`

// realFixture is a fixture with the real runtime.
func realFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	runtime, err := filepath.Abs("../../python")
	if err != nil {
		t.Fatal(err)
	}
	f.settings.RuntimePath = runtime
	if err := os.WriteFile(filepath.Join(f.bundle, "real.py"), []byte(realFile), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

// task makes an order to run a task of realFile.
func task(id string) func(*executor.Attempt) {
	return func(a *executor.Attempt) {
		at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		s := &a.Startup
		s.DagRelPath = "real.py"
		s.TI.DAGID, s.TI.TaskID, s.TI.ID = "real", id, "ti-"+id
		s.Context.DagRun = protocol.DagRun{
			DAGID: "real", RunID: "r", RunType: "manual", State: "running", Conf: json.RawMessage("{}"),
			LogicalDate: &at, DataIntervalStart: &at, DataIntervalEnd: &at, RunAfter: at, StartDate: &at,
		}
	}
}

func TestTheRealRuntimeRunsTasksAsTheWorkerExpects(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	s := f.connect()
	s.mu.Lock()
	s.answer = func(string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"type":"OKResponse","ok":true}`), nil
	}
	s.mu.Unlock()
	p := f.parse("real.py")
	if len(p.Described.Errors) > 0 || len(p.Described.DAGs) != 1 {
		t.Fatalf("described: %+v", p.Described)
	}
	if p.Described.ForkUnsafe != "" {
		t.Errorf("fork unsafe: %s", p.Described.ForkUnsafe)
	}

	sub := func(name string, body func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			f.t = t
			body(t)
		})
		f.t = t
	}
	sub("a value becomes an XCom", func(t *testing.T) {
		r := f.do("", task("value"))
		i := slices.IndexFunc(r.XComs, func(x protocol.XComValue) bool { return x.Key == "return_value" })
		if r.State != run.Success || r.Isolation != "fork" || i < 0 || !strings.Contains(string(r.XComs[i].Value), `"2024-01-01"`) {
			t.Errorf("got %+v", r)
		}
	})
	sub("an exception is a failure with its callback run", func(t *testing.T) {
		r := f.do("", task("boom"), func(a *executor.Attempt) { a.Callbacks = []string{"on_failure_callback"} })
		if r.State == run.Success || r.Reason != "ValueError: quality too low" || len(r.CallbacksOwed) != 0 {
			t.Errorf("got %+v", r)
		}
		f.waitForLine(r.AttemptID, "callback for boom")
		f.waitForLine(r.AttemptID, "Traceback")
	})
	sub("an owed callback runs in a process of its own", func(t *testing.T) {
		r := f.do("", task("boom"), func(a *executor.Attempt) {
			a.Startup.Kind = protocol.KindCallback
			a.Startup.Callback = &protocol.CallbackRequest{Kind: "on_failure_callback", Reason: "exit code 3"}
		})
		if r.State != run.Success {
			t.Errorf("got %+v", r)
		}
		f.waitForLine(r.AttemptID, "callback for boom")
	})
	sub("a process that vanishes owes its callback", func(t *testing.T) {
		r := f.do("", task("gone"), func(a *executor.Attempt) { a.Callbacks = []string{"on_failure_callback"} })
		if r.Reported || !strings.Contains(r.Reason, "os._exit(0)") {
			t.Errorf("got %+v", r)
		}
		if diff := cmp.Diff([]string{"on_failure_callback"}, r.CallbacksOwed); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	sub("a task is ended by SIGTERM", func(t *testing.T) {
		id := f.launch(f.attempt("", task("slow")))
		f.waitForLine(id, "up")
		_ = s.Kill(t.Context(), id, "DAG run was marked failed by admin")
		r := s.result(t, id)
		if r.State == run.Success || r.Reason != "killed: DAG run was marked failed by admin" || alive(r.PID) {
			t.Errorf("got %+v", r)
		}
	})
	sub("what a task leaves behind is gone with it", func(t *testing.T) {
		before := len(marked(f.home))
		if r := f.do("", task("daemon")); r.State != run.Success {
			t.Errorf("got %+v", r)
		}
		eventually(t, "the daemon is gone", func() bool { return len(marked(f.home)) <= before+1 }) // and a spare fork
	})
	sub("a template is rendered and reported", func(t *testing.T) {
		r := f.do("", task("bash"))
		if !strings.Contains(string(r.Rendered), "echo 2024-01-01") && !strings.Contains(r.Reason, "inja") {
			t.Errorf("rendered %s, reason %q", r.Rendered, r.Reason)
		}
	})
	sub("spawned, a task does the same", func(t *testing.T) {
		r := f.do("", task("value"), func(a *executor.Attempt) { a.Isolation = "spawn" })
		if r.State != run.Success || r.Isolation != "spawn" || len(r.XComs) == 0 {
			t.Errorf("got %+v", r)
		}
	})
	sub("a killed host takes its task along", func(t *testing.T) {
		id := f.launch(f.attempt("", task("slow")))
		f.waitForLine(id, "up")
		kill(t, parentOf(t, s.start(t, id).PID))
		r := s.result(t, id)
		if !r.Infra || alive(r.PID) {
			t.Errorf("got %+v", r)
		}
	})
}

func TestTheRealRuntimeLeavesNothingWhenTheWorkerIsKilled(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	s := f.connect()
	id := f.launch(f.attempt("", task("slow")))
	f.waitForLine(id, "up")
	pid, seen := s.start(t, id).PID, s.connections()
	kill(t, f.workerPID())
	eventually(t, "the next worker is connected", func() bool { return s.connections() > seen })
	if alive(pid) {
		t.Error("the task outlived its worker")
	}
	if r := f.do("", task("empty")); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var state string
	var ppid int
	if _, err := fmt.Sscan(string(data)[strings.LastIndexByte(string(data), ')')+1:], &state, &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}

// BenchmarkLaunchToFinished is the whole way of an empty Python task but for the store: order, fork, run, end, result.
func BenchmarkLaunchToFinished(b *testing.B) {
	for name, f := range map[string]*fixture{"real": realFixture(b), "least": newFixture(b)} {
		b.Run(name, func(b *testing.B) { benchmarkLaunch(b, f, name == "real") })
	}
}

func benchmarkLaunch(b *testing.B, f *fixture, real bool) {
	f.t = b
	change := func(*executor.Attempt) {}
	if real {
		change = task("empty")
	}
	s := f.connect()
	f.do("", change)
	var took, toStart, inTask []time.Duration
	for b.Loop() {
		a := f.attempt("", change)
		done := s.sink.watch(a.ID)
		began := time.Now()
		f.launch(a)
		<-done
		now := time.Now()
		r := s.result(b, a.ID)
		took = append(took, now.Sub(began))
		toStart = append(toStart, r.StartedAt.Sub(began))
		inTask = append(inTask, r.EndedAt.Sub(*r.StartedAt))
		_ = s.Acknowledge(b.Context(), a.ID)
	}
	for name, ds := range map[string][]time.Duration{"median-ms": took, "start-ms": toStart, "task-ms": inTask} {
		slices.Sort(ds)
		b.ReportMetric(float64(ds[len(ds)/2])/1e6, name)
	}
}

func TestFilesThatMisbehaveAtImportAreImportErrorsOfTheRealRuntime(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	f.connect()
	for _, c := range []struct{ name, text, want string }{
		{"hangs", "import time\ntime.sleep(1000)", "the import took longer than 3s and was ended"},
		{"eats memory", "x = bytearray(400 << 20)\nimport time\ntime.sleep(1000)", "the import used more than 200 MiB of memory and was ended"},
		{"leaves the process", "print('bye', flush=True)\nimport os\nos._exit(4)", "exit code 4"},
		{"calls sys.exit", "import sys\nsys.exit('no')", "exit"},
		{"has a syntax error", "def f(:\n  pass", "invalid syntax"},
		{"is not UTF-8", "x = '\xe9\xff'", "utf-8"},
		{"dies of a signal", "import os\nos.kill(os.getpid(), 11)", "importing bad.py crashed the process (SIGSEGV)"},
		{"is killed", "import os\nos.kill(os.getpid(), 9)", "was ended by SIGKILL: somebody killed it, or the kernel did because memory ran out"},
		{"prints garbage", "print('\\x00\\x01garbage')\nfrom airflow import DAG\nwith DAG('g', schedule=None):\n    from airflow.operators.empty import EmptyOperator\n    EmptyOperator(task_id='e')", ""},
	} {
		if err := os.WriteFile(filepath.Join(f.bundle, "bad.py"), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		p := f.parse("bad.py", func(r *workerapi.Parse) { r.TimeoutSeconds, r.MemoryBytes = 3, 200<<20 })
		if c.want == "" {
			if len(p.Described.Errors) > 0 || len(p.Described.DAGs) != 1 || !strings.Contains(p.Output, "garbage") {
				t.Errorf("%s: %+v", c.name, p)
			}
			continue
		}
		if len(p.Described.Errors) == 0 || !strings.Contains(strings.ToLower(p.Described.Errors[0].Message), strings.ToLower(c.want)) {
			t.Errorf("%s: %+v", c.name, p.Described.Errors)
		}
		if e := p.Described.Errors[0]; c.name == "dies of a signal" && (e.Line != 2 || strings.Contains(e.Traceback, "host.py")) {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}
