package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/local"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// The test binary is also the worker program: `worker.test worker --home HOME`.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "worker" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		idle, _ := time.ParseDuration(os.Getenv("TEST_ORPHAN_IDLE"))
		sample, _ := time.ParseDuration(os.Getenv("TEST_SAMPLE_GPUS"))
		limit, _ := time.ParseDuration(os.Getenv("TEST_LIMIT_GPUS"))
		logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if err := Run(ctx, Options{Home: os.Args[3], Logger: logger, Version: "test", OrphanIdle: idle, SampleGPUs: sample, LimitGPUs: limit}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience bounds every wait for real processes; a test that gets there has failed.
const patience = 30 * time.Second

// eventually polls until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// A fixture is a home with a worker process of its own and the server's side connected to it.
type fixture struct {
	t        testing.TB
	home     string
	bundle   string
	settings workerapi.Settings
	server   *server
}

// A server is one connection's worth of server: an executor and what its sink has seen.
type server struct {
	*local.Executor
	*sink
	stop func()
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	home, err := os.MkdirTemp("", "ostro-worker-") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := filepath.Abs("testdata/runtime")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, home: home, bundle: filepath.Join(home, "bundle")}
	f.settings = workerapi.Settings{LogRoot: filepath.Join(home, "logs"), Python: "python3", RuntimePath: runtime, GraceSeconds: 5}
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}})
	t.Cleanup(func() {
		f.end()
		out, _ := os.ReadFile(filepath.Join(home, "logs", "worker.log"))
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if bytes.Contains(out, []byte(bad)) {
				t.Errorf("the worker's log says %s", bad)
			}
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(f.settings.LogRoot, "dag_id=d", "*"))
			for _, l := range logs {
				data, _ := os.ReadFile(l)
				t.Logf("%s:\n%.4000s", filepath.Base(l), data)
			}
			t.Logf("worker.log:\n%s", out)
		}
		os.RemoveAll(home)
	})
	return f
}

// end stops the worker and checks that nothing of it is left.
func (f *fixture) end() {
	if f.server == nil {
		f.connect()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := f.server.Stop(ctx, time.Second); err != nil {
		f.t.Errorf("stop: %v", err)
	}
	f.disconnect()
	eventually(f.t, "no process of the worker is left", func() bool { return len(marked(f.home)) == 0 })
}

// dagFile writes a DAG file for the test runtime.
func (f *fixture) dagFile(name string, content map[string]any) {
	f.t.Helper()
	data, err := json.Marshal(content)
	if err == nil {
		err = os.MkdirAll(f.bundle, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(f.bundle, name), data, 0o644)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// connect starts a server side, and with it the worker if there is none.
func (f *fixture) connect() *server {
	f.t.Helper()
	s := f.newServer()
	f.server = s
	eventually(f.t, "the worker is connected", func() bool { return s.Instance() != "" && s.connections() > 0 })
	return s
}

func (f *fixture) newServer() *server {
	s := &server{sink: newSink()}
	s.Executor = local.New(local.Options{Home: f.home, Settings: f.settings,
		End: func(ctx context.Context, grace time.Duration) (*workerapi.Stopped, error) {
			return End(ctx, f.home, grace, slog.New(slog.DiscardHandler))
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx, s.sink); err != nil {
			f.t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	return s
}

// disconnect ends the server side as a crash would, without a word.
func (f *fixture) disconnect() {
	if f.server != nil {
		f.server.stop()
		f.server = nil
	}
}

// attempt returns an order to run a snippet.
func (f *fixture) attempt(code string, change ...func(*executor.Attempt)) executor.Attempt {
	id := uuid.Must(uuid.NewV7()).String()
	conf, _ := json.Marshal(map[string]string{"code": code})
	a := executor.Attempt{
		ID: id, Token: "token-of-" + id, LogPath: "dag_id=d/attempt=" + id + ".log",
		Startup: protocol.StartupDetails{
			TI:         protocol.TaskRef{DAGID: "d", RunID: "r", TaskID: "t", MapIndex: -1, TryNumber: 1},
			DagRelPath: "dag.json",
			Bundle:     protocol.BundleInfo{Name: "b", Version: "v1", Path: f.bundle, Shown: f.bundle},
			Context:    protocol.TIRunContext{DagRun: protocol.DagRun{DAGID: "d", RunID: "r", Conf: conf}},
		},
	}
	for _, c := range change {
		c(&a)
	}
	return a
}

// launch hands an attempt over.
func (f *fixture) launch(a executor.Attempt) string {
	f.t.Helper()
	if err := f.server.Launch(context.Background(), a); err != nil {
		f.t.Fatal(err)
	}
	return a.ID
}

// do runs a snippet to its end.
func (f *fixture) do(code string, change ...func(*executor.Attempt)) executor.Result {
	f.t.Helper()
	return f.server.result(f.t, f.launch(f.attempt(code, change...)))
}

func (f *fixture) logPath(id string) string {
	return filepath.Join(f.settings.LogRoot, "dag_id=d", "attempt="+id+".log")
}

// waitForLine waits until a line of an attempt's log contains text, and returns the line.
func (f *fixture) waitForLine(id, text string) string {
	f.t.Helper()
	var found string
	eventually(f.t, "the log says "+text, func() bool {
		data, _ := os.ReadFile(f.logPath(id))
		for line := range bytes.Lines(data) {
			var l logLine
			if json.Unmarshal(line, &l) == nil && strings.Contains(l.M, text) {
				found = l.M
				return true
			}
		}
		return false
	})
	return found
}

// waitForProcess waits until an attempt has printed "process" and a process id, and returns that. To wait for one of its
// records and then look for what it has printed will not do: stdout comes another way, and may come later.
func (f *fixture) waitForProcess(id string) (pid int) {
	f.t.Helper()
	if _, err := fmt.Sscanf(f.waitForLine(id, "process "), "process %d", &pid); err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// workerPID returns the worker's process id.
func (f *fixture) workerPID() int {
	f.t.Helper()
	for _, p := range allProcesses() {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		if strings.HasSuffix(string(cmd), "worker\x00--home\x00"+f.home+"\x00") {
			return p
		}
	}
	f.t.Fatal("no worker process")
	return 0
}

func allProcesses() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// marked returns the processes that carry the home's mark.
func marked(home string) []int {
	var found []int
	for _, pid := range allProcesses() {
		if daghost.IsMarked(pid, home) {
			found = append(found, pid)
		}
	}
	return found
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	id, err := daghost.Identify(pid)
	return err == nil && id.Alive()
}

// parent returns the parent of a process.
func parent(t testing.TB, pid int) int {
	t.Helper()
	for _, p := range allProcesses() {
		for _, c := range children(p) {
			if c == pid {
				return p
			}
		}
	}
	t.Fatalf("process %d has no parent", pid)
	return 0
}

// children returns the processes below one, zombies not included.
func children(pid int) (found []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range lists {
		data, _ := os.ReadFile(path)
		for _, s := range strings.Fields(string(data)) {
			if c, err := strconv.Atoi(s); err == nil && alive(c) {
				found = append(found, c)
			}
		}
	}
	return found
}

// A sink records what an executor reports and acknowledges nothing.
type sink struct {
	mu       sync.Mutex
	known    [][]executor.Known
	started  map[string]executor.Started
	results  map[string][]executor.Result
	watched  map[string]chan struct{}
	answer   func(attemptID, token string, request json.RawMessage) (json.RawMessage, error)
	requests []json.RawMessage
	devices  []gpu.Inventory
	used     map[string]gpu.Use
}

func newSink() *sink {
	return &sink{started: map[string]executor.Started{}, results: map[string][]executor.Result{}, watched: map[string]chan struct{}{}}
}

func (s *sink) Connected(_, _ string, known []executor.Known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, known)
}

func (s *sink) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}

func (s *sink) Started(m executor.Started) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started[m.AttemptID] = m
}

func (s *sink) Finished(r executor.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[r.AttemptID] = append(s.results[r.AttemptID], r)
	if ch := s.watched[r.AttemptID]; ch != nil {
		close(ch)
		delete(s.watched, r.AttemptID)
	}
}

// watch returns a channel that is closed when an attempt's result comes.
func (s *sink) watch(id string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.watched[id] = ch
	return ch
}

func (s *sink) Call(ctx context.Context, id, token string, request json.RawMessage) (json.RawMessage, error) {
	s.mu.Lock()
	s.requests = append(s.requests, request)
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		<-ctx.Done() // a server that never answers
		return nil, ctx.Err()
	}
	return answer(id, token, request)
}

// start waits until an attempt's process exists.
func (s *sink) start(t testing.TB, id string) executor.Started {
	t.Helper()
	var m executor.Started
	eventually(t, "attempt "+id+" starts", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		var ok bool
		m, ok = s.started[id]
		return ok
	})
	return m
}

// result waits for an attempt's first result.
func (s *sink) result(t testing.TB, id string) executor.Result {
	t.Helper()
	var r executor.Result
	eventually(t, "attempt "+id+" ends", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.results[id]) == 0 {
			return false
		}
		r = s.results[id][0]
		return true
	})
	return r
}

// kill sends SIGKILL.
func kill(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// inFile has an attempt run from another file.
func inFile(name string) func(*executor.Attempt) {
	return func(a *executor.Attempt) { a.Startup.DagRelPath = name }
}

var notFound = protocol.Error{Code: protocol.CodeVariableNotFound, Message: "no such variable"}
