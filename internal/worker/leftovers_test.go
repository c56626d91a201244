package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

const leftoversFile = `
import os, signal, sys, threading, time
from datetime import datetime, timedelta
from multiprocessing import shared_memory
from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

kept = []

def share():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept.append(shared_memory.SharedMemory("ostro-test-" + os.environ["OSTRO_ATTEMPT_ID"], create=True, size=16))
    print("up", flush=True)
    time.sleep(1000)

def close():
    os.closerange(3, 4096)

def linger():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return 7

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None) as dag:
    PythonOperator(task_id="share", python_callable=share)
    PythonOperator(task_id="close", python_callable=close)
    PythonOperator(task_id="linger", python_callable=linger, execution_timeout=timedelta(seconds=1))
    BashOperator(task_id="slow", bash_command="touch here; echo at $PWD; sleep 1000")
    BashOperator(task_id="quick", bash_command="pwd")
`

// leftovers is a fixture with the real runtime and tasks that leave something behind when they are killed.
func leftovers(t *testing.T) (*fixture, func(id string) func(*executor.Attempt)) {
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "leftovers.py"), []byte(leftoversFile), 0o644); err != nil {
		t.Fatal(err)
	}
	return f, func(id string) func(*executor.Attempt) {
		return func(a *executor.Attempt) {
			task(id)(a)
			a.Startup.DagRelPath = "leftovers.py"
		}
	}
}

func TestSharedMemoryOfATaskIsRemovedHoweverItIsKilled(t *testing.T) {
	t.Parallel()
	f, of := leftovers(t)
	s := f.connect()
	spawned := func(a *executor.Attempt) { a.Isolation = "spawn" }
	forked := func(*executor.Attempt) {}
	for _, c := range []struct {
		name      string
		isolation func(*executor.Attempt)
		end       func(id string, pid int)
	}{
		{"after its grace period", forked, func(id string, _ int) { _ = s.Kill(t.Context(), id, "cleared") }},
		{"after its grace period, spawned", spawned, func(id string, _ int) { _ = s.Kill(t.Context(), id, "cleared") }},
		{"from outside", forked, func(_ string, pid int) { kill(t, pid) }},
		{"its keeper", spawned, func(_ string, pid int) { kill(t, pid) }},
		{"its host", forked, func(_ string, pid int) { kill(t, parent(t, pid)) }},
		{"its host, which hung", forked, func(_ string, pid int) {
			host := parent(t, pid)
			_ = syscall.Kill(host, syscall.SIGSTOP)
			kill(t, host)
		}},
		{"the worker", forked, func(string, int) { kill(t, f.workerPID()) }},
		{"the worker, spawned", spawned, func(string, int) { kill(t, f.workerPID()) }},
	} {
		id := f.launch(f.attempt("", of("share"), c.isolation, func(a *executor.Attempt) { a.Grace = 100 * time.Millisecond }))
		f.waitForLine(id, "up")
		segment := filepath.Join("/dev/shm", "ostro-test-"+id)
		if _, err := os.Stat(segment); err != nil {
			t.Fatal(err)
		}
		seen := s.connections()
		c.end(id, s.start(t, id).PID)
		if strings.Contains(c.name, "the worker") {
			eventually(t, "the next worker is connected", func() bool { return s.connections() > seen })
		} else {
			s.result(t, id)
		}
		if _, err := os.Stat(segment); !os.IsNotExist(err) {
			t.Errorf("%s: the segment is still there (%v)", c.name, err)
			_ = os.Remove(segment)
		}
	}
}

func TestTheFolderOfABashTaskIsGoneWithItsAttempt(t *testing.T) {
	t.Parallel()
	f, of := leftovers(t)
	s := f.connect()
	if r := f.do("", of("quick")); r.State != run.Success {
		t.Errorf("%+v", r)
	}
	for _, how := range []string{"task", "host", "worker"} {
		id := f.launch(f.attempt("", of("slow")))
		place := filepath.Join(f.home, "run", "scratch", id)
		if line := f.waitForLine(id, "at /"); !strings.HasPrefix(line, "at "+place+"/airflowtmp") {
			t.Errorf("it works in another folder: %s", line)
		}
		pid, seen := s.start(t, id).PID, s.connections()
		switch how {
		case "task":
			kill(t, pid)
		case "host":
			kill(t, parent(t, pid))
		case "worker":
			kill(t, f.workerPID())
			eventually(t, "the next worker is connected", func() bool { return s.connections() > seen })
		}
		eventually(t, fmt.Sprintf("the folder is gone after the %s was killed", how), func() bool {
			_, err := os.Stat(place)
			return os.IsNotExist(err)
		})
	}
}

func TestATaskThatSucceededIsSaidToHaveWhenAThreadItLeftRunningIsEndedByItsTimeout(t *testing.T) {
	t.Parallel()
	f, of := leftovers(t)
	f.connect()
	r := f.do("", of("linger"), func(a *executor.Attempt) {
		a.ExecutionTimeout, a.Grace = time.Second, 2*time.Second
	})
	want := "it had succeeded; what went on in its process (a thread, an atexit hook, a callback) was ended: " +
		"it ran longer than its execution timeout of 1s"
	if r.State != run.Success || r.Reason != want || len(r.XComs) != 1 {
		t.Errorf("%+v", r)
	}
	if lines := texts(readLog(t, f.logPath(r.AttemptID)), streamSystem); len(lines) == 0 || lines[len(lines)-1] != want {
		t.Errorf("log: %q", lines)
	}
}

func TestATaskThatClosesItsChannelFailsWithASentence(t *testing.T) {
	t.Parallel()
	f, of := leftovers(t)
	f.connect()
	r := f.do("", of("close"))
	if r.State != run.Failed || r.Infra || !strings.Contains(r.Reason, "the task closed file descriptors that are not its own, the channel to Ostro among them") {
		t.Errorf("got %+v", r)
	}
}
