package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

func TestATaskLivesThroughThreeServersAndNothingOfItIsLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	gate := filepath.Join(f.home, "gate")
	id := f.launch(f.attempt(fmt.Sprintf(`
n = 0
while not os.path.exists(%q):
    print(n); sys.stdout.flush(); n += 1; time.sleep(0.001)
t.succeed(xcoms=[{"key": "return_value", "value": n, "map_length": -1}]); silent = True`, gate)))
	pid := s.start(t, id).PID
	instance := s.Instance()
	for range 3 {
		f.disconnect()
		s = f.connect()
		if s.Instance() != instance {
			t.Fatal("another worker answered")
		}
		if diff := cmp.Diff([]executor.Known{{AttemptID: id, Running: true}}, s.known[0]); diff != "" {
			t.Errorf("known (-want +got):\n%s", diff)
		}
		if again := s.start(t, id); again.PID != pid {
			t.Errorf("the process is %d now, was %d", again.PID, pid)
		}
	}
	f.disconnect()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// It ends while there is no server.
	eventually(t, "the result is spooled", func() bool {
		return slices.Contains(spooled(f), id)
	})
	for range 2 { // until it is acknowledged, every server hears of it
		s = f.connect()
		r := s.result(t, id)
		if r.State != run.Success || len(r.XComs) != 1 {
			t.Fatalf("result: %+v", r)
		}
		lines := texts(readLog(t, f.logPath(id)), streamOut)
		if got := strconv.Itoa(len(lines)); got != string(r.XComs[0].Value) {
			t.Errorf("%s lines, the task printed %s", got, r.XComs[0].Value)
		}
		for i, l := range lines {
			if l != strconv.Itoa(i) {
				t.Fatalf("line %d is %q", i, l)
			}
		}
		f.disconnect()
	}
	s = f.connect()
	s.result(t, id)
	if err := s.Acknowledge(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the spool is empty", func() bool { return len(spooled(f)) == 0 })
	f.disconnect()
	if s = f.connect(); len(s.known[0]) != 0 {
		t.Errorf("after the acknowledgement the worker still knows %v", s.known[0])
	}
}

// spooled returns the attempts whose results are on the disk.
func spooled(f *fixture) []string {
	data, _ := os.ReadFile(filepath.Join(f.home, "spool", "results.journal"))
	entries, _ := parseJournal(data)
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.id)
	}
	names, _ := filepath.Glob(filepath.Join(f.home, "spool", "*.json"))
	for _, name := range names {
		ids = append(ids, strings.TrimSuffix(filepath.Base(name), ".json"))
	}
	return ids
}

func TestATasksQuestionWaitsForTheNextServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect() // never answers
	a := f.attempt(`print(t.ask("GetVariable", key="k")["body"]["value"]); print(t.ask("GetVariable", key="none")["error"]["code"])`)
	id := f.launch(a)
	eventually(t, "the question arrives", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.requests) > 0 })
	f.disconnect()
	next := f.newServer()
	f.server = next
	next.mu.Lock()
	next.answer = func(attempt, token string, request json.RawMessage) (json.RawMessage, error) {
		if attempt != a.ID || token != a.Token {
			return nil, fmt.Errorf("attempt %s with token %s", attempt, token)
		}
		if strings.Contains(string(request), "none") {
			return nil, &notFound
		}
		return json.RawMessage(`{"type":"VariableResult","key":"k","value":"v"}`), nil
	}
	next.mu.Unlock()
	if r := next.result(t, id); r.State != run.Success {
		t.Fatalf("got %+v", r)
	}
	if diff := cmp.Diff([]string{"v", "VARIABLE_NOT_FOUND"}, texts(readLog(t, f.logPath(id)), streamOut)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var first, second struct {
		RequestID string `json:"request_id"`
	}
	_ = json.Unmarshal(s.requests[0], &first)
	_ = json.Unmarshal(next.requests[0], &second)
	if first.RequestID == "" || first.RequestID != second.RequestID {
		t.Errorf("request ids %q and %q: want one", first.RequestID, second.RequestID)
	}
}

func TestWhenTheWorkerIsKilledEverythingBelowItIsGoneBeforeTheNextTakesOrders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	beat := filepath.Join(f.home, "beat")
	// A daemon in a session of its own, with and without the environment that marks it, and a task that ignores TERM.
	id := f.launch(f.attempt(fmt.Sprintf(`
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["setsid", "sh", "-c", "while :; do date > %[1]s-a; sleep 0.01; done"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.Popen(["env", "-i", "sh", "-c", "while :; do date > %[1]s-b; sleep 0.01; done"])
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    while True:
        open(%[1]q + "-c", "w").write(str(time.time())); time.sleep(0.01)
t.log("up")
time.sleep(1000)`, beat)))
	done := f.launch(f.attempt(``))
	s.result(t, done)
	f.waitForLine(id, "up")
	beats := []string{beat + "-a", beat + "-b", beat + "-c"}
	for _, b := range beats {
		eventually(t, b+" beats", func() bool { _, err := os.Stat(b); return err == nil })
	}
	instance, seen := s.Instance(), s.connections()
	kill(t, f.workerPID())
	eventually(t, "the next worker is connected", func() bool { return s.connections() > seen && s.Instance() != "" })
	if s.Instance() == instance {
		t.Error("the instance has not changed")
	}
	// From here on nothing may beat any more: remove the marks, and look whether they come back.
	for _, b := range beats {
		_ = os.Remove(b)
	}
	if r := f.do(`time.sleep(0.1)`); r.State != run.Success {
		t.Errorf("the next worker's first attempt: %+v", r)
	}
	for _, b := range beats {
		if _, err := os.Stat(b); err == nil {
			t.Errorf("%s still beats", b)
		}
	}
	if diff := cmp.Diff([]executor.Known{{AttemptID: done}}, s.known[seen]); diff != "" {
		t.Errorf("the next worker knows (-want +got):\n%s", diff)
	}
}

func TestATaskThatIgnoresTermIsKilledWithItsTree(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(`
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
p = subprocess.Popen(["setsid", "sleep", "1000"])
print("process", p.pid); sys.stdout.flush()
time.sleep(1000)`, func(a *executor.Attempt) { a.Grace = 200 * time.Millisecond }))
	child := f.waitForProcess(id)
	if err := s.Kill(t.Context(), id, "DAG run was marked failed by admin"); err != nil {
		t.Fatal(err)
	}
	r := s.result(t, id)
	if r.State != run.Failed || !strings.HasPrefix(r.Reason, "killed: DAG run was marked failed by admin") || r.Signal != "SIGKILL" || r.Infra {
		t.Errorf("got %+v", r)
	}
	if alive(child) {
		t.Error("its child is still there")
	}
}

func TestATaskThatHeedsTermEndsInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(`
import signal
def on_term(*_):
    t.send("TaskState", state="failed", reason="terminated"); os._exit(143)
signal.signal(signal.SIGTERM, on_term)
t.log("up")
time.sleep(1000)`))
	f.waitForLine(id, "up")
	_ = s.Kill(t.Context(), id, "cleared")
	if r := s.result(t, id); r.Reason != "killed: cleared" || !r.Reported || *r.ExitCode != 143 {
		t.Errorf("got %+v", r)
	}
}

func TestAnOrderToKillReachesAnAttemptWhoseHostIsStillComingUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "at_import": "time.sleep(1000)"})
	s := f.connect()
	a := f.attempt("")
	f.launch(a)
	_ = s.Kill(t.Context(), a.ID, "cleared")
	if r := s.result(t, a.ID); r.Reason != "killed: cleared" || r.PID != 0 {
		t.Errorf("got %+v", r)
	}
	_ = s.Kill(t.Context(), "unknown", "nothing happens")
}

func TestAnOrderToKillDuringAForkReachesTheProcessThatComesOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	pid := s.start(t, f.launch(f.attempt(`t.log("warm"); time.sleep(1000)`))).PID
	host := parent(t, pid)
	if err := syscall.Kill(host, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(f.home, "marker")
	var ids []string
	for i := range 5 {
		ids = append(ids, f.launch(f.attempt(fmt.Sprintf(`time.sleep(0.5); open("%s%d", "w").close()`, marker, i))))
	}
	f.dagFile("other.json", map[string]any{"dags": []string{"d"}})
	f.do(``, inFile("other.json")) // of another host; those launched before are about to be forked, or have asked for it
	for _, id := range ids {
		_ = s.Kill(t.Context(), id, "cleared")
	}
	if err := syscall.Kill(host, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if r := s.result(t, id); r.Reason != "killed: cleared" {
			t.Errorf("got %+v", r)
		}
	}
	eventually(t, "only the first task is left below the host", func() bool { return len(children(host)) == 1 })
	if ran, _ := filepath.Glob(marker + "*"); len(ran) > 0 {
		t.Errorf("these ran although their attempts had ended: %q", ran)
	}
}

func TestATaskThatHeedsNothingIsGoneOneGraceAfterItsTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.GraceSeconds = 0.6
	f.connect()
	r := f.do(`
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
t.log("up"); time.sleep(1000)`, func(a *executor.Attempt) { a.ExecutionTimeout = 1500 * time.Millisecond })
	if r.State != run.Failed || r.Reason != "killed: it ran longer than its execution timeout of 1.5s, and it had not ended 600ms later (tasks.kill_grace)" {
		t.Errorf("%+v", r)
	}
	for grace, slack := range map[time.Duration]time.Duration{0: 5 * time.Second, 4 * time.Second: 2 * time.Second, time.Minute: 5 * time.Second} {
		k := killing{a: &attempt{order: executor.Attempt{ExecutionTimeout: time.Second, Grace: grace}, killed: make(chan struct{})}}
		bound := k.grace()
		if got := k.slack(); got != slack {
			t.Errorf("grace %v: slack %v, want %v", grace, got, slack)
		}
		k.overdue()
		if got := slack + k.grace(); got != bound {
			t.Errorf("grace %v: killed %v after the timeout, want %v", grace, got, bound)
		}
	}
}

func TestTheExecutionTimeoutIsEnforcedWhenTheTaskDoesNotRaiseItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	r := f.do(`t.log("up"); time.sleep(1000)`, func(a *executor.Attempt) {
		a.ExecutionTimeout = 50 * time.Millisecond
		a.Grace = time.Second
	})
	if r.State != run.Failed || r.Reason != "killed: it ran longer than its execution timeout of 50ms" {
		t.Errorf("got %+v", r)
	}
}

func TestAFloodOfOutputIsKeptWithoutHoldingMuchOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	lines := 2_000_000 // of 100 bytes: 200 MB; OSTRO_FLOOD_MB asks for more
	if mb, err := strconv.Atoi(os.Getenv("OSTRO_FLOOD_MB")); err == nil {
		lines = mb * 10_000
	}
	id := f.launch(f.attempt(fmt.Sprintf(`
block = b"".join(b"%%099d\n" %% i for i in range(1000))
for i in range(%d // 1000): os.write(1, block)`, lines)))
	s.start(t, id)
	worker := f.workerPID()
	var peak int64
	for quick := 0; ; quick++ {
		s.mu.Lock()
		ended := len(s.results[id]) > 0
		s.mu.Unlock()
		if ended {
			break
		}
		if r := f.do(``); r.State != run.Success { // others go on meanwhile
			t.Fatalf("beside the flood: %+v", r)
		}
		peak = max(peak, residentBytes(worker))
	}
	if r := s.result(t, id); r.State != run.Success {
		t.Fatalf("got %+v", r)
	}
	if peak > 150<<20 {
		t.Errorf("the worker held %d MB", peak>>20)
	}
	data, err := os.ReadFile(f.logPath(id))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "\n"); n != lines {
		t.Errorf("%d lines of %d are in the log", n, lines)
	}
}

func residentBytes(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident int64
	_, _ = fmt.Sscan(string(data), &size, &resident)
	return resident * int64(os.Getpagesize())
}

func TestAProcessThatKeepsATasksPipeDoesNotKeepTheTaskFromEnding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	// It leaves the task's session and tree behind before the task ends, but not its output.
	r := f.do(`
import subprocess
subprocess.Popen(["setsid", "sleep", "1000"])
print("last")`)
	if r.State != run.Success {
		t.Errorf("got %+v", r)
	}
	if got := texts(readLog(t, f.logPath(r.AttemptID)), streamOut); len(got) != 1 || got[0] != "last" {
		t.Errorf("the log has %v", got)
	}
}

func TestASpooledResultThatCannotBeReadIsALostAttemptAndTheFileIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := filepath.Join(f.home, "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	good, _ := json.Marshal(executor.Result{AttemptID: "good", State: run.Success, EndedAt: time.Now()})
	for name, content := range map[string]string{"torn.json": `{"attempt_id":"torn","sta`, "empty.json": "", "good.json": string(good), "x.tmp": "{"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := f.connect()
	for _, id := range []string{"torn", "empty"} {
		if r := s.result(t, id); r.State != run.Failed || !r.Infra || !strings.Contains(r.Reason, "its result was lost") {
			t.Errorf("%s: %+v", id, r)
		}
		if _, err := os.Stat(filepath.Join(dir, "corrupt", id+".json")); err != nil {
			t.Error(err)
		}
	}
	if r := s.result(t, "good"); r.State != run.Success {
		t.Errorf("good: %+v", r)
	}
	if err := s.Acknowledge(t.Context(), "torn", "empty", "good"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the spool is empty", func() bool { return len(spooled(f)) == 0 })
}

// saysRetryWhenTold is a task that answers TERM as a real one with retries left does.
const saysRetryWhenTold = `
import signal

def told(*_):
    raise RuntimeError("told to end")

signal.signal(signal.SIGTERM, told)
t.log("up")
time.sleep(1000)`

func TestStopEndsEveryTaskInOrderAndSaysHow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	heeds := f.launch(f.attempt(saysRetryWhenTold))
	ignores := f.launch(f.attempt(`
import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); t.log("up"); time.sleep(1000)`))
	f.waitForLine(heeds, "up")
	f.waitForLine(ignores, "up")
	worker := f.workerPID()
	stopped, err := s.Stop(t.Context(), 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{heeds}, {ignores}}, [][]string{stopped.Ended, stopped.Killed}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, id := range []string{heeds, ignores} {
		if r := s.result(t, id); r.State != run.Failed || !r.Infra || !r.Uncounted || !strings.Contains(r.Reason, "the server was stopped") {
			t.Errorf("got %+v", r)
		}
	}
	if alive(worker) {
		t.Error("the worker is still there")
	}
	if left := marked(f.home); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Nobody acknowledged: the next worker still knows.
	f.disconnect()
	s = f.connect()
	s.result(t, heeds)
	s.result(t, ignores)
}

func TestAWorkerToldToEndByASignalEndsItsTasksFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(saysRetryWhenTold))
	pid := s.start(t, id).PID
	f.waitForLine(id, "up")
	if err := syscall.Kill(f.workerPID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r := s.result(t, id); r.State != run.Failed || !r.Infra || !strings.Contains(r.Reason, "the worker was stopped") {
		t.Errorf("got %+v", r)
	}
	if alive(pid) {
		t.Error("the task is still there")
	}
}

func TestASecondWorkerForAHomeIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	err := Run(context.Background(), Options{Home: f.home, Shared: true})
	if err == nil || !strings.Contains(err.Error(), "another worker is running for this home") {
		t.Errorf("got %v", err)
	}
}

func TestTheNewestServerWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := f.connect()
	f.server = nil
	s := f.connect()
	a := f.attempt(``)
	eventually(t, "the attempt starts", func() bool { // an order that the other one overtakes is lost, and given again
		_ = s.Launch(t.Context(), a)
		s.mu.Lock()
		defer s.mu.Unlock()
		_, started := s.started[a.ID]
		return started || len(s.results[a.ID]) > 0
	})
	s.result(t, a.ID)
	old.stop() // it connects again as long as it lives, and takes the worker back
	eventually(t, "the worker is connected", func() bool { return s.Instance() != "" })
}

func TestAWorkerNobodyNeedsEnds(t *testing.T) {
	t.Setenv("TEST_ORPHAN_IDLE", "200ms")
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(`t.log("up"); time.sleep(0.6)`))
	s.start(t, id)
	worker := f.workerPID()
	f.disconnect()
	eventually(t, "the task has ended, without a server", func() bool { return len(spooled(f)) == 1 })
	eventually(t, "the worker has ended", func() bool { return !alive(worker) })
	s = f.connect() // a new one
	if r := s.result(t, id); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
	_ = s.Acknowledge(t.Context(), id)
}
