"""What every DAG of the team is made with."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

SEEN = []


def standard_args(**more):
    return dict({"owner": "platform", "retries": 2, "retry_delay": timedelta(seconds=30),
                 "retry_exponential_backoff": True, "max_retry_delay": timedelta(minutes=10)}, **more)


def copy_table(table, day, previous, **context):
    SEEN.append((context["dag"].dag_id, table, day, previous))
    return table


def make_dag(name, tables, schedule):
    with DAG(
        dag_id="load_%s" % name,
        default_args=standard_args(execution_timeout=timedelta(minutes=10)),
        schedule_interval=schedule,
        start_date=datetime(2023, 1, 1),
        catchup=False,
        tags=["generated", name],
        template_searchpath=[__file__.rpartition("/")[0] + "/../sql"],
    ) as dag:
        last = None
        for table in tables:
            copy = PythonOperator(
                task_id="copy_%s" % table,
                python_callable=copy_table,
                op_args=[table, "{{ ds }}"],
                op_kwargs={"previous": "{{ (execution_date - macros.timedelta(days=1)).strftime('%Y%m%d') }}"},
            )
            if last is not None:
                last >> copy
            last = copy
        last >> BashOperator(task_id="vacuum", bash_command="scripts/vacuum.sh", env={"TABLES": ",".join(tables)},
                             append_env=True)
    return dag
