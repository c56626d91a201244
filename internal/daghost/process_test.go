package daghost

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually polls until f returns true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// startShell starts a shell script in its own session; the test reaps it.
func startShell(t *testing.T, script string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { KillTree(cmd.Process.Pid); _ = cmd.Wait() })
	return cmd
}

func TestAProcessIsKnownBeyondItsNumber(t *testing.T) {
	cmd := startShell(t, "sleep 100")
	id, err := Identify(cmd.Process.Pid)
	if err != nil || !id.Alive() {
		t.Fatalf("%+v, %v", id, err)
	}
	for _, other := range []ProcessID{
		{PID: id.PID, StartTicks: id.StartTicks + 1, BootID: id.BootID},
		{PID: id.PID, StartTicks: id.StartTicks, BootID: "another boot"},
		{},
	} {
		if other.Alive() || other.Signal(0) == nil {
			t.Errorf("%+v passes for %+v", other, id)
		}
	}
	_ = cmd.Process.Kill()
	eventually(t, "a zombie is not alive", func() bool { return !id.Alive() })
}

func TestAProcessWhoseNameHoldsParenthesesIsReadRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a) Z 1 (b")
	if err := os.Symlink("/bin/sleep", path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	eventually(t, "it sleeps", func() bool {
		s, err := readStat(cmd.Process.Pid)
		return err == nil && s.state == 'S' && s.ppid == os.Getpid()
	})
}

func TestAKilledTreeHasNoSurvivors(t *testing.T) {
	dir := t.TempDir()
	cmd := startShell(t, "for i in 1 2 3; do (trap '' TERM; echo x > "+dir+"/$i; sleep 100; true) & done; wait")
	eventually(t, "the children run", func() bool { m, _ := filepath.Glob(dir + "/*"); return len(m) == 3 })
	below := descendants(cmd.Process.Pid)
	if len(below) < 3 {
		t.Fatalf("below it: %v", below)
	}
	KillTree(cmd.Process.Pid)
	for _, pid := range below {
		pid := pid
		eventually(t, "a descendant is gone", func() bool {
			s, err := readStat(pid)
			return err != nil || s.state == 'Z'
		})
	}
}

func TestOnlyOtherInstancesOfTheHomeAreKilledByTheirMark(t *testing.T) {
	home := t.TempDir()
	theirs := startShell(t, "sleep 100", EnvHome+"="+home, EnvInstance+"=old")
	ours := startShell(t, "sleep 100", EnvHome+"="+home, EnvInstance+"=new")
	elsewhere := startShell(t, "sleep 100", EnvHome+"="+home+"-2", EnvInstance+"=old")
	n, err := KillMarked(home, "new", nil)
	if err != nil || n == 0 {
		t.Errorf("killed %d, %v", n, err)
	}
	for cmd, want := range map[*exec.Cmd]bool{theirs: false, ours: true, elsewhere: true} {
		id, err := Identify(cmd.Process.Pid)
		if got := err == nil && id.Alive(); got != want {
			t.Errorf("alive: %v, want %v", got, want)
		}
	}
}

func TestTheHoldersOfAPipeAreFound(t *testing.T) {
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sleep", "100")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	w.Close()
	if got := HoldersOf(r); len(got) != 1 || got[0] != cmd.Process.Pid {
		t.Errorf("got %v, want [%d]", got, cmd.Process.Pid)
	}
}

func TestTheLauncherClearsOrphansAndSparesItsOwnChildren(t *testing.T) {
	if err := SetSubreaper(); err != nil {
		t.Fatal(err)
	}
	l := NewLauncher()
	defer l.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pids := filepath.Join(t.TempDir(), "pid")
	own, err := l.Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 100 & echo $! > " + pids + "; sleep 100"}, Stdout: null, Stderr: null})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its child runs", func() bool { b, _ := os.ReadFile(pids); return strings.HasSuffix(string(b), "\n") })
	if n := l.ClearOrphans(); n != 0 {
		t.Errorf("killed %d of its own", n)
	}
	if err := syscall.Kill(own.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-own.Done
	eventually(t, "the orphans are cleared", func() bool { l.ClearOrphans(); return len(descendants(os.Getpid())) == 0 })
}

func TestAHostsEndIsExplainedWithItsLastWords(t *testing.T) {
	l := NewLauncher()
	defer l.Close()
	dir := t.TempDir()
	pkg := filepath.Join(dir, "ostro")
	if err := os.Mkdir(pkg, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"__init__.py": "", "keeper.py": "import sys; print('no module named foo', file=sys.stderr); sys.exit(7)"} {
		if err := os.WriteFile(filepath.Join(pkg, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Start(t.Context(), l, Spec{Interpreter: "python3", Runtime: dir, Env: os.Environ()}, nil)
	if err == nil || !strings.Contains(err.Error(), "exit code 7") || !strings.Contains(err.Error(), "no module named foo") {
		t.Errorf("got %v", err)
	}
}
