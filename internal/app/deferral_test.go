package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const helperTriggers = `
import asyncio
import time

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent


class _Base(BaseTrigger):
    def __init__(self, word="w", path=""):
        super().__init__()
        self.word, self.path = word, path

    def serialize(self):
        return "waiting." + type(self).__name__, {"word": self.word, "path": self.path}


class Soon(_Base):
    async def run(self):
        await asyncio.sleep(0.2)
        yield TriggerEvent({"word": self.word, "by": (1, 2)})


class Breaks(_Base):
    async def run(self):
        await asyncio.sleep(0.1)
        raise RuntimeError("no such queue")
        yield


class Silent(_Base):
    async def run(self):
        await asyncio.sleep(0)
        if False:
            yield


class Ends(_Base):
    async def run(self):
        yield TaskSuccessEvent(xcoms={"pushed": [1, 2, 3]})


class Blocks(_Base):
    async def run(self):
        time.sleep(600)
        yield TriggerEvent("never")


class Late(_Base):
    async def run(self):
        import os
        while not os.path.exists(self.path):
            await asyncio.sleep(0.05)
        yield TriggerEvent("late")
`

const deferringDAGs = `
import os
import sys
from datetime import datetime, timedelta

from airflow import DAG
from airflow.models import BaseOperator
from airflow.operators.python import PythonOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sensors.python import PythonSensor
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

import waiting

MARKS = os.environ.get("MARKS", "")


class Here(BaseTrigger):
    def serialize(self):
        return "%s.%s" % (type(self).__module__, "Here"), {}

    async def run(self):
        yield TriggerEvent("from the DAG's own file")


class Waits(BaseOperator):
    def __init__(self, trigger, timeout=None, **kwargs):
        super().__init__(**kwargs)
        self.trigger, self.timeout = trigger, timeout

    def execute(self, context):
        print("execute in", os.getpid())
        self.xcom_push(context, "before", "kept")
        self.defer(trigger=self.trigger, method_name="later", kwargs={"mine": {1, 2}}, timeout=self.timeout)

    def xcom_push(self, context, key, value):
        context["ti"].xcom_push(key=key, value=value)

    def later(self, context, mine, event):
        assert mine == {1, 2}, mine
        assert context["ti"].try_number == 1, context["ti"].try_number
        assert context["ti"].xcom_pull(key="before", task_ids=self.task_id) == "kept"
        return event


class Starts(BaseOperator):
    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(trigger_cls="waiting.Soon", trigger_kwargs={"word": "{{ run_id }}"},
                                          next_method="later", next_kwargs=None, timeout=None)
    template_fields = ("word",)
    word = ""

    def later(self, context, event=None):
        return event["word"]


with DAG("python_triggers", schedule=None, start_date=datetime(2024, 1, 1)):
    Waits(task_id="soon", trigger=waiting.Soon("hello"))
    Waits(task_id="breaks", trigger=waiting.Breaks())
    Waits(task_id="silent", trigger=waiting.Silent())
    Waits(task_id="ends", trigger=waiting.Ends())
    Waits(task_id="here", trigger=Here())
    Waits(task_id="slow", trigger=waiting.Late(path="/nowhere"), timeout=timedelta(seconds=1))
    Starts(task_id="starts")

with DAG("native", schedule=None, start_date=datetime(2024, 1, 1)):
    DateTimeSensorAsync(task_id="moment", target_time="{{ macros.datetime.now(macros.datetime.now().astimezone().tzinfo) }}")
    TimeDeltaSensor(task_id="ends", delta=timedelta(seconds=1), deferrable=True, end_from_trigger=True)
    FileSensor(task_id="file", filepath=os.path.join(MARKS, "in*", "*.csv"), deferrable=True, poke_interval=0.05)
    FileSensor(task_id="no_file", filepath="/nowhere/at/all", deferrable=True, poke_interval=0.05, timeout=0.5, soft_fail=True)
    TriggerDagRunOperator(task_id="both", trigger_dag_id="short", wait_for_completion=True, deferrable=True)
    TriggerDagRunOperator(task_id="stays", trigger_dag_id="short", wait_for_completion=True, deferrable=False)
    PythonSensor(task_id="again", python_callable=lambda ti: ti.xcom_pull(task_ids="none") is None and os.path.exists(
        os.path.join(MARKS, "in1", "a.csv")), mode="reschedule", poke_interval=0.05, retries=3)

with DAG("short", schedule=None, start_date=datetime(2024, 1, 1)):
    PythonOperator(task_id="work", python_callable=lambda: None)

with DAG("blocked", schedule=None, start_date=datetime(2024, 1, 1)):
    Waits(task_id="blocks", trigger=waiting.Blocks())
    Waits(task_id="late", trigger=waiting.Late(path=os.path.join(MARKS, "go")))
`

func deferring(t *testing.T) (s *server, marks string) {
	t.Helper()
	cfg := newConfig(t)
	marks = t.TempDir()
	cfg.Tasks.Env = map[string]string{"MARKS": marks, "OSTRO_TRIGGER_WARN_AFTER": "0.3", "OSTRO_TRIGGER_GIVE_UP_AFTER": "0.9"}
	writeDAG(t, cfg, "waiting.py", helperTriggers)
	writeDAG(t, cfg, "deferring.py", deferringDAGs)
	return start(t, cfg), marks
}

func (s *server) task(t *testing.T, dagID, runID, taskID, want string) string {
	t.Helper()
	var body string
	await(t, taskID+" "+want, func() bool {
		_, body = s.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID+"/taskInstances/"+taskID, "")
		return strings.Contains(body, `"state":"`+want+`"`)
	})
	return body
}

func (s *server) xcom(dagID, runID, taskID, key string) string {
	_, body := s.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+runID+"/taskInstances/"+taskID+"/xcomEntries/"+key, "")
	return body
}

func TestTriggersWrittenInPythonResumeTheirTasks(t *testing.T) {
	s, _ := deferring(t)
	s.trigger("python_triggers", "r1")
	s.wait("python_triggers", "r1", "failed")
	for id, want := range map[string]string{"soon": "success", "ends": "success", "here": "success", "starts": "success", "breaks": "failed", "silent": "failed", "slow": "failed"} {
		body := s.task(t, "python_triggers", "r1", id, want)
		if !strings.Contains(body, `"try_number":1,`) {
			t.Errorf("%s: %s", id, body)
		}
		reason := map[string]string{
			"breaks": "TaskDeferralError: trigger waiting.Breaks failed: RuntimeError: no such queue",
			"silent": "TaskDeferralError: trigger waiting.Silent ended without an event",
			"slow":   "TaskDeferralTimeout: Trigger timeout",
		}[id]
		if !strings.Contains(body, reason) {
			t.Errorf("%s has not %q: %s", id, reason, body)
		}
	}
	if got := s.xcom("python_triggers", "r1", "soon", "return_value"); !strings.Contains(got, "hello") {
		t.Error(got)
	}
	if got := s.xcom("python_triggers", "r1", "starts", "return_value"); !strings.Contains(got, `"r1"`) {
		t.Error(got)
	}
	if got := s.xcom("python_triggers", "r1", "ends", "pushed"); !strings.Contains(got, "[1, 2, 3]") && !strings.Contains(got, "[1,2,3]") {
		t.Error(got)
	}
}

func TestSensorsWaitWithoutAProcessAndWithoutPython(t *testing.T) {
	s, marks := deferring(t)
	s.trigger("native", "r1")
	s.task(t, "native", "r1", "file", "deferred")
	s.task(t, "native", "r1", "again", "up_for_reschedule")
	s.task(t, "native", "r1", "both", "success")
	s.task(t, "native", "r1", "stays", "success")
	s.task(t, "native", "r1", "no_file", "skipped")
	if err := os.MkdirAll(filepath.Join(marks, "in1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(marks, "in1", "a.csv"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.wait("native", "r1", "success")
	for _, id := range []string{"moment", "ends", "file", "both", "stays", "again"} {
		body := s.task(t, "native", "r1", id, "success")
		if !strings.Contains(body, `"try_number":1,`) {
			t.Errorf("%s: %s", id, body)
		}
	}
	body := s.task(t, "native", "r1", "again", "success")
	if !strings.Contains(body, `"max_tries":3,`) {
		t.Error(body)
	}
}

func TestATriggerThatBlocksIsFoundAndDoesNotStopTheOthers(t *testing.T) {
	s, marks := deferring(t)
	s.trigger("blocked", "r1")
	s.task(t, "blocked", "r1", "blocks", "deferred")
	s.task(t, "blocked", "r1", "late", "deferred")
	if err := os.WriteFile(filepath.Join(marks, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.task(t, "blocked", "r1", "late", "success")
	await(t, "the reason", func() bool {
		body := s.task(t, "blocked", "r1", "blocks", "deferred")
		return strings.Contains(body, "it has blocked the triggerer for")
	})
}
