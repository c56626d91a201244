package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const hostileConfiguration = `
parsing:
  timeout: 3s
  memory: 400000000
tasks:
  kill_grace: 1s
`

const goodDAG = `
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1))
def DAG_ID():
    @task
    def hello():
        return "hello"
    hello()
DAG_ID()
`

func good(dagID string) string { return strings.ReplaceAll(goodDAG, "DAG_ID", dagID) }

// importErrors maps file name to what is said about it.
func (in *installation) importErrors() map[string]string {
	var answer struct {
		ImportErrors []struct {
			Filename   string `json:"filename"`
			StackTrace string `json:"stack_trace"`
		} `json:"import_errors"`
	}
	found := map[string]string{}
	if in.call("GET", "/api/v2/importErrors?limit=100", nil, &answer) == nil {
		for _, e := range answer.ImportErrors {
			found[filepath.Base(e.Filename)] += e.StackTrace
		}
	}
	return found
}

func TestHostileDAGFilesAreReportedAndHarmNothingElse(t *testing.T) {
	header := "from airflow import DAG\n"
	in := newInstallation(t, hostileConfiguration, map[string]string{
		"good.py":    good("good"),
		"hang.py":    header + "while True:\n    pass\n",
		"eat.py":     header + "import time\nx = []\nfor i in range(200):\n    x.append(b'x' * 10_000_000)\n    time.sleep(0.005)\n",
		"exits.py":   header + "import sys\nsys.exit(3)\n",
		"syntax.py":  header + "\ndef broken(:\n    pass\n",
		"latin.py":   header + "# caf\xe9\n",
		"raises.py":  header + "\n\n1 / 0\n",
		"missing.py": header + "import airflow.operators.no_such_thing\n",
		"garbage.py": "import sys, os\nos.write(1, bytes(range(256)) * 100)\n" + good("garbage"),
		"threads.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), name='refresher', daemon=True).start()\n" + good("threads"),
		"first.py":   good("twice"),
		"second.py":  good("twice"),
	})
	want := map[string][]string{
		"hang.py":    {"3"},
		"eat.py":     {"memory"},
		"exits.py":   {"exit", "3"},
		"syntax.py":  {"SyntaxError", "syntax.py", "3"},
		"latin.py":   {"UTF-8", "line 2"},
		"raises.py":  {"ZeroDivisionError", "raises.py", "line 4"},
		"missing.py": {"airflow.operators.no_such_thing", "missing.py"},
		"second.py":  {"twice", "first.py"},
	}
	in.eventually("every broken file is reported", 90*time.Second, func() bool { return len(in.importErrors()) >= len(want) })
	got := in.importErrors()
	for file, words := range want {
		for _, w := range words {
			if !strings.Contains(got[file], w) {
				t.Errorf("the import error of %s does not say %q:\n%s", file, w, got[file])
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("import errors for %d files, want %d: %v", len(got), len(want), got)
	}
	for _, dagID := range []string{"good", "garbage", "threads", "twice"} {
		in.trigger(dagID, "r")
	}
	for _, dagID := range []string{"good", "garbage", "threads", "twice"} {
		in.eventually(dagID+" ends", 60*time.Second, func() bool { return in.state(dagID, "r") == "success" })
	}
	var ti map[string]any
	if err := in.call("GET", "/api/v2/dags/threads/dagRuns/r/taskInstances/hello", nil, &ti); err != nil {
		t.Fatal(err)
	}
	if said := fmt.Sprint(ti["ostro"]); !strings.Contains(said, "spawn") || !strings.Contains(said, "refresher") {
		t.Errorf("the task instance does not say that and why it was spawned: %s", said)
	}

	// A file that breaks keeps its last good version; one that vanishes while it runs ends its run.
	path := filepath.Join(in.home, "dags", "good.py")
	if err := os.WriteFile(path, []byte("def broken(:\n# airflow dag\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in.eventually("the broken file is reported", 30*time.Second, func() bool { return in.importErrors()["good.py"] != "" })
	in.trigger("good", "with-last-good")
	in.eventually("the last good version runs", 30*time.Second, func() bool { return in.state("good", "with-last-good") == "success" })
}

const hostileTasks = `
import os, signal, subprocess, sys, time
from datetime import datetime, timedelta
from airflow import DAG
from airflow.decorators import task

with DAG("hostile", schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0}):
    @task(execution_timeout=timedelta(seconds=1))
    def ignores_term():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                time.sleep(100)
            except BaseException as e:
                print("ignoring", type(e).__name__, flush=True)

    @task(execution_timeout=timedelta(seconds=1))
    def too_long():
        time.sleep(100)

    @task
    def daemonises():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in (0, 1, 2):
                    os.close(fd)
                open("PIDS/daemon", "w").write(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)
        os.wait()
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        while not os.path.exists("PIDS/daemon"):
            time.sleep(0.01)

    @task
    def shouts():
        for i in range(MEGABYTES):
            sys.stdout.write("x" * 1023 + "\n" + ("y" * 1023 + "\n") * 1023)
        return "done"

    @task
    def returns_a_lock():
        import threading
        return {"fine": 1, "lock": threading.Lock()}

    @task
    def exits_with_3():
        os._exit(3)

    @task
    def segfaults():
        os.kill(os.getpid(), signal.SIGSEGV)

    @task
    def raises():
        raise ValueError("no luck")

    for t in (ignores_term, too_long, daemonises, shouts, returns_a_lock, exits_with_3, segfaults, raises):
        t()
`

func TestHostileTasksEndWithTheReasonInWords(t *testing.T) {
	pids := t.TempDir()
	megabytes := fromEnv("OSTRO_CHAOS_MEGABYTES", 30)
	text := strings.NewReplacer("PIDS", pids, "MEGABYTES", fmt.Sprint(megabytes)).Replace(hostileTasks)
	in := newInstallation(t, hostileConfiguration, map[string]string{"hostile.py": text})
	in.trigger("hostile", "r")
	in.eventually("the run ends", 120*time.Second, func() bool { s := in.state("hostile", "r"); return s == "failed" || s == "success" })

	want := map[string]struct{ state, reason string }{
		"ignores_term":   {"failed", "1"},
		"too_long":       {"failed", "timeout"},
		"daemonises":     {"success", ""},
		"shouts":         {"success", ""},
		"returns_a_lock": {"failed", "lock"},
		"exits_with_3":   {"failed", "exit code 3"},
		"segfaults":      {"failed", "SIGSEGV"},
		"raises":         {"failed", "ValueError: no luck"},
	}
	for _, ti := range in.taskInstances("hostile", "r") {
		w := want[ti.TaskID]
		if ti.State != w.state {
			t.Errorf("%s ended as %s, want %s", ti.TaskID, ti.State, w.state)
		}
		var detail struct {
			Ostro struct {
				Reason string `json:"reason"`
			} `json:"ostro"`
		}
		if err := in.call("GET", "/api/v2/dags/hostile/dagRuns/r/taskInstances/"+ti.TaskID, nil, &detail); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ToLower(detail.Ostro.Reason), strings.ToLower(w.reason)) {
			t.Errorf("%s: reason %q does not say %q", ti.TaskID, detail.Ostro.Reason, w.reason)
		}
	}
	daemon, err := os.ReadFile(filepath.Join(pids, "daemon"))
	if err != nil {
		t.Fatal(err)
	}
	if args, err := os.ReadFile("/proc/" + string(daemon) + "/cmdline"); err == nil && len(args) > 0 && bytes.Contains(args, []byte("ostro")) {
		t.Errorf("the daemon %s outlived its task", daemon)
	}
	log, err := os.Stat(filepath.Join(in.home, "logs", "dag_id=hostile", "run_id=r", "task_id=shouts", "attempt=1.log"))
	if err != nil || log.Size() < int64(megabytes)<<20 {
		t.Errorf("the log of shouts is not whole: %v", log)
	}
}
