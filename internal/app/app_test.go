package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
	"ostro.dev/ostro/internal/worker"
)

// TestMain lets the test binary be the worker program, as the real binary is (`worker --home HOME`), and a server of its
// own that can be killed (`serve HOME`).
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "worker" && os.Args[2] == "--home" {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if err := worker.Run(context.Background(), worker.Options{Home: os.Args[3], Logger: log, Version: "test"}); err != nil {
			log.Error("the worker ended", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgserver.Main(m))
}

// onPostgreSQL makes the tests of this program keep their state in PostgreSQL.
const onPostgreSQL = "OSTRO_TEST_POSTGRESQL"

// TestTheServerDoesTheSameOnPostgreSQL runs this package's tests again, in a process of its own, on PostgreSQL.
func TestTheServerDoesTheSameOnPostgreSQL(t *testing.T) {
	if os.Getenv(onPostgreSQL) != "" {
		return // this is that process
	}
	pgserver.Database(t) // says so when it is not installed
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// What is about PostgreSQL anyway need not run twice.
	args := []string{"-test.count=1", "-test.skip=RidesOut|OneDatabase|WakesUp|DeadServers|Released"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), onPostgreSQL+"=1", "OSTRO_TEST_KILLS=12")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// serve runs a server that only a signal ends, and writes its URL to HOME/url when it is ready.
func serve(home string) error {
	cfg, err := config.Load(config.LoadOptions{Home: home, Environ: append(os.Environ(), "OSTRO_PORT=0", "OSTRO_S3_DEV=false")})
	if err != nil {
		return err
	}
	a, err := app.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), app.Options{Version: "test"})
	if err != nil {
		return err
	}
	go func() {
		<-a.Published()
		_ = os.WriteFile(filepath.Join(home, "url"), []byte(a.URL()), 0o600)
	}()
	return a.Run(context.Background())
}

// server is one running App.
type server struct {
	t    *testing.T
	app  *app.App
	stop context.CancelFunc
	done chan error
	cfg  config.Config

	closed bool
	user   string // who calls, if anybody in particular does
}

func findPython(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("these tests run DAG files and need python3 on PATH: %v", err)
	}
	return path
}

func newConfig(t *testing.T) config.Config {
	t.Helper()
	home := t.TempDir()
	cfg := config.Defaults(home)
	cfg.Port = 0
	cfg.Python = findPython(t)
	no := false
	cfg.S3.Dev = &no
	cfg.Tasks.KillGrace = 2 * time.Second
	if err := os.MkdirAll(cfg.DAGs, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(onPostgreSQL) != "" {
		cfg.Database = pgserver.Database(t)
	}
	return cfg
}

func logger(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func start(t *testing.T, cfg config.Config) *server {
	t.Helper()
	a, err := app.New(cfg, logger(t), app.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{t: t, app: a, stop: cancel, done: make(chan error, 1), cfg: cfg}
	go func() { s.done <- a.Run(ctx) }()
	t.Cleanup(s.close)
	select {
	case <-a.Ready():
	case err := <-s.done:
		t.Fatalf("the server ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not get ready")
	}
	select {
	case <-a.Published():
	case <-time.After(30 * time.Second):
		t.Fatalf("the DAG folder is not published\n%s", s.workerLog())
	}
	return s
}

// close stops the server in order.
func (s *server) close() {
	if s.closed {
		return
	}
	s.closed = true
	s.stop()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("the server stopped with an error: %v", err)
		}
	case <-time.After(30 * time.Second):
		s.t.Error("the server does not stop")
	}
	if s.t.Failed() {
		s.t.Log(s.workerLog())
	}
}

func (s *server) workerLog() string {
	b, _ := os.ReadFile(filepath.Join(s.cfg.Home, "logs", "worker.log"))
	return "worker.log:\n" + string(b)
}

// call asks the HTTP API.
func (s *server) call(method, path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.app.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.app.Token())
	req.Header.Set("Content-Type", "application/json")
	if s.user != "" {
		req.Header.Set("X-Ostro-User", s.user)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// trigger starts a run over HTTP.
func (s *server) trigger(dagID, runID string) {
	s.t.Helper()
	code, body := s.call("POST", "/api/v2/dags/"+dagID+"/dagRuns", fmt.Sprintf(`{"dag_run_id": %q, "logical_date": "2024-01-01T00:00:00Z"}`, runID))
	if code != http.StatusOK {
		s.t.Fatalf("trigger %s: %d %s", dagID, code, body)
	}
}

// wait polls the API until a run is in a state.
func (s *server) wait(dagID, runID, state string) {
	s.t.Helper()
	deadline := time.After(40 * time.Second)
	for {
		code, body := s.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID, "")
		if code == http.StatusOK && strings.Contains(body, fmt.Sprintf("%q:%q", "state", state)) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			_, tis := s.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID+"/taskInstances", "")
			s.t.Fatalf("run %s is not %s: %d %s\n%s\n%s", runID, state, code, body, tis, s.workerLog())
		}
	}
}

func (s *server) writeDAG(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.cfg.DAGs, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

const threeTasks = `
from datetime import datetime
from airflow.decorators import dag, task


@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def three():
    @task
    def one():
        print("hello from one")
        return {"n": 20}

    @task
    def two(x):
        return x["n"] + 1

    @task
    def last(n):
        print("the answer is", n * 2)

    last(two(one()))


three()
`

func TestADAGFileRunsEndToEnd(t *testing.T) {
	cfg := newConfig(t)
	if err := os.WriteFile(filepath.Join(cfg.DAGs, "three.py"), []byte(threeTasks), 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	s.trigger("three", "r1")
	s.wait("three", "r1", "success")
	log, err := os.ReadFile(filepath.Join(cfg.Home, "logs", "dag_id=three", "run_id=r1", "task_id=last", "attempt=1.log"))
	if err != nil || !strings.Contains(string(log), "the answer is 42") {
		t.Errorf("log: %s %v", log, err)
	}
	began := time.Now()
	for i := range 5 {
		id := fmt.Sprintf("w%d", i)
		code, body := s.call("POST", "/api/v2/dags/three/dagRuns", fmt.Sprintf(`{"dag_run_id": %q, "logical_date": null}`, id))
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		s.wait("three", id, "success")
	}
	t.Logf("5 warm runs of 3 tasks, asked every 20 ms: %s", time.Since(began))
}

func TestAHomeWhoseSocketWouldHaveTooLongAPathIsRefusedAndNothingWritten(t *testing.T) {
	cfg := newConfig(t)
	cfg.Home = filepath.Join(cfg.Home, strings.Repeat("x", 100))
	_, err := app.New(cfg, logger(t), app.Options{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("worker.sock, is %d bytes longer than the kernel allows; choose a shorter --home", len(cfg.Home)+len("/run/worker.sock")-107)) {
		t.Errorf("a home of %d bytes: %v", len(cfg.Home), err)
	}
	if _, err := os.Stat(cfg.Home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the home was made: %v", err)
	}
}

func TestASecondServerOnOneHomeIsRefused(t *testing.T) {
	cfg := newConfig(t)
	start(t, cfg)
	_, err := app.New(cfg, logger(t), app.Options{})
	if !errors.Is(err, app.ErrHomeInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second server: %v", err)
	}
}

func TestAPortInUseNamesItsOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := newConfig(t)
	cfg.Port = l.Addr().(*net.TCPAddr).Port
	_, err = app.New(cfg, logger(t), app.Options{})
	if !errors.Is(err, app.ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "--port") {
		t.Errorf("got %v", err)
	}
}

const sleeper = `
import time
from airflow.sdk import DAG, task

with DAG("sleeper", schedule=None):
    @task
    def sleep():
        import os
        with open(os.path.join(os.environ["MARKS"], "marks"), "a") as f:
            f.write("begun\n")
        time.sleep(float(os.environ.get("NAP", "60")))

    sleep()
`

func TestACleanStopEndsTasksAndTheNextStartRunsThemAgain(t *testing.T) {
	cfg := newConfig(t)
	marks := t.TempDir()
	cfg.Tasks.Env = map[string]string{"MARKS": marks}
	s := start(t, cfg)
	s.writeDAG("sleeper.py", sleeper)
	await(t, "the DAG to be published", func() bool {
		code, _ := s.call("GET", "/api/v2/dags/sleeper", "")
		return code == http.StatusOK
	})
	s.trigger("sleeper", "r1")
	await(t, "the task to begin", func() bool { b, _ := os.ReadFile(filepath.Join(marks, "marks")); return len(b) > 0 })
	s.close()
	if got := s.app.Report(); got.Ended+got.Killed != 1 || !got.Stored {
		t.Errorf("the stop says %q", got)
	}
	cfg.Tasks.Env["NAP"] = "0"
	s = start(t, cfg)
	s.wait("sleeper", "r1", "success")
	_, body := s.call("GET", "/api/v2/dags/sleeper/dagRuns/r1/taskInstances/sleep/tries", "")
	if strings.Count(body, `"try_number"`) != 2 {
		t.Errorf("tries: %s", body)
	}
}

// await polls a condition on real processes.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestATaskOutlivesThreeKilledServers(t *testing.T) {
	cfg := newConfig(t)
	marks := t.TempDir()
	cfg.Tasks.Env = map[string]string{"MARKS": marks, "NAP": "6"}
	yaml := fmt.Sprintf("database: %q\ntasks:\n  env: {MARKS: %q, NAP: \"6\"}\npython: %q\n", cfg.Database, marks, cfg.Python)
	if err := os.WriteFile(filepath.Join(cfg.Home, "ostro.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DAGs, "sleeper.py"), []byte(sleeper), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		_ = os.Remove(filepath.Join(cfg.Home, "url"))
		cmd := exec.Command(exe, "serve", cfg.Home)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "OSTRO_") })
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the server", func() bool { _, err := os.Stat(filepath.Join(cfg.Home, "url")); return err == nil })
		if i == 0 {
			url, _ := os.ReadFile(filepath.Join(cfg.Home, "url"))
			token, _ := os.ReadFile(filepath.Join(cfg.Home, "token"))
			req, _ := http.NewRequest(http.MethodPost, string(url)+"/api/v2/dags/sleeper/dagRuns", strings.NewReader(`{"dag_run_id": "r1", "logical_date": null}`))
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("trigger: %v %v", resp, err)
			}
			resp.Body.Close()
			await(t, "the task to begin", func() bool { b, _ := os.ReadFile(filepath.Join(marks, "marks")); return len(b) > 0 })
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	s := start(t, cfg)
	s.wait("sleeper", "r1", "success")
	if b, _ := os.ReadFile(filepath.Join(marks, "marks")); string(b) != "begun\n" {
		t.Errorf("the task began %d times", strings.Count(string(b), "begun"))
	}
}

func TestAServerOfAnotherUserIsNotReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("another user's file cannot be made here; the refusal is tested with root")
		return
	}
	cfg := newConfig(t)
	s := start(t, cfg)
	s.close()
	if err := os.Chown(filepath.Join(cfg.Home, "run", "server.lock"), 4711, -1); err != nil {
		t.Fatal(err)
	}
	_, err := app.New(cfg, logger(t), app.Options{Replace: true})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "runs as user 4711") {
		t.Errorf("got %v", err)
	}
}
