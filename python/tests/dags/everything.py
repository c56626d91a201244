"""One of nearly everything an author can declare, for the golden description."""

import datetime

from airflow import DAG
from airflow.decorators import setup, task, task_group, teardown
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Asset, Label, Param
from airflow.sensors.python import PythonSensor
from airflow.utils.task_group import TaskGroup


def told(context):
    pass


with DAG(
    "everything",
    description="One of each",
    schedule="*/5 * * * *",
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    end_date=datetime.datetime(2030, 1, 1),
    default_args={"owner": "team", "retries": 1, "retry_delay": datetime.timedelta(seconds=30)},
    max_active_runs=2,
    max_active_tasks=4,
    max_consecutive_failed_dag_runs=3,
    dagrun_timeout=datetime.timedelta(hours=2),
    on_success_callback=told,
    on_failure_callback=[told],
    params={"size": Param(3, type="integer", description="How many")},
    is_paused_upon_creation=False,
    tags=["b", "a"],
    owner_links={"team": "https://example.com"},
    dag_display_name="Everything",
    doc_md="# Docs",
    render_template_as_native_obj=True,
    allowed_run_types=["manual", "scheduled"],
) as dag:

    @setup
    def make():
        pass

    @teardown
    def drop():
        pass

    @task(execution_timeout=datetime.timedelta(minutes=1), on_retry_callback=told)
    def numbers() -> list:
        return [1, 2, 3]

    @task(map_index_template="{{ task.op_kwargs['n'] }}")
    def double(n, factor):
        return n * factor

    @task.branch
    def choose():
        return "left"

    @task.bash
    def shell():
        return "echo hi"

    @task_group(tooltip="each")
    def each(n):
        @task
        def one(n):
            return n

        return one(n)

    mapped = double.partial(factor=2).expand(n=numbers())
    each.expand(n=[1, 2])
    branch = choose()
    left, right = EmptyOperator(task_id="left"), EmptyOperator(task_id="right")
    branch >> Label("yes") >> left
    branch >> Label("no") >> right
    join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success", outlets=[Asset("s3://b/out")])
    [left, right] >> join
    with TaskGroup("group", default_args={"queue": "gpu"}) as group:
        BashOperator(task_id="bash", bash_command="echo {{ ds }}", env={"A": "b"}) >> shell()
    join >> group
    TriggerDagRunOperator(task_id="trigger", trigger_dag_id="other", conf={"a": "{{ ds }}"})
    PythonSensor(task_id="wait", python_callable=told, mode="reschedule", poke_interval=30)
    KubernetesPodOperator(task_id="pod", image="i:1", cmds=["run"], env_vars={"A": "{{ ds }}"}, do_xcom_push=True,
                          container_resources={"limits": {"nvidia.com/gpu": "2", "memory": "1Gi"}})
    s, t = make(), drop()
    s >> EmptyOperator(task_id="work") >> t
    s >> t
