package worker

import (
	"errors"
	"strings"
	"testing"
)

func TestAKillForWantOfMemoryIsToldFromOthers(t *testing.T) {
	kills := "oom_kill 3\n"
	log := ""
	readable := true
	w := &oomWatch{
		count:  3,
		vmstat: func() ([]byte, error) { return []byte("nr_free_pages 1\n" + kills + "x 2\n"), nil },
		kmsg:   func() ([]byte, bool) { return []byte(log), readable },
	}
	if got := w.Explain(42); !strings.Contains(got, "SIGKILL") {
		t.Errorf("nothing counted: %q", got)
	}
	log = "6,1,2,-;Out of memory: Killed process 42 (python) total-vm:1kB"
	if got := w.Explain(42); got != "killed by the kernel: out of memory" {
		t.Errorf("named in the log: %q", got)
	}
	if got := w.Explain(4); !strings.Contains(got, "SIGKILL") {
		t.Errorf("another process named: %q", got)
	}
	log, readable, kills = "", false, "oom_kill 4\n"
	if got := w.Explain(7); !strings.HasPrefix(got, "killed by the kernel: out of memory") {
		t.Errorf("counted: %q", got)
	}
	if got := w.Explain(8); !strings.Contains(got, "SIGKILL") {
		t.Errorf("counted before: %q", got)
	}
	w.vmstat = func() ([]byte, error) { return nil, errors.New("no such file") }
	if got := w.Explain(9); !strings.Contains(got, "SIGKILL") {
		t.Errorf("no counter: %q", got)
	}
}
