package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

func TestATaskRunsAndItsWordsBecomeOneResult(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	r := f.do(`
print("hello")
sys.stderr.write("oops\n"); sys.stderr.flush()
t.log("a record", "warning", "Traceback: x")
t.send("SetRenderedFields", rendered_fields={"bash_command": "echo 1"})
t.send("SetRenderedMapIndex", rendered_map_index="north")
t.send("AddNotice", text="namespace has no effect here")
t.send("SkipDownstreamTasks", tasks=["a", ["b", 2]])
t.succeed(xcoms=[{"key": "return_value", "value": [1, 2], "map_length": 2}])
silent = True
`)
	if r.State != run.Success || !r.Reported || r.Isolation != "fork" || r.PID == 0 || r.StartedAt == nil {
		t.Errorf("result: %+v", r)
	}
	if *r.ExitCode != 0 || r.MaxRSS == 0 {
		t.Errorf("exit %v, max RSS %d", *r.ExitCode, r.MaxRSS)
	}
	got := []string{string(r.Rendered), r.RenderedMapIndex, r.Notices[0], string(r.SkipTasks[0]), string(r.SkipTasks[1]), string(r.XComs[0].Value)}
	want := []string{`{"bash_command":"echo 1"}`, "north", "namespace has no effect here", `"a"`, `["b",2]`, "[1,2]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lines := readLog(t, f.logPath(r.AttemptID))
	if diff := cmp.Diff([]string{"hello"}, texts(lines, streamOut)); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	for _, l := range lines {
		if l.S == streamErr && l.L != "info" {
			t.Errorf("a line on stderr passes for %q", l.L)
		}
	}
	if diff := cmp.Diff([]string{"oops"}, texts(lines, streamErr)); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a record\nTraceback: x"}, texts(lines, streamLog)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestAnAttemptIsStartedOnceHoweverOftenItIsLaunched(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	ledger := filepath.Join(f.home, "ledger")
	a := f.attempt(fmt.Sprintf(`open(%q, "a").write("x")`, ledger))
	for range 3 {
		f.launch(a)
	}
	s.result(t, a.ID)
	f.launch(a) // it waits in the spool
	if err := s.Acknowledge(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	f.launch(a) // it is forgotten but for its id
	f.do(``)    // orders keep their sequence: what was launched before has been looked at
	if data, _ := os.ReadFile(ledger); string(data) != "x" {
		t.Errorf("it ran %d times", len(data))
	}
}

func TestAnAttemptQueuedForAFormerWorkerIsNotStarted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(``, func(a *executor.Attempt) { a.Instance = "former" }))
	f.do(``, func(a *executor.Attempt) { a.Instance = s.Instance() })
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, started := s.started[id]; started || len(s.results[id]) > 0 {
		t.Error("it was started")
	}
}

func TestHowAProcessEndedIsSaidInWords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	silent := "silent = True\nt.log('begins')\n"
	for _, c := range []struct {
		name, code, reason string
		state              run.TaskState
		final, reported    bool
	}{
		{"an exit code", silent + `os._exit(3)`, "exit code 3", run.Failed, false, false},
		{"exit 0 without a result", silent + `os._exit(0)`, "the process ended with exit code 0 and without a result, as after os._exit(0)", run.Failed, false, false},
		{"a signal", silent + `os.kill(os.getpid(), 11)`, "killed by SIGSEGV", run.Failed, false, false},
		{"an exception", `raise ValueError("quality too low")`, "ValueError: quality too low", run.UpForRetry, false, true},
		{"a failure for good", `t.send("TaskState", state="failed", reason="no"); silent = True`, "no", run.Failed, true, true},
		{"a skip", `t.send("TaskState", state="skipped"); silent = True`, "", run.Skipped, false, true},
		{"a message that is none", `t.channel.sock.sendall(b"\xff\xff\xff\xff"); time.sleep(100)`, "killed: the task sent something its worker cannot read: read frame of 4294967295 bytes: frame is larger than the protocol allows (at most 67108864)", run.Failed, false, false},
	} {
		r := f.do(c.code)
		if r.State != c.state || r.Reason != c.reason || r.Final != c.final || r.Reported != c.reported || r.Infra {
			t.Errorf("%s: state %q reason %q final %v reported %v infra %v", c.name, r.State, r.Reason, r.Final, r.Reported, r.Infra)
		}
	}
}

func TestCallbacksThatWereNotConfirmedAreOwed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	with := func(retry bool) func(*executor.Attempt) {
		return func(a *executor.Attempt) {
			a.Callbacks = []string{"on_failure_callback", "on_retry_callback", "on_success_callback"}
			a.Startup.Context.ShouldRetry = retry
		}
	}
	for _, c := range []struct {
		name, code string
		retry      bool
		want       []string
	}{
		{"confirmed", `t.succeed(callbacks=["on_success_callback"]); t.send("CallbacksDone"); silent = True`, false, nil},
		{"died in the callback", `t.succeed(callbacks=["on_success_callback"]); os._exit(1)`, false, []string{"on_success_callback"}},
		{"died with tries left", `t.log("x"); os._exit(1)`, true, []string{"on_retry_callback"}},
		{"died for good", `t.log("x"); os._exit(1)`, false, []string{"on_failure_callback"}},
	} {
		if diff := cmp.Diff(c.want, f.do(c.code, with(c.retry)).CallbacksOwed); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestACallbackThatDoesNotComeToItsEndIsNamedInTheTasksLogAndNotices(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	for how, words := range map[string]string{
		`os._exit(3)`:             "its process ended with exit code 3",
		`os.kill(os.getpid(), 9)`: "its process was killed by SIGKILL",
	} {
		r := f.do(`t.succeed(callbacks=["on_success_callback"]); ` + how)
		want := "on_success_callback did not come to an end: " + words + "; it is run again in a process of its own"
		if r.State != run.Success || r.Reason != "it had succeeded; "+words+" after that" {
			t.Errorf("%s: %+v", how, r)
		}
		if diff := cmp.Diff([]string{want}, r.Notices); diff != "" {
			t.Errorf("notices (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{want}, texts(readLog(t, f.logPath(r.AttemptID)), streamSystem)); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	}
}

func TestACallbackProcessSucceedsWhenItConfirms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	callback := func(a *executor.Attempt) {
		a.Startup.Kind = protocol.KindCallback
		a.Startup.Callback = &protocol.CallbackRequest{Kind: "on_failure_callback"}
	}
	if r := f.do(`t.send("CallbacksDone"); silent = True`, callback); r.State != run.Success || !r.Reported {
		t.Errorf("got %+v", r)
	}
	if r := f.do(`t.send("CallbacksDone", errors=["on_failure_callback"]); silent = True`, callback); r.State != run.Failed || !r.Final {
		t.Errorf("got %+v", r)
	}
	if r := f.do(`t.log("x"); os._exit(1)`, callback); r.State != run.Failed || r.Final || r.Reason != "exit code 1" {
		t.Errorf("got %+v", r)
	}
}

func TestTheTasksEnvironmentNamesTheAttemptAndAirflowsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.Env = map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}
	f.connect()
	at := time.Date(2024, 1, 1, 2, 0, 0, 0, time.UTC)
	r := f.do(`print({k: v for k, v in os.environ.items() if k.startswith(("OSTRO_", "AIRFLOW_", "AWS_"))})`, func(a *executor.Attempt) {
		a.Startup.Context.DagRun.LogicalDate = &at
		a.Startup.Env = map[string]string{"AIRFLOW_CTX_DAG_OWNER": "ml"}
	})
	text := strings.Join(texts(readLog(t, f.logPath(r.AttemptID)), streamOut), "")
	for _, want := range []string{
		"'OSTRO_ATTEMPT_ID': '" + r.AttemptID + "'", "'OSTRO_HOME': '" + f.home + "'", "'OSTRO_TOKEN': '***'",
		"'AIRFLOW_CTX_LOGICAL_DATE': '2024-01-01T02:00:00+00:00'", "'AIRFLOW_CTX_DAG_ID': 'd'", "'AIRFLOW_CTX_DAG_OWNER': 'ml'",
		"'AWS_ENDPOINT_URL': 'http://127.0.0.1:9000'",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
}

func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.MaskedValues = []string{"configured-secret"}
	s := f.connect()
	s.answer = func(string, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"type":"ConnectionResult","conn_id":"db","conn_type":"x","password":"pass-from-connection"}`), nil
	}
	r := f.do(`
t.send("MaskSecret", value="told-secret")
t.ask("GetConnection", conn_id="db")
time.sleep(0)
t.log("told-secret and pass-from-connection")
t.send("SetRenderedFields", rendered_fields={"cmd": "use told-secret"})
t.send("AddNotice", text="told-secret")
raise ValueError("configured-secret, told-secret")
`)
	all, _ := json.Marshal(r)
	log, _ := os.ReadFile(f.logPath(r.AttemptID))
	for _, secret := range []string{"told-secret", "configured-secret", "pass-from-connection"} {
		if strings.Contains(string(all), secret) || strings.Contains(string(log), secret) {
			t.Errorf("%s shows:\n%s\n%s", secret, all, log)
		}
	}
	if r.Reason != "ValueError: ***, ***" {
		t.Errorf("reason %q", r.Reason)
	}
}

func TestABrokenFileFailsTheAttemptWithItsImportErrorInTheLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"errors": []map[string]any{{"file": "dag.json", "message": "SyntaxError: bad", "traceback": "line 3"}}})
	f.connect()
	r := f.do("")
	if r.State != run.Failed || !strings.HasPrefix(r.Reason, "import error: SyntaxError: bad") || r.Infra {
		t.Errorf("got %+v", r)
	}
	if line := f.waitForLine(r.AttemptID, "SyntaxError"); !strings.Contains(line, "line 3") {
		t.Errorf("the log says %q", line)
	}
	r = f.do("", func(a *executor.Attempt) { a.Startup.DagRelPath = "gone.json" })
	if r.State != run.Failed || !strings.Contains(r.Reason, "gone.json") {
		t.Errorf("a file that has vanished: %+v", r)
	}
	r = f.do("", func(a *executor.Attempt) { a.Interpreter = "/nowhere/python" })
	if r.State != run.Failed || !strings.Contains(r.Reason, "start /nowhere/python") {
		t.Errorf("an interpreter that does not exist: %+v", r)
	}
	r = f.do("", func(a *executor.Attempt) { a.LogPath = "../../outside.log" })
	if r.State != run.Failed || !strings.Contains(r.Reason, "leaves the log folder") {
		t.Errorf("a log outside its folder: %+v", r)
	}
}

func TestATaskThatMayNotForkIsSpawnedWithTheReason(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "fork_unsafe": "the file starts the thread 'x'"})
	f.connect()
	r := f.do(`print(os.getsid(0) == os.getpid())`)
	if r.State != run.Success || r.Isolation != "spawn" || r.IsolationReason != "the file starts the thread 'x'" {
		t.Errorf("got %+v", r)
	}
	if got := texts(readLog(t, f.logPath(r.AttemptID)), streamOut); len(got) != 1 || got[0] != "True" {
		t.Errorf("a session of its own: %v", got)
	}
	f.dagFile("other.json", map[string]any{"dags": []string{"d"}})
	r = f.do(``, func(a *executor.Attempt) { a.Isolation = "spawn"; a.Startup.DagRelPath = "other.json" })
	if r.Isolation != "spawn" || !strings.Contains(r.IsolationReason, "configured") {
		t.Errorf("by order: %+v", r)
	}
}

func TestAFileWhoseForksDieAtOnceIsDemotedToSpawn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "in_fork": "os.kill(os.getpid(), 11)"})
	f.connect()
	for range 2 {
		r := f.do("")
		if r.State != run.Success || r.Isolation != "spawn" || !strings.Contains(r.IsolationReason, "died before the task's code: killed by SIGSEGV") {
			t.Errorf("got %+v", r)
		}
	}
}

func TestAFileWhoseForksHangIsDemotedToSpawn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "in_fork": "time.sleep(1000)"})
	f.connect()
	for range 2 {
		r := f.do("")
		if r.State != run.Success || r.Isolation != "spawn" || !strings.Contains(r.IsolationReason, "never read what to do") {
			t.Errorf("got %+v", r)
		}
	}
}

func TestAKilledHostTakesItsTasksAlongAndTheyAreNotTheAuthorsFault(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	id := f.launch(f.attempt(`
pid = os.fork()
if pid == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(1000)
print("process", os.getppid()); sys.stdout.flush(); time.sleep(1000)`))
	host := f.waitForProcess(id)
	kill(t, host)
	r := s.result(t, id)
	if r.State != run.Failed || !r.Infra || !strings.Contains(r.Reason, "lost with its DAG host: killed by SIGKILL") {
		t.Errorf("got %+v", r)
	}
	eventually(t, "everything below the host is gone", func() bool { return len(marked(f.home)) == 0 })
	if r := f.do(""); r.State != run.Success {
		t.Errorf("the next attempt: %+v", r)
	}
}

func TestSixtyFourTasksRunAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	gate := filepath.Join(f.home, "gate")
	var ids []string
	for i := range 64 {
		ids = append(ids, f.launch(f.attempt(fmt.Sprintf(`
print(%d); sys.stdout.flush()
while not os.path.exists(%q): time.sleep(0.05)`, i, gate))))
	}
	for _, id := range ids {
		s.start(t, id)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if r := s.result(t, id); r.State != run.Success {
			t.Errorf("task %d: %+v", i, r)
		}
		if got := texts(readLog(t, f.logPath(id)), streamOut); len(got) != 1 || got[0] != strconv.Itoa(i) {
			t.Errorf("task %d printed %v", i, got)
		}
	}
}

func TestAHostKilledWhileItImportsIsReplacedAndTheTaskRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gate := filepath.Join(f.home, "gate")
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "at_import": fmt.Sprintf("while not os.path.exists(%q): time.sleep(0.01)", gate)})
	s := f.connect()
	id := f.launch(f.attempt(``))
	var hosts []int
	eventually(t, "a host imports", func() bool {
		hosts = marked(f.home)
		return len(hosts) == 1
	})
	kill(t, hosts[0])
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := s.result(t, id); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
}

func TestFilesThatHangAtImportDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	hanging := max(2, runtime.NumCPU())
	for i := range hanging {
		name := fmt.Sprintf("hangs%d.json", i)
		f.dagFile(name, map[string]any{"dags": []string{"d"}, "at_import": fmt.Sprintf(`open(%q, "w").close(); time.sleep(1000)`, filepath.Join(f.home, name+".up"))})
		f.launch(f.attempt("", inFile(name)))
	}
	eventually(t, "all of them hang", func() bool {
		up, _ := filepath.Glob(filepath.Join(f.home, "*.up"))
		return len(up) == hanging
	})
	if r := f.do(""); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
}
