package chaos

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lockDatabase has another process take the database's write lock until release is called.
func lockDatabase(t *testing.T, path string) (release func()) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
`, path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatalf("lock the database: %v\n%s", err, stderr.String())
	}
	return func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("release the database: %v\n%s", err, stderr.String())
		}
	}
}

func TestADatabaseLockedByAnotherProcessDelaysTheRunAndIsSaid(t *testing.T) {
	t.Parallel() // it mostly waits
	ledger := filepath.Join(t.TempDir(), "ledger")
	in := newInstallation(t, configuration, map[string]string{"ledger.py": strings.ReplaceAll(ledgerDAG, "LEDGER", ledger)})
	in.trigger("ledger", "run-0")
	in.eventually("tasks run", 30*time.Second, func() bool { return lines(ledger) >= 4 })

	release := lockDatabase(t, filepath.Join(in.home, "control.db"))
	in.eventually("the server says that the database is locked", 30*time.Second, func() bool {
		database, problem := in.health()
		return database == "unhealthy" && strings.Contains(problem, "another process holds the database's lock")
	})
	if _, stderr, code := in.ostro("dags", "trigger", "ledger", "--run-id", "refused"); code != 7 || !strings.Contains(stderr, "locked by another process") {
		t.Errorf("a trigger while the database is locked ends with %d and says %q, want 7 and that it may be locked", code, stderr)
	}
	release()

	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("ledger", "run-0") == "success" })
	in.checkRuns([]string{"run-0"})
	in.checkLedger(ledger)
	if got := in.state("ledger", "refused"); got != "" {
		t.Errorf("the run whose trigger was refused is there and %s", got)
	}
}

// startFails starts a server that cannot start and returns what it says and its exit code.
func (in *installation) startFails(args ...string) (stderr string, code int) {
	in.t.Helper()
	out, stderr, code := in.ostro(append([]string{"standalone"}, args...)...)
	if strings.Contains(out, "is running") {
		in.t.Errorf("the server says that it runs:\n%s", out)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic") {
		in.t.Errorf("the server panics:\n%s", stderr)
	}
	return stderr, code
}

func (in *installation) expect(what, stderr string, code, want int, words ...string) {
	in.t.Helper()
	if code != want {
		in.t.Errorf("%s: exit code %d, want %d: %s", what, code, want, stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			in.t.Errorf("%s: not said: %q in %q", what, w, stderr)
		}
	}
}

func TestAStartOnADatabaseThatCannotBeUsedSaysWhyAndHarmsNothing(t *testing.T) {
	t.Parallel() // it mostly waits
	in := newInstallation(t, "", map[string]string{"good.py": good("good")})
	in.trigger("good", "before")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("good", "before") == "success" })

	stderr, code := in.startFails("--port", "0")
	in.expect("a second server", stderr, code, 5, "process "+strconv.Itoa(in.server.Process.Pid), in.home, "--home")
	in.stopServer()

	path := filepath.Join(in.home, "control.db")
	release := lockDatabase(t, path)
	in.startServer() // it has nothing to write yet
	in.eventually("the server says that the database is locked", 30*time.Second, func() bool {
		_, problem := in.health()
		return strings.Contains(problem, "another process holds the database's lock")
	})
	release()
	in.eventually("the server goes on", 30*time.Second, func() bool { database, problem := in.health(); return database == "healthy" && problem == "" })
	in.stopServer()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	damaged := append(bytes.Repeat([]byte("damaged "), 1024), whole[8192:]...)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, code = in.startFails("--port", "0")
	in.expect("a damaged database", stderr, code, 7, "damaged", "ostro db check", "backup")
	_, stderr, code = in.ostro("db", "check")
	in.expect("the check of a damaged database", stderr, code, 1, "damaged")
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, damaged) {
		t.Errorf("the damaged file was changed (%v)", err)
	}

	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(in.port)))
	if err != nil {
		t.Fatal(err)
	}
	stderr, code = in.startFails("--port", strconv.Itoa(in.port))
	in.expect("a port in use", stderr, code, 5, "port "+strconv.Itoa(in.port)+" is in use", "process "+strconv.Itoa(os.Getpid()), "--port")
	_ = other.Close()

	in.startServer()
	if got := in.state("good", "before"); got != "success" {
		t.Errorf("the run of before is %q after the backup was put back", got)
	}
}

func TestAStartOnAReadOnlyHomeSaysSo(t *testing.T) {
	home := smallDisk(t, "40m")
	in := prepare(t, home, "", map[string]string{"good.py": good("good")})
	in.startServer()
	in.trigger("good", "before")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("good", "before") == "success" })
	in.stopServer()

	remount(t, home, true)
	stderr, code := in.startFails("--port", "0")
	in.expect("a read-only home", stderr, code, 7, "read-only", home)
	for _, command := range []string{"check", "clean", "migrate"} {
		_, stderr, code := in.ostro("db", command)
		in.expect("db "+command+" in a read-only home", stderr, code, 7, "read-only", home)
	}
	remount(t, home, false)
	in.startServer()
	if got := in.state("good", "before"); got != "success" {
		t.Errorf("the run of before is %q", got)
	}
}
