package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/run"
)

// closeAll has a task close everything it can be heard through.
const closeAll = `
os.closerange(0, 256)
`

func TestATaskThatHasSaidItsLastWordIsNotWaitedFor(t *testing.T) {
	f := newFixture(t)
	s := f.connect()
	r := f.do(`t.succeed(); t.send("Exiting", status=0, utime=1.5, stime=0.25, maxrss=7 << 20)` + closeAll + `time.sleep(1000)`)
	if r.State != run.Success || r.ExitCode == nil || *r.ExitCode != 0 || r.CPUSeconds != 1.75 || r.MaxRSS != 7<<20 {
		t.Errorf("%+v", r)
	}
	if pid := s.start(t, r.AttemptID).PID; !alive(pid) {
		t.Errorf("process %d is gone: it was waited for", pid)
	}
	if r := f.do(`t.succeed()`); r.State != run.Success {
		t.Errorf("the next one: %+v", r)
	}
}

func TestWhatATaskSaysAfterItsLastWordIsStillHeard(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r := f.do(`t.succeed(); t.send("Exiting", status=0); print("late", flush=True); os.kill(os.getpid(), 9)`)
	if r.State != run.Success {
		t.Errorf("%+v", r)
	}
	f.waitForLine(r.AttemptID, "late")
}

func TestATaskThatIsSilentWithoutALastWordIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.connect()
	end := filepath.Join(f.home, "end")
	id := f.launch(f.attempt(`t.succeed()` + closeAll + `
while not os.path.exists(` + "'" + end + "'" + `): time.sleep(0.002)
os._exit(5)`))
	f.do(`t.succeed()`) // one that came later is over
	if err := os.WriteFile(end, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := f.server.result(t, id); r.ExitCode == nil || *r.ExitCode != 5 {
		t.Errorf("%+v", r)
	}
}

func TestATaskWhoseLogCannotBeMadeIsEndedWithTheReason(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.home, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.settings.LogRoot = filepath.Join(f.home, "file", "logs")
	f.connect()
	r := f.do(`print("something", flush=True); time.sleep(1000)`)
	if r.State == run.Success || !r.Infra || !strings.Contains(r.Reason, "cannot write the log") {
		t.Errorf("%+v", r)
	}
}
