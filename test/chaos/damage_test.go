package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patientDAG has one task that runs until a file is there; it says which attempt it is. GATE is replaced.
const patientDAG = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0})
def patient():
    @task
    def waits(ti=None):
        for i in range(20):
            print("line %d of try %d, märchenhaft" % (i, ti.try_number), flush=True)
        while not os.path.exists("GATE"):
            time.sleep(0.02)
        print("last line of try %d" % ti.try_number, flush=True)
        return "whole"
    waits()
patient()
`

// try is what the history says of one attempt.
type try struct {
	State     string `json:"state"`
	TryNumber int    `json:"try_number"`
	Ostro     struct {
		Reason string `json:"reason"`
	} `json:"ostro"`
}

func (in *installation) tries(dagID, runID, taskID string) []try {
	in.t.Helper()
	var answer struct {
		Tries []try `json:"task_instances"`
	}
	if err := in.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID+"/taskInstances/"+taskID+"/tries", nil, &answer); err != nil {
		in.t.Fatal(err)
	}
	return answer.Tries
}

func openGate(t *testing.T, gate string) {
	t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (in *installation) onlyLog(dagID, runID, taskID string, try int) string {
	return filepath.Join(in.home, "logs", "dag_id="+dagID, "run_id="+runID, "task_id="+taskID, fmt.Sprintf("attempt=%d.log", try))
}

// killWorker ends the worker with SIGKILL and waits until it is gone.
func (in *installation) killWorker() {
	in.t.Helper()
	found := in.processes("worker")
	if len(found) != 1 {
		in.t.Fatalf("there are %d workers, want 1", len(found))
	}
	if err := syscall.Kill(found[0], syscall.SIGKILL); err != nil {
		in.t.Fatal(err)
	}
	in.eventually("the worker is gone", 10*time.Second, func() bool {
		now := in.processes("worker")
		return len(now) == 0 || now[0] != found[0]
	})
}

func TestALogCutOffInTheMiddleOfALineIsReadAndTheNextAttemptsLogIsWhole(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	in := newInstallation(t, configuration, map[string]string{"patient.py": strings.ReplaceAll(patientDAG, "GATE", gate)})
	in.trigger("patient", "r")
	path := in.onlyLog("patient", "r", "waits", 1)
	in.eventually("the first lines are written", 30*time.Second, func() bool { return lines(path) >= 20 })
	in.killServer()
	in.killWorker()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-9); err != nil {
		t.Fatal(err)
	}
	in.startServer()
	in.eventually("the second attempt runs", 30*time.Second, func() bool { return lines(in.onlyLog("patient", "r", "waits", 2)) >= 20 })
	openGate(t, gate)
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("patient", "r") == "success" })

	for try, want := range map[int]string{1: "line 18 of try 1", 2: "last line of try 2"} {
		var answer struct {
			Content []struct {
				Event string `json:"event"`
			} `json:"content"`
		}
		if err := in.call("GET", fmt.Sprintf("/api/v2/dags/patient/dagRuns/r/taskInstances/waits/logs/%d", try), nil, &answer); err != nil {
			t.Fatal(err)
		}
		if said := fmt.Sprint(answer.Content); !strings.Contains(said, want) {
			t.Errorf("the log of try %d does not say %q: %s", try, want, said)
		}
		for _, args := range [][]string{{}, {"-f"}} {
			stdout, stderr, code := in.ostro(append([]string{"tasks", "logs", "patient", "waits", "r", "--try", fmt.Sprint(try)}, args...)...)
			if code != 0 || !strings.Contains(stdout, want) {
				t.Errorf("ostro tasks logs --try %d %v: exit code %d, %q, %s", try, args, code, stdout, stderr)
			}
		}
	}
	if tries := in.tries("patient", "r", "waits"); len(tries) != 2 || !strings.Contains(tries[0].Ostro.Reason, "worker") {
		t.Errorf("the history does not say that the first try was lost with its worker: %+v", tries)
	}
}

func TestASpooledResultThatCannotBeReadIsReportedAsLostAndTheTaskRunsAgain(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	in := newInstallation(t, configuration, map[string]string{"patient.py": strings.ReplaceAll(patientDAG, "GATE", gate)})
	in.trigger("patient", "r")
	in.eventually("the first lines are written", 30*time.Second, func() bool { return lines(in.onlyLog("patient", "r", "waits", 1)) >= 20 })
	in.killServer()
	openGate(t, gate)
	spooled := filepath.Join(in.home, "spool", "results.journal")
	in.eventually("the result waits in the spool", 30*time.Second, func() bool {
		data, _ := os.ReadFile(spooled)
		return bytes.Count(data, []byte("\n")) == 1
	})
	in.killWorker()
	if err := os.Truncate(spooled, 60); err != nil { // behind the attempt's id
		t.Fatal(err)
	}
	in.startServer()
	in.eventually("the run ends", 30*time.Second, func() bool { return in.state("patient", "r") == "success" })
	if tries := in.tries("patient", "r", "waits"); len(tries) != 2 || !strings.Contains(tries[0].Ostro.Reason, "its result was lost: the spooled file cannot be read") {
		t.Errorf("the history does not say that the first result was lost: %+v", tries)
	}
	if kept, _ := filepath.Glob(filepath.Join(in.home, "spool", "corrupt", "*")); len(kept) != 1 {
		t.Errorf("the unreadable file was not kept aside: %v", kept)
	}
}
