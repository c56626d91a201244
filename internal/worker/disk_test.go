package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// fullDisk is a folder on a file system of its own that has no room until makeRoom is called.
func fullDisk(t *testing.T) (dir string, makeRoom func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk was to be filled: %v", err)
	}
	return dir, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheServerIsToldThatLogsCannotBeWrittenAndWhenTheyCanAgain(t *testing.T) {
	f := newFixture(t)
	var makeRoom func()
	f.settings.LogRoot, makeRoom = fullDisk(t)
	s := f.connect()
	id := f.launch(f.attempt("print('a line that finds no room')"))
	told := func(s *server) func() bool {
		return func() bool {
			p := s.Problem()
			return strings.Contains(p, "no space left") && strings.Contains(p, f.logPath(id)) && strings.Contains(p, "nothing is lost")
		}
	}
	eventually(t, "the server knows", told(s))

	f.disconnect()
	if p := s.Problem(); p != "" {
		t.Errorf("a server that is not connected still says %q", p)
	}
	s = f.connect()
	eventually(t, "a server that comes later knows", told(s))

	makeRoom()
	if r := s.result(t, id); r.State != "success" {
		t.Errorf("the task ended %s: %s", r.State, r.Reason)
	}
	eventually(t, "the server knows that it is over", func() bool { return s.Problem() == "" })
	if diff := cmp.Diff([]string{"a line that finds no room"}, texts(readLog(t, f.logPath(id)), streamOut)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func TestAResultThatTheSpoolCannotKeepIsToldUntilItIsWrittenOrWantedNoMore(t *testing.T) {
	dir := t.TempDir()
	s := testSpool(t, dir)
	var said []string
	s.refused = func(err error) {
		if err == nil {
			said = append(said, "over")
		} else {
			said = append(said, reasonOf(err))
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "results.journal"), 0o700); err != nil { // as a disk would refuse the file
		t.Fatal(err)
	}
	if _, err := s.Add(executor.Result{AttemptID: "a", State: run.Success}); err != nil {
		t.Fatal(err)
	}
	s.Save("a")
	if diff := cmp.Diff([]string{"is a directory"}, said); diff != "" {
		t.Fatalf("said (-want +got):\n%s", diff)
	}
	s.Remove("a")
	if diff := cmp.Diff([]string{"is a directory", "over"}, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func reasonOf(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

func TestWhatTheDiskRefusesIsSaidInOneLine(t *testing.T) {
	d := newDiskWatch()
	d.note("/logs/b", syscall.ENOSPC)
	d.note("/logs/a", syscall.ENOSPC)
	d.note("/logs/c", nil)
	const rest = "; tasks that print wait, nothing is lost, and all goes on by itself when that is put right"
	for _, want := range []string{
		"the worker cannot write: /logs/a: no space left on device (and 1 more)" + rest,
		"the worker cannot write: /logs/b: no space left on device" + rest,
		"",
	} {
		if diff := cmp.Diff(want, d.problem()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if strings.Contains(want, "/logs/a") {
			d.note("/logs/a", nil)
		} else {
			d.note("/logs/b", nil)
		}
	}
}
