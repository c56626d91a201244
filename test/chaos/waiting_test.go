package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const gateTriggers = `
import asyncio, os

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Gate(BaseTrigger):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def serialize(self):
        return "gates.Gate", {"path": self.path}

    async def run(self):
        while not os.path.exists(self.path):
            await asyncio.sleep(0.05)
        yield TriggerEvent(self.path)
`

// waitingDAG has tasks that wait for the file GATE, by a trigger in Python, by the server, and by a person. Each writes a
// line to LEDGER when it goes on.
const waitingDAG = `
import os
from datetime import datetime
from airflow import DAG
from airflow.models import BaseOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.triggers.file import FileTrigger
import gates


class Waits(BaseOperator):
    def __init__(self, trigger, **kwargs):
        super().__init__(**kwargs)
        self.trigger = trigger

    def execute(self, context):
        self.defer(trigger=self.trigger, method_name="later")

    def later(self, context, event):
        fd = os.open("LEDGER", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, ("%s %s\n" % (os.environ["OSTRO_ATTEMPT_ID"], self.task_id)).encode())
        os.close(fd)


with DAG("waiting", schedule=None, start_date=datetime(2024, 1, 1), catchup=False):
    for i in range(3):
        Waits(task_id="python%d" % i, trigger=gates.Gate("GATE"))
    Waits(task_id="server", trigger=FileTrigger("GATE", poke_interval=0.1))
    ApprovalOperator(task_id="person", subject="Go on?")
`

// While tasks are deferred the server, the worker, and the triggerer are killed, again and again: nothing is lost, and each
// task goes on exactly once, within its first try.
func TestWhatIsWaitedForOutlivesKillsAndGoesOnOnce(t *testing.T) {
	dir := t.TempDir()
	ledger, gate := filepath.Join(dir, "ledger"), filepath.Join(dir, "gate")
	names := strings.NewReplacer("LEDGER", ledger, "GATE", gate)
	in := newInstallation(t, configuration, map[string]string{"waiting.py": names.Replace(waitingDAG), "gates.py": gateTriggers})
	in.trigger("waiting", "r")
	waiting := func() bool {
		n := 0
		for _, ti := range in.taskInstances("waiting", "r") {
			if ti.State == "deferred" || ti.State == "awaiting_input" {
				n++
			}
		}
		return n == 5
	}
	running := func() bool { return len(in.processes("ostro triggerer")) == 1 }
	in.eventually("all tasks wait", 60*time.Second, waiting)
	in.eventually("a triggerer runs", 60*time.Second, running)
	for range 2 {
		in.killServer()
		in.startServer()
		in.eventually("the triggerer is there", 60*time.Second, running)
		former := in.processes("ostro triggerer")
		if !killFirst(former) {
			t.Fatal("there was no triggerer to kill")
		}
		in.eventually("another triggerer runs", 60*time.Second, func() bool {
			now := in.processes("ostro triggerer")
			return len(now) == 1 && now[0] != former[0]
		})
		in.killWorker()
		in.eventually("a triggerer of the next worker runs", 60*time.Second, running)
		if !waiting() {
			t.Fatalf("not all tasks wait: %+v", in.taskInstances("waiting", "r"))
		}
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	in.eventually("the person is heard", 30*time.Second, func() bool {
		return in.call("PATCH", "/api/v2/dags/waiting/dagRuns/r/taskInstances/person/-1/hitlDetails", map[string]any{"chosen_options": []string{"Approve"}}, nil) == nil
	})
	in.eventually("the run ends", 90*time.Second, func() bool { return in.state("waiting", "r") == "success" })
	for _, ti := range in.taskInstances("waiting", "r") {
		if ti.TryNumber != 1 {
			t.Errorf("%s needed %d tries", ti.TaskID, ti.TryNumber)
		}
	}
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		_, task, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[task]++
	}
	for _, task := range []string{"python0", "python1", "python2", "server"} {
		if seen[task] != 1 {
			t.Errorf("%s went on %d times", task, seen[task])
		}
	}
	in.eventually("nothing is left to run for a triggerer", 90*time.Second, func() bool { return len(in.processes("ostro triggerer")) == 0 })
}
