package chaos

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patient starts an installation with a task that waits for the gate, and returns when it runs.
func patient(t *testing.T) (in *installation, gate string) {
	t.Helper()
	gate = filepath.Join(t.TempDir(), "gate")
	in = newInstallation(t, configuration, map[string]string{"patient.py": strings.ReplaceAll(patientDAG, "GATE", gate)})
	in.trigger("patient", "r")
	in.eventually("the task runs", 30*time.Second, func() bool { return lines(in.onlyLog("patient", "r", "waits", 1)) >= 20 })
	return in, gate
}

// signal sends a signal to every process whose command line contains word; there must be one.
func (in *installation) signal(word string, s syscall.Signal) {
	in.t.Helper()
	pids := in.processes(word)
	if len(pids) == 0 {
		in.t.Fatalf("no process with %q", word)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil {
			in.t.Fatal(err)
		}
	}
}

func (in *installation) endsInOneTry() {
	in.t.Helper()
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("patient", "r") == "success" })
	if tries := in.tries("patient", "r", "waits"); len(tries) != 1 {
		in.t.Errorf("the task needed %d attempts, want 1: %+v", len(tries), tries)
	}
	got := logMessages(in.t, in.onlyLog("patient", "r", "waits", 1))
	if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "last line of try 1") {
		in.t.Errorf("the log lacks its end: %q", got)
	}
}

func TestAWorkerThatIsStoppedIsReportedAndAdoptedWithNothingLostWhenItWakes(t *testing.T) {
	t.Parallel() // it mostly waits
	in, gate := patient(t)
	in.killServer()
	in.signal("worker", syscall.SIGSTOP)
	in.startServer()
	in.eventually("health says so", 30*time.Second, func() bool {
		_, problem := in.health()
		return strings.Contains(problem, "is stopped") && strings.Contains(problem, "kill -CONT ")
	})
	if said := in.said(); !strings.Contains(said, "kill -CONT ") {
		t.Errorf("the server's log does not say so:\n%s", said)
	}
	openGate(t, gate) // the task ends while nobody listens
	in.signal("worker", syscall.SIGCONT)
	in.endsInOneTry()
	in.eventually("health says no more of it", 30*time.Second, func() bool { _, problem := in.health(); return problem == "" })
}

func TestAConnectedWorkerThatIsStoppedIsReportedToo(t *testing.T) {
	t.Parallel() // it mostly waits
	in, gate := patient(t)
	in.signal("worker", syscall.SIGSTOP)
	in.eventually("health says so", 60*time.Second, func() bool {
		_, problem := in.health()
		return strings.Contains(problem, "is stopped")
	})
	in.signal("worker", syscall.SIGCONT)
	openGate(t, gate)
	in.endsInOneTry()
}

func TestACleanStopEndsAWorkerThatIsStopped(t *testing.T) {
	for name, reachable := range map[string]bool{"while it is connected": true, "that never answered": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			in, gate := patient(t)
			if !reachable {
				in.killServer()
			}
			in.signal("worker", syscall.SIGSTOP)
			if !reachable {
				in.startServer()
			}
			if code := in.stopServer(); code != 0 {
				t.Errorf("the stop ended with %d", code)
			}
			if said := tail(in.log.Name(), 1); !strings.HasPrefix(said, "Ostro stopped: 1 task ended, 0 killed") {
				t.Errorf("the stop said %q", said)
			}
			if left := in.processes(""); len(left) > 0 {
				t.Errorf("the stop left processes behind: %v", left)
			}
			openGate(t, gate)
			in.startServer()
			in.eventually("the run ends", 60*time.Second, func() bool { return in.state("patient", "r") == "success" })
		})
	}
}

func TestAHostThatIsStoppedKeepsNoRunOpen(t *testing.T) {
	t.Parallel() // it mostly waits
	in, gate := patient(t)
	in.signal("ostro.host", syscall.SIGSTOP)
	openGate(t, gate)
	in.endsInOneTry()
	in.trigger("patient", "again")
	in.eventually("another run ends", 60*time.Second, func() bool { return in.state("patient", "again") == "success" })
}

// fullDAG has a task that prints until nobody takes any more, so that a pipe is full when it ends.
const fullDAG = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def full():
    @task
    def fills():
        while not os.path.exists("GATE"):
            time.sleep(0.02)
        os.set_blocking(1, False)
        n, idle = 0, 0
        while idle < 100:
            try:
                os.write(1, ("line %099d\n" % n).encode())
                n, idle = n + 1, 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.01)
        with open("GATE.printed", "w") as f:
            f.write(str(n))
    fills()
full()
`

func TestWhatWaitsInThePipeOfATaskThatEndsOnAFullDiskIsNotLost(t *testing.T) {
	t.Parallel() // it mostly waits
	home, gate := smallDisk(t, "40m"), filepath.Join(t.TempDir(), "gate")
	in := prepare(t, home, configuration, map[string]string{"full.py": strings.ReplaceAll(fullDAG, "GATE", gate)})
	in.startServer()
	in.trigger("full", "r")
	in.eventually("the task runs", 30*time.Second, func() bool { return len(in.processes("ostro task full.fills")) == 1 })
	fill(t, home)
	openGate(t, gate)
	in.eventually("the task has printed all it could and ended", 30*time.Second, func() bool {
		fill(t, home)
		_, err := os.Stat(gate + ".printed")
		return err == nil && len(in.processes("ostro task full.fills")) == 0
	})
	elapse(3 * time.Second) // longer than the worker waits for a pipe that a stranger holds open
	makeRoom(t, home)
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("full", "r") == "success" })
	printed, err := os.ReadFile(gate + ".printed")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range logMessages(t, in.onlyLog("full", "r", "fills", 1)) {
		if strings.HasPrefix(m, "line ") {
			n++
		}
	}
	if strconv.Itoa(n) != string(printed) {
		t.Errorf("%d lines are in the log, the task printed %s", n, printed)
	}
	t.Logf("%d lines", n)
}
