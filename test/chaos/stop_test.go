package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stubbornDAG has a task that obeys TERM and one that ignores it; both end at once when they run again.
const stubbornDAG = `
import os, signal, time
from datetime import datetime
from airflow.decorators import dag, task

def first(name):
    if os.path.exists("MARKS/" + name):
        return False
    open("MARKS/" + name, "w").close()
    return True

@dag(schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0})
def stubborn():
    @task
    def obeys():
        while first("obeys") or os.path.exists("MARKS/wait"):
            time.sleep(100)

    @task
    def ignores():
        if first("ignores"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(100)
    obeys()
    ignores()
stubborn()
`

func stubborn(t *testing.T, grace string) (in *installation, marks string) {
	t.Helper()
	marks = t.TempDir()
	in = newInstallation(t, "tasks:\n  kill_grace: "+grace+"\n", map[string]string{"stubborn.py": strings.ReplaceAll(stubbornDAG, "MARKS", marks)})
	in.trigger("stubborn", "r")
	in.eventually("both tasks run", 30*time.Second, func() bool {
		found, _ := filepath.Glob(filepath.Join(marks, "*"))
		return len(found) == 2
	})
	return in, marks
}

func (in *installation) checkInterrupted() {
	in.t.Helper()
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("stubborn", "r") == "success" })
	for _, ti := range in.taskInstances("stubborn", "r") {
		if ti.TryNumber != 2 {
			in.t.Errorf("%s needed %d attempts, want 2", ti.TaskID, ti.TryNumber)
		}
		if tries := in.tries("stubborn", "r", ti.TaskID); !strings.Contains(tries[0].Ostro.Reason, "the server was stopped") {
			in.t.Errorf("%s: the first try does not say why it ended: %+v", ti.TaskID, tries)
		}
	}
}

func TestACleanStopEndsEveryTaskSaysSoAndTheNextStartRunsThemAgain(t *testing.T) {
	in, _ := stubborn(t, "1s")
	if code := in.stopServer(); code != 0 {
		t.Errorf("the stop ended with %d", code)
	}
	if said, want := tail(in.log.Name(), 1), "Ostro stopped: 1 task ended, 1 killed, results stored."; said != want {
		t.Errorf("the stop said %q, want %q", said, want)
	}
	if left := in.processes(""); len(left) > 0 {
		t.Errorf("the stop left processes behind: %v", left)
	}
	in.startServer()
	in.checkInterrupted()
}

func TestASecondInterruptEndsTheServerAtOnceAndTheNextOneGoesOn(t *testing.T) {
	t.Parallel() // it mostly waits
	in, _ := stubborn(t, "4s")
	_ = in.server.Process.Signal(syscall.SIGINT)
	in.eventually("the server stops", 10*time.Second, func() bool { return strings.Contains(in.said(), "tasks are asked to end") })
	_ = in.server.Process.Signal(syscall.SIGINT)
	_ = in.server.Wait()
	in.server = nil
	if strings.Contains(in.said(), "stopped:") {
		t.Errorf("the second interrupt did not end the orderly stop:\n%s", in.said())
	}
	in.startServer()
	in.checkInterrupted()
}

func TestAServerOfAnotherBuildAdoptsTheTasksOfTheKilledOne(t *testing.T) {
	upgraded, gate := anotherBuild(t), filepath.Join(t.TempDir(), "gate")
	in := newInstallation(t, configuration, map[string]string{"patient.py": strings.ReplaceAll(patientDAG, "GATE", gate)})
	in.trigger("patient", "r")
	in.eventually("the task runs", 30*time.Second, func() bool { return lines(in.onlyLog("patient", "r", "waits", 1)) >= 20 })
	worker := in.processes("worker")
	in.killServer()
	in.binary = upgraded
	in.startServer()
	if stdout, _, _ := in.ostro("version"); !strings.Contains(stdout, "99.0.0") {
		t.Errorf("the new server does not say its version: %s", stdout)
	}
	openGate(t, gate)
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("patient", "r") == "success" })
	if tries := in.tries("patient", "r", "waits"); len(tries) != 1 {
		t.Errorf("the adopted task needed %d attempts, want 1", len(tries))
	}
	if now := in.processes("worker"); len(now) != 1 || now[0] != worker[0] {
		t.Errorf("the worker was %v and is %v while it had a task", worker, now)
	}
	in.eventually("the worker is replaced when it is idle", 30*time.Second, func() bool {
		now := in.processes("worker")
		return len(now) == 1 && now[0] != worker[0]
	})
	in.trigger("patient", "again")
	in.eventually("another run ends", 30*time.Second, func() bool { return in.state("patient", "again") == "success" })
}

// heartbeatDAG has a task with a daemonised grandchild; both write their attempt to a file all the time.
const heartbeatDAG = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task

def beat(who, n):
    fd = os.open("BEATS", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while not os.path.exists("GATE"):
        os.write(fd, ("%d %s\n" % (n, who)).encode())
        time.sleep(0.005)

@dag(schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0})
def heartbeat():
    @task
    def beats(ti=None):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                beat("daemon", ti.try_number)
            os._exit(0)
        os.wait()
        beat("task", ti.try_number)
    beats()
heartbeat()
`

func TestAKilledWorkersProcessesAreGoneBeforeTheRetryBegins(t *testing.T) {
	dir := t.TempDir()
	beats, gate := filepath.Join(dir, "beats"), filepath.Join(dir, "gate")
	text := strings.NewReplacer("BEATS", beats, "GATE", gate).Replace(heartbeatDAG)
	in := newInstallation(t, configuration, map[string]string{"heartbeat.py": text})
	in.trigger("heartbeat", "r")
	for _, n := range []string{"1", "2", "3"} {
		in.eventuallyBeats(beats, n)
		in.killWorker()
	}
	in.eventuallyBeats(beats, "4")
	openGate(t, gate)
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("heartbeat", "r") == "success" })
	text2, err := os.ReadFile(beats)
	if err != nil {
		t.Fatal(err)
	}
	newest := "1"
	for line := range strings.Lines(string(text2)) {
		n, who, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n < newest {
			t.Fatalf("the %s of try %s was alive after try %s had begun", who, n, newest)
		}
		newest = n
	}
	if newest != "4" {
		t.Errorf("the last try was %s, want 4", newest)
	}
}

func (in *installation) eventuallyBeats(path, try string) {
	in.t.Helper()
	in.eventually("task and daemon of try "+try+" live", 30*time.Second, func() bool {
		text, _ := os.ReadFile(path)
		return strings.Contains(string(text), try+" task\n") && strings.Contains(string(text), try+" daemon\n")
	})
}

func TestATaskWhoseWorkerDiesAgainAndAgainFailsWithTheReasonInWords(t *testing.T) {
	dir := t.TempDir()
	beats := filepath.Join(dir, "beats")
	text := strings.NewReplacer("BEATS", beats, "GATE", filepath.Join(dir, "gate")).Replace(heartbeatDAG)
	in := newInstallation(t, "scheduler:\n  max_infra_retries: 2\n", map[string]string{"heartbeat.py": text})
	in.trigger("heartbeat", "r")
	for _, n := range []string{"1", "2", "3"} {
		in.eventuallyBeats(beats, n)
		in.killWorker()
	}
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("heartbeat", "r") == "failed" })
	tries := in.tries("heartbeat", "r", "beats")
	if len(tries) != 3 || !strings.Contains(tries[len(tries)-1].Ostro.Reason, "worker") {
		t.Errorf("the reason is not said in words: %+v", tries)
	}
	ti := in.taskInstances("heartbeat", "r")[0]
	if !strings.Contains(ti.Ostro.Reason, "worker") {
		t.Errorf("the task instance's reason is %q", ti.Ostro.Reason)
	}
	t.Logf("reason: %s", ti.Ostro.Reason)
}
