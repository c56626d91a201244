package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const greedyDAG = `
import os
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0})
def greedy():
    @task
    def eats():
        with open("GROUP/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))
        data = [bytearray(b"x" * 1_000_000) for _ in range(200)]
        return len(data)
    eats()
greedy()
`

// memoryGroup makes a control group whose processes have 50 MB together.
func memoryGroup(t *testing.T) string {
	t.Helper()
	limits := map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"}
	why := "no memory controller is mounted"
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		group := filepath.Join(root, fmt.Sprintf("ostro-test-%d", os.Getpid()))
		if err := os.Mkdir(group, 0o755); err != nil {
			why = err.Error()
			continue
		}
		if err := os.WriteFile(filepath.Join(group, limits[root]), []byte("50000000"), 0o600); err != nil {
			why = err.Error()
			_ = os.Remove(group)
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(group); err != nil {
				t.Errorf("remove the control group: %v", err)
			}
		})
		return group
	}
	t.Skipf("a memory control group cannot be made here: %s", why)
	return ""
}

func TestATaskKilledByTheKernelForMemorySaysSo(t *testing.T) {
	group := memoryGroup(t)
	in := newInstallation(t, hostileConfiguration, map[string]string{"greedy.py": strings.ReplaceAll(greedyDAG, "GROUP", group)})
	in.trigger("greedy", "r")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("greedy", "r") == "failed" })
	tries := in.tries("greedy", "r", "eats")
	if len(tries) != 1 || !strings.Contains(tries[0].Ostro.Reason, "killed by the kernel: out of memory") {
		t.Errorf("the reason is not said in words: %+v", tries)
	}
	if _, stderr, code := in.ostro("runs", "watch", "greedy", "r"); code != 1 {
		t.Errorf("watching the failed run ends with %d: %s", code, stderr)
	}
	if stdout, _, _ := in.ostro("tasks", "logs", "greedy", "eats", "r"); !strings.Contains(stdout, "killed by the kernel: out of memory") {
		t.Errorf("the log does not say it: %s", stdout)
	}
}
