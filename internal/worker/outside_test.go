package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/workerapi"
)

var quiet = slog.New(slog.DiscardHandler)

func TestAWorkerThatNobodyReachesIsEndedThroughItsRecord(t *testing.T) {
	for name, stopped := range map[string]bool{"one that runs": false, "one that is stopped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.connect()
			id := f.launch(f.attempt(`t.log("up"); time.sleep(1000)`))
			f.waitForLine(id, "up")
			pid := f.workerPID()
			f.disconnect()
			if found, ok := Find(f.home); !ok || found.PID != pid {
				t.Errorf("found %+v, %v, want process %d", found, ok, pid)
			}
			if stopped {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			got, err := End(t.Context(), f.home, 5*time.Second, quiet)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&workerapi.Stopped{Type: "Stopped", Ended: []string{id}}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if left := marked(f.home); len(left) > 0 || alive(pid) {
				t.Errorf("left behind: %v, the worker is there: %v", left, alive(pid))
			}
			if _, ok := Find(f.home); ok {
				t.Error("it is still found")
			}
			if got, err := End(t.Context(), f.home, time.Second, quiet); got != nil || err != nil {
				t.Errorf("a second time: %+v, %v", got, err)
			}
			s := f.connect() // what it spooled is not lost
			if r := s.result(t, id); !r.Infra || r.Uncounted || !strings.Contains(r.Reason, "the worker was stopped") {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestAWorkerThatDoesNotHeedTheOrderIsKilledWithAllThatIsBelowIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	// The task ignores TERM for longer than the time given, and has a daemon outside its tree without the mark.
	id := f.launch(f.attempt(`
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
p = subprocess.Popen(["env", "-i", "sleep", "1000"])
print("process", p.pid); sys.stdout.flush(); time.sleep(1000)`))
	child := f.waitForProcess(id)
	pid := f.workerPID()
	f.disconnect()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got, err := End(ctx, f.home, time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{id}, got.Killed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left := marked(f.home); len(left) > 0 || alive(pid) || alive(child) {
		t.Errorf("left behind: %v; worker: %v, child: %v", left, alive(pid), alive(child))
	}
}

func TestALockThatDoesNotSayWhoHoldsItIsAnErrorInWords(t *testing.T) {
	home := t.TempDir()
	if got, err := End(t.Context(), home, 0, quiet); got != nil || err != nil {
		t.Errorf("where no worker has ever been: %+v, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(home, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := lock(lockPath(home))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := End(ctx, home, 0, quiet); err == nil || !strings.Contains(err.Error(), "end it by hand") {
		t.Errorf("got %v", err)
	}
	if err := sign(held); err != nil {
		t.Fatal(err)
	}
	if id, ok := Find(home); !ok || id.PID != os.Getpid() {
		t.Errorf("found %+v, %v", id, ok)
	}
}

func TestTheWorkersOwnLogIsPutAsideWhenItIsLarge(t *testing.T) {
	home := t.TempDir()
	path := OwnLog(home)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	elsewhere, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	fds := []int{int(elsewhere.Fd()), int(f.Fd())}
	say := func(words string) {
		t.Helper()
		if _, err := unix.Write(fds[1], []byte(words)); err != nil {
			t.Fatal(err)
		}
		if err := boundOwnLog(home, 8, fds...); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		data, _ := os.ReadFile(path)
		return string(data)
	}
	for _, words := range []string{"short\n", "first too long\n", "x\n", "second too long\n", "last\n"} {
		say(words)
	}
	if diff := cmp.Diff([]string{"x\nsecond too long\n", "last\n"}, []string{read(path + ".1"), read(path)}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 2 {
		t.Errorf("%d files are kept", len(files))
	}
}

func TestATaskThatAsksWhileTheWorkerStopsWithoutAServerIsToldSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	id := f.launch(f.attempt(`
import signal
signal.signal(signal.SIGTERM, lambda *_: None)
t.log("up")
print(t.ask("GetVariable", key="k")["error"]["message"])`))
	f.waitForLine(id, "up")
	f.disconnect()
	if _, err := End(t.Context(), f.home, 20*time.Second, quiet); err != nil {
		t.Fatal(err)
	}
	if got := texts(readLog(t, f.logPath(id)), streamOut); len(got) != 1 || !strings.Contains(got[0], "the worker is stopping") {
		t.Errorf("it was told %q", got)
	}
	s := f.connect()
	if r := s.result(t, id); r.State == run.UpForRetry && !r.Infra {
		t.Errorf("it cost the author a retry: %+v", r)
	}
}

func TestATaskThatAsksWithoutEndIsHeldBackAndStillAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	gate := make(chan struct{})
	const asked = 5 * openRequests
	s.mu.Lock()
	s.answer = func(string, string, json.RawMessage) (json.RawMessage, error) {
		<-gate
		return json.RawMessage(`{"type":"VariableResult","key":"k","value":"v"}`), nil
	}
	s.mu.Unlock()
	id := f.launch(f.attempt(fmt.Sprintf(`
for i in range(%d): t.channel.send({"type": "GetVariable", "key": "k"}, id=i + 1)
t.log("asked")
print(sum("body" in t.channel.read() for i in range(%d)))`, asked, asked)))
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.requests) }
	eventually(t, "as many as may be under way", func() bool { return count() == openRequests })
	close(gate)
	if r := s.result(t, id); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
	if got := texts(readLog(t, f.logPath(id)), streamOut); len(got) != 1 || got[0] != strconv.Itoa(asked) || count() != asked {
		t.Errorf("%q answers, %d requests", got, count())
	}
}
