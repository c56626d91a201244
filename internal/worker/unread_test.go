package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// stopped has the forks of a host that wait for a task stopped, so that what they are given stays unread.
func (f *fixture) stopped(t *testing.T, host int) (waiting []int) {
	t.Helper()
	eventually(t, "two forks wait", func() bool { waiting = spareForks(host); return len(waiting) == spareCount })
	for _, pid := range waiting {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	return waiting
}

// bulky makes an order larger than a socket takes.
func bulky(a *executor.Attempt) {
	a.Startup.Env = map[string]string{"BULK": strings.Repeat("x", 1<<20)}
}

func small(*executor.Attempt) {}

func TestAnOrderThatItsProcessHasNotReadIsCarriedOutByAnother(t *testing.T) {
	for name, size := range map[string]func(*executor.Attempt){"small": small, "large": bulky} {
		for what, end := range map[string]func(host int, waiting []int){
			"killed forks": func(_ int, waiting []int) {
				for _, pid := range waiting {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			},
			"a killed host": func(host int, _ []int) { _ = syscall.Kill(host, syscall.SIGKILL) },
		} {
			t.Run(name+" order, "+what, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				s := f.connect()
				_, host := f.whoRan(t)
				waiting := f.stopped(t, host)
				marker := filepath.Join(f.home, "marker")
				id := f.launch(f.attempt(fmt.Sprintf(`open(%q, "a").write("x"); print("out"); t.log("log")`, marker), size))
				if first := s.start(t, id).PID; !slices.Contains(waiting, first) {
					t.Fatalf("process %d was to run it, not one of %v", first, waiting)
				}
				end(host, waiting)
				r := s.result(t, id)
				if r.State != run.Success || slices.Contains(waiting, r.PID) {
					t.Errorf("got %+v", r)
				}
				if ran, _ := os.ReadFile(marker); string(ran) != "x" {
					t.Errorf("it ran %d times", len(ran))
				}
				log := readLog(t, f.logPath(id))
				if out, records := texts(log, streamOut), texts(log, streamLog); !slices.Equal(out, []string{"out"}) || !slices.Contains(records, "log") {
					t.Errorf("printed %q, logged %q", out, records)
				}
			})
		}
	}
}

const hookedFile = `
import atexit, os
from airflow import DAG
from airflow.operators.python import PythonOperator

here = os.path.dirname(os.path.abspath(__file__))

def left():
    with open(os.path.join(here, "left"), "a") as f:
        f.write("%s\n" % os.environ.get("OSTRO_ATTEMPT_ID", "nobody"))

atexit.register(left)

with DAG("hooked", schedule=None) as dag:
    PythonOperator(task_id="t", python_callable=lambda: print(os.getpid(), os.getppid()))
`

func TestATaskIsNotChargedForASignalThatComesBeforeItHasBegun(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "hooked.py"), []byte(hookedFile), 0o644); err != nil {
		t.Fatal(err)
	}
	s := f.connect()
	f.serveAnswers(s)
	order := func() executor.Attempt {
		return f.attempt("", task("t"), inFile("hooked.py"), func(a *executor.Attempt) {
			a.Startup.TI.DAGID, a.Startup.Context.DagRun.DAGID = "hooked", "hooked"
		})
	}
	var pid, host int
	first := s.result(t, f.launch(order()))
	if _, err := fmt.Sscan(texts(readLog(t, f.logPath(first.AttemptID)), streamOut)[0], &pid, &host); err != nil {
		t.Fatal(err)
	}
	waiting := f.stopped(t, host)
	id := f.launch(order())
	s.start(t, id)
	for _, one := range waiting {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
			if err := syscall.Kill(one, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := s.result(t, id); r.State != run.Success || r.Infra || slices.Contains(waiting, r.PID) {
		t.Errorf("got %+v", r)
	}
	if left, _ := os.ReadFile(filepath.Join(f.bundle, "left")); string(left) != first.AttemptID+"\n"+id+"\n" {
		t.Errorf("the file's hook ran in processes of %q", left)
	}
}

func TestAnAttemptThatHadNotBegunWhenItsWorkerWasAskedToEndIsNotCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.connect()
	_, host := f.whoRan(t)
	f.stopped(t, host)
	id := f.launch(f.attempt(""))
	s.start(t, id)
	if err := syscall.Kill(f.workerPID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r := s.result(t, id); !r.Infra || !r.Uncounted || !strings.Contains(r.Reason, "the worker was stopped") {
		t.Errorf("got %+v", r)
	}
	f.disconnect()
}

func TestAnAttemptWhoseLogCannotBeMadeIsCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	for _, isolation := range []string{"spawn", ""} {
		r := f.do("time.sleep(1000)", func(a *executor.Attempt) {
			a.Isolation, a.LogPath = isolation, "task_id="+strings.Repeat("x", 300)+"/attempt=1.log"
		})
		if !r.Infra || r.Uncounted || !strings.Contains(r.Reason, "cannot write the log") {
			t.Errorf("isolation %q: %+v", isolation, r)
		}
	}
}
