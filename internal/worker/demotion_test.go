package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

const killerFile = `
import os, signal, time
from datetime import datetime
from airflow import DAG
from airflow.operators.python import PythonOperator

here = os.path.dirname(os.path.abspath(__file__))

def wait_for(name):
    print("up", flush=True)
    while not os.path.exists(os.path.join(here, name + os.environ["OSTRO_TRY_NUMBER"])):
        time.sleep(0.01)

def guilty(signum):
    wait_for("go")
    os.kill(os.getppid(), signum)
    time.sleep(1000)

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None) as dag:
    PythonOperator(task_id="guilty", python_callable=guilty, op_args=[signal.SIGKILL])
    PythonOperator(task_id="asks", python_callable=lambda: os.kill(os.getppid(), signal.SIGTERM))
    PythonOperator(task_id="stops", python_callable=lambda: os.kill(os.getppid(), signal.SIGSTOP))
    PythonOperator(task_id="group", python_callable=lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), os.killpg(0, signal.SIGTERM)) and None)
    for n in range(3):
        PythonOperator(task_id="innocent%d" % n, python_callable=wait_for, op_args=["end"])
`

// killers is a fixture with the real runtime and tasks that do harm to their parent process.
func killers(t *testing.T) (*fixture, func(id string, try int) func(*executor.Attempt)) {
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "killers.py"), []byte(killerFile), 0o644); err != nil {
		t.Fatal(err)
	}
	return f, func(id string, try int) func(*executor.Attempt) {
		return func(a *executor.Attempt) {
			task(id)(a)
			a.Startup.DagRelPath, a.Startup.TI.TryNumber = "killers.py", try
		}
	}
}

func TestATaskThatKeepsKillingItsHostFailsAloneInTheEnd(t *testing.T) {
	t.Parallel()
	f, of := killers(t)
	s := f.connect()
	round := func(try int) (guilty executor.Result, innocent []executor.Result) {
		ids := []string{f.launch(f.attempt("", of("guilty", try)))}
		for n := range 3 {
			ids = append(ids, f.launch(f.attempt("", of(fmt.Sprintf("innocent%d", n), try))))
		}
		for _, id := range ids {
			f.waitForLine(id, "up")
		}
		touch(t, f, fmt.Sprintf("go%d", try))
		guilty = s.result(t, ids[0])
		touch(t, f, fmt.Sprintf("end%d", try))
		for _, id := range ids[1:] {
			innocent = append(innocent, s.result(t, id))
		}
		return guilty, innocent
	}
	for try := 1; try <= 2; try++ {
		guilty, innocent := round(try)
		for _, r := range append(innocent, guilty) {
			if !r.Infra || !strings.Contains(r.Reason, "lost with its DAG host: killed by SIGKILL") {
				t.Errorf("try %d: %+v", try, r)
			}
		}
	}
	guilty, innocent := round(3)
	if guilty.State != run.Failed || guilty.Infra || !strings.Contains(guilty.Reason, "a task that kills its parent process (os.getppid()) does that") {
		t.Errorf("the guilty one: %+v", guilty)
	}
	for _, r := range innocent {
		if r.State != run.Success || r.Isolation != "spawn" || !strings.Contains(r.IsolationReason, "two DAG hosts of the file killers.py were lost within") {
			t.Errorf("an innocent one: %+v", r)
		}
	}
	f.waitForLine(innocent[0].AttemptID, "this task runs in a process of its own: two DAG hosts")
	if log, err := os.ReadFile(filepath.Join(f.home, "logs", "worker.log")); err != nil || !strings.Contains(string(log), "tasks of a file will be spawned, not forked") {
		t.Errorf("the worker's log does not name the file (%v)", err)
	}
}

func TestATaskThatAsksItsHostToEndHarmsNobody(t *testing.T) {
	t.Parallel()
	f, of := killers(t)
	s := f.connect()
	innocent := f.launch(f.attempt("", of("innocent0", 1)))
	f.waitForLine(innocent, "up")
	for range 3 {
		if r := f.do("", of("asks", 1)); r.State != run.Success || r.Isolation != "fork" {
			t.Errorf("one that asks: %+v", r)
		}
	}
	touch(t, f, "end1")
	if r := s.result(t, innocent); r.State != run.Success {
		t.Errorf("another that ran: %+v", r)
	}
}

func touch(t *testing.T, f *fixture, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.bundle, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestASpawnedTaskReachesItsKeeperAndNobodyElse(t *testing.T) {
	t.Parallel()
	f, of := killers(t)
	f.connect()
	worker := f.workerPID()
	spawned := func(a *executor.Attempt) { a.Isolation = "spawn" }
	touch(t, f, "go1")
	if r := f.do("", of("guilty", 1), spawned); r.State != run.Failed || r.Infra || !strings.Contains(r.Reason, "os.getppid()") {
		t.Errorf("one that kills it: %+v", r)
	}
	for _, id := range []string{"stops", "group"} {
		if r := f.do("", of(id, 1), spawned); r.State != run.Success {
			t.Errorf("%s: %+v", id, r)
		}
	}
	if f.workerPID() != worker {
		t.Error("the worker was replaced")
	}
}

func TestAnAttemptWhoseHostIsLostBeforeItWasForkedIsStartedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	running := f.launch(f.attempt(`t.log("warm"); time.sleep(1000)`))
	pid := s.start(t, running).PID
	host := parent(t, pid)
	var waiting []int
	eventually(t, "two forks wait", func() bool {
		waiting = slices.DeleteFunc(spareForks(host), func(one int) bool { return one == pid })
		return len(waiting) == spareCount
	})
	if err := syscall.Kill(host, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, one := range waiting {
		kill(t, one)
	}
	eventually(t, "the forks are dead", func() bool { return !slices.ContainsFunc(waiting, alive) })
	marker := filepath.Join(f.home, "marker")
	var ids []string
	for range 5 {
		ids = append(ids, f.launch(f.attempt(fmt.Sprintf(`open(%q, "a").write("x")`, marker))))
	}
	f.dagFile("other.json", map[string]any{"dags": []string{"d"}})
	f.do(``, inFile("other.json")) // those launched before have asked for their fork, or are about to
	kill(t, host)
	for _, id := range ids {
		if r := s.result(t, id); r.State != run.Success {
			t.Errorf("got %+v", r)
		}
	}
	if ran, _ := os.ReadFile(marker); string(ran) != "xxxxx" {
		t.Errorf("%d processes ran, want 5", len(ran))
	}
	if r := s.result(t, running); !r.Infra {
		t.Errorf("the one that ran: %+v", r)
	}
}

func TestForksThatKillTheirHostBeforeTheyBeginAreSpawnedWithoutAnAttemptLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "at_import": "os.environ['HOST'] = str(os.getpid())",
		"in_fork": "'HOST' in os.environ and os.kill(int(os.environ['HOST']), 9); time.sleep(1000)"})
	s := f.connect()
	marker := filepath.Join(f.home, "marker")
	var ids []string
	for range 4 {
		ids = append(ids, f.launch(f.attempt(fmt.Sprintf(`open(%q, "a").write("x")`, marker))))
	}
	won := 0
	for _, id := range ids {
		switch r := s.result(t, id); {
		case r.State == run.Success:
			won++
		case !r.Infra: // its host had said that it was forked before it was killed
			t.Errorf("got %+v", r)
		}
	}
	if ran, _ := os.ReadFile(marker); len(ran) != won {
		t.Errorf("%d processes ran, %d attempts succeeded", len(ran), won)
	}
	if r := f.do(""); r.State != run.Success {
		t.Errorf("in the end: %+v", r)
	}
}
