package worker

import (
	"strconv"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/run"
)

func TestAHostThatIsStoppedCannotKeepItsTaskFromEnding(t *testing.T) {
	for name, c := range map[string]struct{ ending, state, reason string }{
		"a success stays a success":                       {"", string(run.Success), ""},
		"an end without a word is no fault of the task's": {"os._exit(3)", string(run.Failed), "its DAG host, which hung or was stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			s := f.connect()
			id := f.launch(f.attempt("import signal; print(os.getppid()); os.kill(os.getppid(), signal.SIGSTOP); print('last'); sys.stdout.flush()\n" + c.ending))
			r := s.result(t, id)
			if string(r.State) != c.state || !strings.Contains(r.Reason, c.reason) || r.Infra != (c.reason != "") {
				t.Errorf("got %+v", r)
			}
			got := texts(readLog(t, f.logPath(id)), streamOut)
			if len(got) != 2 || got[1] != "last" {
				t.Fatalf("the log has %q", got)
			}
			host, _ := strconv.Atoi(got[0])
			eventually(t, "the host is gone", func() bool { return !alive(host) })
			if r := f.do(``); r.State != run.Success {
				t.Errorf("the next attempt: %+v", r)
			}
		})
	}
}
