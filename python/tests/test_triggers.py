"""Triggers of the standard provider, and deferring in a local run."""

import asyncio
import datetime

import pytest

from airflow import DAG
from airflow.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.models import BaseOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.providers.standard.triggers.external_task import DagStateTrigger, WorkflowTrigger
from airflow.providers.standard.triggers.file import DirectoryFileDeleteTrigger, FileDeleteTrigger, FileTrigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger, TimeDeltaTrigger
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from ostro.dagtest import LocalRun
from support import START

NOW = datetime.datetime.now(datetime.timezone.utc)
HOME = "airflow.providers.standard.triggers."


def first(trigger):
    async def one():
        async for event in trigger.run():
            return event

    return asyncio.run(asyncio.wait_for(one(), 5))


def again(trigger):
    """Make the trigger from what it writes down."""
    classpath, kwargs = trigger.serialize()
    return type(trigger)(**kwargs) if not isinstance(trigger, TimeDeltaTrigger) else DateTimeTrigger(**kwargs)


def test_a_moment_fires_with_the_moment_or_ends_the_task():
    assert DateTimeTrigger(NOW).serialize() == (HOME + "temporal.DateTimeTrigger", {"moment": NOW, "end_from_trigger": False})
    assert TimeDeltaTrigger(datetime.timedelta(0)).serialize()[0] == HOME + "temporal.DateTimeTrigger"
    assert first(again(DateTimeTrigger(NOW))) == TriggerEvent(NOW)
    assert isinstance(first(TimeDeltaTrigger(datetime.timedelta(0), end_from_trigger=True)), TaskSuccessEvent)


@pytest.mark.parametrize("wrong", ["no moment", "naive", "number"])
def test_a_moment_must_be_one(wrong):
    given = {"no moment": {}, "naive": {"moment": datetime.datetime(2024, 1, 1)}, "number": {"moment": 3}}[wrong]
    with pytest.raises((TypeError, ValueError)):
        DateTimeTrigger(**given)


def test_files_fire_and_those_that_delete_do(tmp_path):
    path = tmp_path / "in" / "a.csv"
    path.parent.mkdir()
    path.write_text("")
    assert first(again(FileTrigger(str(tmp_path / "*"), poke_interval=0.01))) == TriggerEvent(True)
    assert first(again(FileDeleteTrigger(str(path), poke_interval=0.01))) == TriggerEvent(True)
    assert not path.exists()
    path.write_text("")
    assert first(again(DirectoryFileDeleteTrigger(str(path.parent), "a.csv", 0.01))) == TriggerEvent(True)
    assert not path.exists()


def test_triggers_for_runs_write_states_as_words():
    from airflow.utils.state import DagRunState

    one = DagStateTrigger("other", [DagRunState.SUCCESS, "failed"], run_ids=["r"])
    assert one.serialize() == (HOME + "external_task.DagStateTrigger", {
        "dag_id": "other", "states": ["success", "failed"], "run_ids": ["r"], "poll_interval": 5.0})
    assert WorkflowTrigger(external_dag_id="other", logical_dates=[NOW]).serialize()[1] == {
        "external_dag_id": "other", "logical_dates": [NOW], "poke_interval": 2.0, "soft_fail": False}


def local(dag):
    run = LocalRun(dag, logical_date=START)
    run.run()
    return {task_id: one[0].state for task_id, one in run.instances.items()}


class Breaks(BaseTrigger):
    def serialize(self):
        return __name__ + ".Breaks", {}

    async def run(self):
        raise RuntimeError("no queue")
        yield


class Waits(BaseOperator):
    def __init__(self, trigger, **kwargs):
        super().__init__(**kwargs)
        self.trigger = trigger

    def execute(self, context):
        self.defer(trigger=self.trigger, method_name="later", kwargs={"mine": 1})

    def later(self, context, mine, event):
        assert (mine, event) == (1, True)


def test_a_local_run_waits_for_triggers(tmp_path):
    (tmp_path / "there").write_text("")
    with DAG("d", start_date=START) as dag:
        Waits(task_id="file", trigger=FileTrigger(str(tmp_path / "there")))
        Waits(task_id="breaks", trigger=Breaks())
        WaitSensor(task_id="waits", time_to_wait=datetime.timedelta(0), deferrable=True)
        FileSensor(task_id="skips", filepath=str(tmp_path / "nothing"), timeout=0.1, poke_interval=0.02, deferrable=True,
                   soft_fail=True)
    assert local(dag) == {"file": "success", "breaks": "failed", "waits": "success", "skips": "skipped"}


def test_a_sensor_whose_trigger_times_out_has_timed_out_itself(tmp_path):
    sensor = FileSensor(task_id="s", filepath="/nowhere", deferrable=True)
    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})
    sensor.soft_fail = True
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("__fail__", {"error": "trigger x failed"}, {})
