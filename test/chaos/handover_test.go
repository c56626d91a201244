package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tickingDAG has one task that counts in its log until a file is there. GATE is replaced.
const tickingDAG = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0})
def ticking():
    @task
    def ticks():
        n = 0
        while not os.path.exists("GATE"):
            print("tick %d" % n, flush=True)
            n += 1
            time.sleep(0.01)
        return n
    ticks()
ticking()
`

// buildAnother builds the program with another version, beside the first.
var buildAnother = sync.OnceValues(func() (string, error) {
	path := binary + "-99"
	out, err := exec.Command("go", "build", "-ldflags", "-X ostro.dev/ostro/internal/cli.programVersion=99.0.0", "-o", path, "ostro.dev/ostro/cmd/ostro").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build ostro: %w\n%s", err, out)
	}
	return path, err
})

// anotherBuild is the program with version 99.0.0.
func anotherBuild(t *testing.T) string {
	t.Helper()
	path, err := buildAnother()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// replaceServer starts a server that takes the place of the one that runs, waits until it has, and returns what the former
// one ended with.
func (in *installation) replaceServer() (code int) {
	in.t.Helper()
	before := in.server
	in.server = exec.Command(in.binary, "standalone", "--home", in.home, "--port", strconv.Itoa(in.port), "--replace")
	in.server.Stdout, in.server.Stderr = in.log, in.log
	in.server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := in.server.Start(); err != nil {
		in.t.Fatal(err)
	}
	_ = before.Wait() // its code says more
	in.eventually("the new server announces itself", 60*time.Second, func() bool { return in.announced() == in.server.Process.Pid })
	return before.ProcessState.ExitCode()
}

// announced is the process that says it serves the home.
func (in *installation) announced() int {
	text, err := os.ReadFile(filepath.Join(in.home, "run", "server.json"))
	var f struct {
		PID int `json:"pid"`
	}
	if err != nil || json.Unmarshal(text, &f) != nil {
		return 0
	}
	return f.PID
}

// onNewConnections does one request after another, each on a connection of its own, until the function it returns is
// called; that one says how many were answered and what went wrong first.
func (in *installation) onNewConnections(request func(n int) *http.Request) (stop func() (answered int, err error)) {
	ctx, cancel := context.WithCancel(in.t.Context())
	var asking sync.WaitGroup
	answered, failure := 0, error(nil)
	asking.Go(func() {
		cl := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
		for ctx.Err() == nil && failure == nil {
			response, err := cl.Do(request(answered))
			if err != nil {
				failure = err
				return
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				failure = fmt.Errorf("status %s", response.Status)
				return
			}
			answered++
		}
	})
	return func() (int, error) {
		cancel()
		asking.Wait()
		return answered, failure
	}
}

func (in *installation) request(method, path, body string) *http.Request {
	token, err := os.ReadFile(filepath.Join(in.home, "token"))
	if err != nil {
		in.t.Error(err)
	}
	r, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", in.port, path), strings.NewReader(body))
	if err != nil {
		in.t.Error(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// ticks checks that the task has counted without a gap and returns how far.
func (in *installation) ticks() int {
	in.t.Helper()
	n := 0
	for _, m := range logMessages(in.t, in.onlyLog("ticking", "r", "ticks", 1)) {
		if !strings.HasPrefix(m, "tick ") {
			continue
		}
		if m != fmt.Sprintf("tick %d", n) {
			in.t.Fatalf("line %d of the log is %q", n, m)
		}
		n++
	}
	return n
}

func (in *installation) eventuallyTicks(from int) {
	in.t.Helper()
	in.eventually("the task goes on", 30*time.Second, func() bool { return lines(in.onlyLog("ticking", "r", "ticks", 1)) > from+5 })
}

func ticking(t *testing.T) (in *installation, gate string) {
	t.Helper()
	gate = filepath.Join(t.TempDir(), "gate")
	in = newInstallation(t, configuration, map[string]string{"ticking.py": strings.ReplaceAll(tickingDAG, "GATE", gate)})
	in.trigger("ticking", "r")
	in.eventuallyTicks(0)
	return in, gate
}

// finish ends the task and checks that it was one try that lost nothing.
func (in *installation) finishTicking(gate string) {
	in.t.Helper()
	openGate(in.t, gate)
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("ticking", "r") == "success" })
	if tries := in.tries("ticking", "r", "ticks"); len(tries) != 1 {
		in.t.Errorf("the task needed %d tries, want 1: %+v", len(tries), tries)
	}
	var x struct {
		Value json.Number `json:"value"`
	}
	if err := in.call("GET", "/api/v2/dags/ticking/dagRuns/r/taskInstances/ticks/xcomEntries/return_value?stringify=false", nil, &x); err != nil {
		in.t.Fatal(err)
	}
	if n := in.ticks(); x.Value.String() != strconv.Itoa(n) {
		in.t.Errorf("the task returned %s and its log holds %d lines", x.Value, n)
	}
}

func TestATaskLivesThroughTwoUpgradesAndNoRequestIsRefused(t *testing.T) {
	builds := []string{binary, anotherBuild(t)}
	in, gate := ticking(t)
	worker := in.processes("worker")
	stop := in.onNewConnections(func(int) *http.Request { return in.request("GET", "/api/v2/version", "") })
	for _, program := range builds {
		in.binary = program
		if code := in.replaceServer(); code != 0 {
			t.Errorf("the server that was replaced ended with %d", code)
		}
		in.eventuallyTicks(in.ticks())
	}
	if answered, err := stop(); err != nil {
		t.Errorf("after %d requests that were answered: %v", answered, err)
	}
	want := fmt.Sprintf("left 1 running task with the worker (process %d) for it: ticking.ticks try 1 (run r).", worker[0])
	if n := strings.Count(in.said(), want); n != 2 {
		t.Errorf("%d of 2 servers said %q", n, want)
	}
	in.eventually("both new servers say what they took over", 10*time.Second, func() bool {
		return strings.Count(in.said(), "running tasks that go on: 1.") == 2
	})
	var v struct {
		Version string `json:"version"`
	}
	if err := in.call("GET", "/api/v2/version", nil, &v); err != nil || v.Version != "99.0.0" {
		t.Errorf("the server says version %q, %v", v.Version, err)
	}
	if now := in.processes("worker"); !slices.Equal(now, worker) {
		t.Errorf("the worker was %v and is %v while it had a task", worker, now)
	}
	in.finishTicking(gate)
	in.eventually("the worker of the old build is replaced when it is idle", 30*time.Second, func() bool {
		now := in.processes("worker")
		return len(now) == 1 && now[0] != worker[0]
	})
	in.trigger("ticking", "again")
	in.eventually("another run ends", 30*time.Second, func() bool { return in.state("ticking", "again") == "success" })
	if tries := in.tries("ticking", "again", "ticks"); len(tries) != 1 {
		t.Errorf("on the new worker the task needed %d tries: %+v", len(tries), tries)
	}
}

func TestRunsTriggeredDuringUpgradesAreNotLostAndNothingRunsTwice(t *testing.T) {
	builds := []string{binary, anotherBuild(t)}
	ledger := filepath.Join(t.TempDir(), "ledger")
	in := newInstallation(t, configuration, map[string]string{"ledger.py": strings.ReplaceAll(ledgerDAG, "LEDGER", ledger)})
	in.trigger("ledger", "run-0")
	stop := in.onNewConnections(func(n int) *http.Request {
		<-time.After(100 * time.Millisecond) // as fast as a small machine takes it
		return in.request("POST", "/api/v2/dags/ledger/dagRuns", fmt.Sprintf(`{"dag_run_id": "run-%d", "logical_date": null}`, n+1))
	})
	for i := range 6 {
		in.binary = builds[i%2]
		if code := in.replaceServer(); code != 0 {
			t.Errorf("the server that was replaced ended with %d", code)
		}
		<-time.After(300 * time.Millisecond) // runs go on for a while
	}
	triggered, err := stop()
	if err != nil {
		t.Errorf("after %d runs that were triggered: %v", triggered, err)
	}
	t.Logf("%d runs triggered during 6 upgrades", triggered)
	var runs []string
	for i := range triggered + 1 {
		runs = append(runs, fmt.Sprintf("run-%d", i))
	}
	for _, id := range runs {
		in.eventually("the end of "+id, time.Minute, func() bool { return in.state("ledger", id) == "success" })
		for _, ti := range in.taskInstances("ledger", id) {
			if ti.TryNumber != 1 {
				t.Errorf("%s of %s needed %d tries: %+v", ti.TaskID, id, ti.TryNumber, in.tries("ledger", id, ti.TaskID))
			}
		}
	}
	in.checkRuns(runs)
	in.checkLedger(ledger)
}

func TestAStopThatKeepsTasksLeavesThemToTheNextServer(t *testing.T) {
	for name, stop := range map[string]func(in *installation){
		"by command": func(in *installation) {
			stdout, stderr, code := in.ostro("stop", "--keep-tasks")
			if want := "Ostro stopped: left 1 running task with the worker"; code != 0 || !strings.Contains(stdout, want) {
				in.t.Errorf("the command ended with %d: %s%s", code, stdout, stderr)
			}
		},
		"by signal": func(in *installation) { _ = in.server.Process.Signal(syscall.SIGUSR1) },
	} {
		t.Run(name, func(t *testing.T) {
			in, gate := ticking(t)
			worker := in.processes("worker")
			stop(in)
			_ = in.server.Wait()
			if code := in.server.ProcessState.ExitCode(); code != 0 {
				t.Errorf("the server ended with %d", code)
			}
			want := fmt.Sprintf("Ostro stopped: left 1 running task with the worker (process %d) for the next server: ticking.ticks try 1 (run r).", worker[0])
			if said := tail(in.log.Name(), 1); said != want {
				t.Errorf("the stop said %q, want %q", said, want)
			}
			in.server = nil
			if _, stderr, code := in.ostro("stop"); code != 4 || !strings.Contains(stderr, "no server runs on "+in.home) {
				t.Errorf("a second stop ended with %d: %s", code, stderr)
			}
			in.startServer()
			in.finishTicking(gate)
		})
	}
}

func TestStopEndsTasksAndNamesThem(t *testing.T) {
	in, _ := stubborn(t, "1s")
	stdout, stderr, code := in.ostro("stop")
	_ = in.server.Wait()
	in.server = nil
	for _, want := range []string{
		"Ended stubborn.obeys try 1 (run r): it runs again at the next start, which costs no retry.\n",
		"Killed stubborn.ignores try 1 (run r): it runs again at the next start, which costs no retry.\n",
		"Ostro stopped: 1 task ended, 1 killed, results stored.\n",
	} {
		if code != 0 || !strings.Contains(stdout, want) || !strings.Contains(in.said(), want) {
			t.Errorf("the command ended with %d and did not say %q:\n%s%s\nthe server said:\n%s", code, want, stdout, stderr, tail(in.log.Name(), 5))
		}
	}
	if left := in.processes(""); len(left) > 0 {
		t.Errorf("the stop left processes behind: %v", left)
	}
	in.startServer()
	in.checkInterrupted()
}

func TestReplaceStartsPlainlyWhereNoServerRuns(t *testing.T) {
	in := newInstallation(t, configuration, nil)
	in.killServer() // leaves its socket and its announcement behind
	in.server = exec.Command("true")
	_ = in.server.Start()
	if code := in.replaceServer(); code != 0 {
		t.Error(code)
	}
	in.eventually("the server says that there was none", 10*time.Second, func() bool {
		return strings.Contains(in.said(), "No server was running on "+in.home+": nothing to replace.")
	})
}

func TestAServerThatDoesNotAnswerIsNotReplacedAndTheErrorNamesIt(t *testing.T) {
	t.Parallel() // it mostly waits
	in, gate := ticking(t)
	if err := in.server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := in.ostro("standalone", "--port", strconv.Itoa(in.port), "--replace")
	if pid := strconv.Itoa(in.server.Process.Pid); code != 5 || !strings.Contains(stderr, "process "+pid) || !strings.Contains(stderr, "kill -9 "+pid) {
		t.Errorf("the new server ended with %d: %s", code, stderr)
	}
	if err := in.server.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	in.finishTicking(gate) // the old one goes on: whoever asked it is gone
}

func TestAServerWhosePortIsTakenDoesNotAskTheOldOneToGo(t *testing.T) {
	in, other := newInstallation(t, configuration, nil), newInstallation(t, configuration, nil)
	_, stderr, code := in.ostro("standalone", "--port", strconv.Itoa(other.port), "--replace")
	if code != 5 || !strings.Contains(stderr, fmt.Sprintf("process %d", other.server.Process.Pid)) {
		t.Errorf("the new server ended with %d: %s", code, stderr)
	}
	if err := in.call("GET", "/api/v2/version", nil, nil); err != nil {
		t.Errorf("the old server is gone: %v", err)
	}
}
