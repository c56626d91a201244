"""Sensors that look for things, a DAG that triggers another, a latest-only branch, weekday branches."""

import datetime

import pendulum

from airflow import DAG
from airflow.models.param import Param
from airflow.operators.empty import EmptyOperator
from airflow.operators.latest_only import LatestOnlyOperator
from airflow.operators.python import ShortCircuitOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.operators.weekday import BranchDayOfWeekOperator
from airflow.sensors.filesystem import FileSensor
from airflow.sensors.python import PythonSensor
from airflow.utils.task_group import TaskGroup
from airflow.utils.weekday import WeekDay

TRIES = []


def ready(least):
    TRIES.append(1)
    return len(TRIES) >= least


with DAG(
    "sensors_and_triggers",
    start_date=pendulum.datetime(2024, 1, 1, tz="Europe/Berlin"),
    schedule_interval="30 6 * * 1-5",
    catchup=False,
    params={"path": Param("/", type="string", minLength=1)},
    default_args={"depends_on_past": True, "wait_for_downstream": True},
) as dag:
    with TaskGroup("wait", tooltip="for files", prefix_group_id=True) as wait:
        there = FileSensor(task_id="there", filepath=__file__, poke_interval=0.01, timeout=5)
        poked = PythonSensor(task_id="poked", python_callable=ready, op_args=[3], poke_interval=0.01, mode="poke")
        missing = FileSensor(task_id="missing", filepath="/no/such/file", poke_interval=0.01, timeout=0.03,
                             soft_fail=True)
        rescheduled = PythonSensor(task_id="rescheduled", python_callable=ready, op_kwargs={"least": 5},
                                   poke_interval=0.01, mode="reschedule", exponential_backoff=False)
        poked >> rescheduled
    trigger = TriggerDagRunOperator(
        task_id="trigger", trigger_dag_id="reports", conf={"from": "{{ dag_run.run_id }}", "day": "{{ ds }}"},
        execution_date="{{ execution_date }}", reset_dag_run=True, wait_for_completion=True, poke_interval=1,
        trigger_rule="none_failed")
    weekday = BranchDayOfWeekOperator(
        task_id="weekday", follow_task_ids_if_true="workday", follow_task_ids_if_false=["weekend"],
        week_day={WeekDay.MONDAY, WeekDay.TUESDAY, "Wednesday"}, use_task_execution_day=True)
    workday, weekend = EmptyOperator(task_id="workday"), EmptyOperator(task_id="weekend")
    latest = LatestOnlyOperator(task_id="latest")
    stop = ShortCircuitOperator(task_id="stop", python_callable=lambda: False, ignore_downstream_trigger_rules=False)
    direct = EmptyOperator(task_id="direct")
    always = EmptyOperator(task_id="always", trigger_rule="always")
    wait >> trigger >> weekday >> [workday, weekend]
    latest >> stop >> direct >> always

datetime.timedelta(0)
