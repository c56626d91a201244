"""The names of Airflow 2 in a task's context whose values depend on the kind of run."""

import pytest

from airflow import DAG
from airflow.operators.python import PythonOperator
from ostro.dagtest import run_dag
from ostro.localcomms import LocalComms
from ostro.runner import run_task
from support import START, WHEN, startup

NAMES = ("next_ds", "next_ds_nodash", "prev_ds", "prev_ds_nodash", "next_execution_date", "prev_execution_date")
AROUND = {"prev_data_interval_start": "2023-12-25T06:00:00Z", "prev_data_interval_end": WHEN,
          "next_data_interval_start": "2024-01-08T06:00:00Z", "next_data_interval_end": "2024-01-15T06:00:00Z"}


def seen(run_type, compat="airflow3", **around):
    """Run a task of a run of this type and return what it finds under NAMES."""
    found = {}
    with DAG("d", start_date=START, schedule="@weekly") as dag:
        dag.compat = compat
        PythonOperator(task_id="t", python_callable=lambda **context: found.update({name: context[name] for name in NAMES}))
    details = startup(dag, "t", **around)
    details["ti_context"]["dag_run"]["run_type"] = run_type

    comms = LocalComms()
    run_task(details, comms, dag)
    assert comms.terminal["type"] == "SucceedTask", comms.terminal
    return [None if found[name] is None else str(found[name])[:10] for name in NAMES]


@pytest.mark.parametrize("compat", ["airflow3", "airflow2"])
def test_around_a_run_by_hand_the_dates_are_its_own_whatever_the_schedule_says(compat):
    own = ["2024-01-01", "20240101"] * 2 + ["2024-01-01"] * 2
    assert seen("manual", compat, **AROUND) == own == seen("manual", compat)


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_around_a_run_of_the_schedule_the_dates_are_the_schedules(run_type):
    want = ["2024-01-08", "20240108", "2023-12-25", "20231225", "2024-01-08", "2023-12-25"]
    assert seen(run_type, **AROUND) == want
    assert seen(run_type) == [None] * 6


def test_a_local_run_sees_the_dates_a_run_by_hand_sees(capsys):
    with DAG("d", start_date=START, schedule="@weekly") as dag:
        PythonOperator(task_id="t", python_callable=lambda next_ds, prev_ds, ds: print("dates", next_ds == prev_ds == ds))
    assert run_dag(dag, "2024-02-07").state == "success" and "dates True" in capsys.readouterr().out
