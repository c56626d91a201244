package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/executortest"
	"ostro.dev/ostro/internal/executor/local"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
	"ostro.dev/ostro/python"
)

const obedient = `
import os, sys, time
from airflow.sdk import DAG, task

with DAG("obedient", schedule=None):
    @task
    def obey():
        time.sleep(float(os.environ["FOR"]))
        if os.environ["EXIT"] != "0":
            os._exit(int(os.environ["EXIT"]))

    obey()
`

// TestTheLocalExecutorConforms asks the suite of a real worker process that runs real Python.
func TestTheLocalExecutorConforms(t *testing.T) {
	interpreter := findPython(t)
	runtime, err := python.Extract(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	executortest.Exercise(t, func(t *testing.T) executortest.Harness {
		home, err := os.MkdirTemp("", "ostro") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(home) })
		if err := os.WriteFile(filepath.Join(home, "obedient.py"), []byte(obedient), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"run", "logs", "spool"} {
			if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		e := local.New(local.Options{Home: home, Logger: logger(t), Settings: workerapi.Settings{
			LogRoot: filepath.Join(home, "logs"), Python: interpreter, RuntimePath: runtime, GraceSeconds: 2, Slots: 8,
		}})
		t.Cleanup(func() { endWorkers(t, home) })
		return executortest.Harness{
			Executor: e,
			Attempt: func(id string, b executortest.Behaviour) executor.Attempt {
				k := run.Key{DAGID: "obedient", RunID: "r", TaskID: "obey", MapIndex: -1}
				return executor.Attempt{
					ID: id, Token: "t", LogPath: "dag_id=obedient/" + id + ".log",
					Startup: protocol.StartupDetails{
						Type: "StartupDetails", Kind: protocol.KindTask, DagRelPath: "obedient.py", StartDate: time.Now(),
						TI:      protocol.TaskRef{AttemptID: id, DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID, MapIndex: -1, TryNumber: 1},
						Bundle:  protocol.BundleInfo{Name: "b", Version: "v", Path: home, Shown: home},
						Context: protocol.TIRunContext{DagRun: protocol.DagRun{DAGID: k.DAGID, RunID: k.RunID, RunType: "manual", State: "running", Conf: []byte("{}")}},
						Env:     map[string]string{"FOR": fmt.Sprint(b.For.Seconds()), "EXIT": strconv.Itoa(b.Exit)},
					},
				}
			},
			KillWorker: func() {
				for _, pid := range workers(home) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			},
		}
	})
}

// workers finds the worker processes of a home folder.
func workers(home string) (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		b, _ := os.ReadFile(path)
		if strings.Contains(string(b), "\x00worker\x00--home\x00"+home+"\x00") {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// endWorkers ends what a test has started, and waits for it.
func endWorkers(t *testing.T, home string) {
	t.Helper()
	for _, pid := range workers(home) {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	await(t, "the worker's end", func() bool { return len(workers(home)) == 0 })
}
