package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// spareForks returns the children of a host; while no task runs, they wait for one.
func spareForks(host int) []int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", host, host))
	if err != nil {
		return nil
	}
	var found []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && alive(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// whoRan runs a task and returns its process and its host's.
func (f *fixture) whoRan(t *testing.T) (pid, host int) {
	t.Helper()
	r := f.do(`print(os.getpid(), os.getppid())`)
	if r.State != run.Success {
		t.Fatalf("the task ended as %s: %s", r.State, r.Reason)
	}
	if _, err := fmt.Sscan(texts(readLog(t, f.logPath(r.AttemptID)), streamOut)[0], &pid, &host); err != nil {
		t.Fatal(err)
	}
	return pid, host
}

func TestTasksRunInForksThatWaitedForThemAndTheseGoWhenNoneCome(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	_, host := f.whoRan(t)
	var waiting []int
	for range 5 {
		eventually(t, "two forks wait", func() bool { waiting = spareForks(host); return len(waiting) == spareCount })
		pid, its := f.whoRan(t)
		if its != host || !slices.Contains(waiting, pid) {
			t.Fatalf("process %d of host %d ran the task; of host %d, %v waited for one", pid, its, host, waiting)
		}
	}
	eventually(t, "they are gone, and the host stays", func() bool { return len(spareForks(host)) == 0 && alive(host) })
	if _, its := f.whoRan(t); its != host {
		t.Errorf("another host, %d, ran the next task", its)
	}
}

func TestForksThatDieWhileTheyWaitAreReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	_, host := f.whoRan(t)
	for range 10 {
		var waiting []int
		eventually(t, "two forks wait", func() bool { waiting = spareForks(host); return len(waiting) == spareCount })
		for _, pid := range waiting {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		eventually(t, "they are dead", func() bool { return !slices.ContainsFunc(waiting, alive) })
		f.whoRan(t) // whether the worker has heard of it already or not
	}
}

func TestNoForkOutlivesTheHostOrTheWorkerItWaitsFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	_, host := f.whoRan(t)
	var waiting []int
	eventually(t, "two forks wait", func() bool { waiting = spareForks(host); return len(waiting) == spareCount })
	_ = syscall.Kill(host, syscall.SIGKILL)
	eventually(t, "they die with the host", func() bool { return !slices.ContainsFunc(waiting, alive) })
	_, host = f.whoRan(t)
	eventually(t, "two forks wait again", func() bool { waiting = spareForks(host); return len(waiting) == spareCount })
	kill(t, f.workerPID())
	eventually(t, "they die with the worker", func() bool { return !slices.ContainsFunc(waiting, alive) })
	f.disconnect()
}

const factoryFile = `
import logging, os
from airflow import DAG
from airflow.operators.python import PythonOperator

former = logging.getLogRecordFactory()

def factory(*args, **kwargs):
    record = former(*args, **kwargs)
    record.attempt = os.environ["OSTRO_ATTEMPT_ID"]
    return record

logging.setLogRecordFactory(factory)

with DAG("factory", schedule=None) as dag:
    PythonOperator(task_id="t", python_callable=lambda: 1)
`

func TestForksThatWaitSurviveAFileWhoseLoggingNeedsATask(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "factory.py"), []byte(factoryFile), 0o644); err != nil {
		t.Fatal(err)
	}
	f.serveAnswers(f.connect())
	for range 12 {
		r := f.do("", task("t"), inFile("factory.py"), func(a *executor.Attempt) {
			a.Startup.TI.DAGID, a.Startup.Context.DagRun.DAGID = "factory", "factory"
		})
		if r.State != run.Success {
			t.Fatalf("%s: %s", r.State, r.Reason)
		}
	}
}
