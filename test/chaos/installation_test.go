package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary is built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ostro-chaos-bin-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "ostro")
	if out, err := exec.Command("go", "build", "-o", binary, "ostro.dev/ostro/cmd/ostro").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build ostro: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// An installation is one home with its server, restarted by the test as often as it is killed.
type installation struct {
	t      *testing.T
	home   string
	port   int
	server *exec.Cmd // nil: none runs
	log    *os.File  // what the server says
	binary string    // the program of the next server
}

// newInstallation prepares an installation in a folder of its own and starts its server.
func newInstallation(t *testing.T, configuration string, files map[string]string) *installation {
	t.Helper()
	in := prepare(t, t.TempDir(), configuration, files)
	in.startServer()
	return in
}

// prepare writes the files of an installation whose server the test starts.
func prepare(t *testing.T, home, configuration string, files map[string]string) *installation {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(home, "dags"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(home, "ostro.yaml"), configuration)
	for name, text := range files {
		write(filepath.Join(home, "dags", name), text)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	log, err := os.OpenFile(filepath.Join(t.TempDir(), "server.out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, home: home, port: port, log: log, binary: binary}
	t.Cleanup(in.tearDown)
	return in
}

func (in *installation) startServer() {
	in.t.Helper()
	in.server = exec.Command(in.binary, "standalone", "--home", in.home, "--port", strconv.Itoa(in.port))
	in.server.Stdout, in.server.Stderr = in.log, in.log
	in.server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := in.server.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.eventually("the server answers", 60*time.Second, func() bool {
		return in.call("GET", "/api/v2/version", nil, nil) == nil
	})
}

func (in *installation) killServer() {
	_ = in.server.Process.Kill()
	_ = in.server.Wait()
	in.server = nil
}

// stopServer asks the server to stop and returns its exit code.
func (in *installation) stopServer() int {
	server := in.server
	in.server = nil
	_ = server.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = server.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		in.t.Errorf("standalone did not stop within 30 s of SIGTERM")
		_ = server.Process.Kill()
		<-done
	}
	return server.ProcessState.ExitCode()
}

// said is what the servers of this installation have said so far.
func (in *installation) said() string {
	text, err := os.ReadFile(in.log.Name())
	if err != nil {
		in.t.Fatal(err)
	}
	return string(text)
}

// configure replaces the configuration file.
func (in *installation) configure(text string) {
	in.t.Helper()
	if err := os.WriteFile(filepath.Join(in.home, "ostro.yaml"), []byte(text), 0o600); err != nil {
		in.t.Fatal(err)
	}
}

// ostro runs a command of this installation and returns what it said and its exit code.
func (in *installation) ostro(args ...string) (stdout, stderr string, code int) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, in.binary, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "OSTRO_HOME="+in.home)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run() // the exit code says more
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// processes lists the pids of this installation whose command line contains word.
func (in *installation) processes(word string) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !bytes.Contains(args, []byte(word)) {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(args, []byte(in.home)) || bytes.Contains(environ, []byte("OSTRO_WORKER_HOME="+in.home)) {
			found = append(found, pid)
		}
	}
	return found
}

func (in *installation) tearDown() {
	if in.t.Failed() {
		in.t.Logf("server output:\n%s", tail(in.log.Name(), 40))
		in.t.Logf("worker log:\n%s", tail(filepath.Join(in.home, "logs", "worker.log"), 40))
	}
	if in.server != nil {
		in.stopServer()
	}
	if left := in.processes(""); len(left) > 0 {
		in.t.Errorf("a clean stop left processes behind: %v", left)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = in.log.Close()
}

func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// call speaks the REST API; answer may be nil.
func (in *installation) call(method, path string, body, answer any) error {
	token, err := os.ReadFile(filepath.Join(in.home, "token"))
	if err != nil {
		return err
	}
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(in.t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d%s", in.port, path), payload)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// eventually polls until probe holds; the only way a test of real processes waits.
func (in *installation) eventually(what string, limit time.Duration, probe func() bool) {
	in.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !probe() {
		select {
		case <-deadline.C:
			in.t.Fatalf("%s: not within %s", what, limit)
		case <-tick.C:
		}
	}
}

type dagRun struct {
	RunID string `json:"dag_run_id"`
	State string `json:"state"`
}

type taskInstance struct {
	TaskID    string `json:"task_id"`
	State     string `json:"state"`
	TryNumber int    `json:"try_number"`
	Ostro     struct {
		Reason string `json:"reason"`
	} `json:"ostro"`
}

// trigger starts a run, retrying while the server is being restarted.
func (in *installation) trigger(dagID, runID string) {
	in.t.Helper()
	path := "/api/v2/dags/" + dagID
	in.eventually(dagID+" is known", 60*time.Second, func() bool {
		return in.call("PATCH", path, map[string]any{"is_paused": false}, nil) == nil
	})
	in.eventually(dagID+" is triggered", 60*time.Second, func() bool {
		err := in.call("POST", path+"/dagRuns", map[string]any{"dag_run_id": runID, "logical_date": nil}, nil)
		return err == nil || strings.Contains(err.Error(), "409")
	})
}

func (in *installation) state(dagID, runID string) string {
	var r dagRun
	if in.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID, nil, &r) != nil {
		return ""
	}
	return r.State
}

func (in *installation) taskInstances(dagID, runID string) []taskInstance {
	in.t.Helper()
	var answer struct {
		TaskInstances []taskInstance `json:"task_instances"`
	}
	if err := in.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID+"/taskInstances?limit=100", nil, &answer); err != nil {
		in.t.Fatal(err)
	}
	return answer.TaskInstances
}
