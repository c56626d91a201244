"""What Airflow 2 had in a task's context: dates that depend on the kind of run, and the run's task instances."""

from datetime import timedelta

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


# ---- the task instances of a run ----


class Rows(LocalComms):
    """Has many task instances, of which it gives a few at a time."""

    def __init__(self, count):
        super().__init__()
        self.instances = lambda dag_id, run_id: [
            {"task_id": "t", "map_index": n, "state": None if n % 2 else "success", "try_number": 1,
             "start_date": "2024-01-01T00:00:00Z", "end_date": "2024-01-01T00:01:30Z"} for n in range(count)]

    def request(self, message):
        if message["type"] == "GetTaskInstances":
            message = dict(message, limit=2)
        return super().request(message)


def looks(comms, look):
    """Return what ``look(dag_run)`` gives in a task."""
    found = []
    with DAG("d", start_date=START, schedule=None) as dag:
        PythonOperator(task_id="look", python_callable=lambda dag_run: found.append(look(dag_run)))
    details = startup(dag, "look")
    details["base_url"] = "http://ui"
    run_task(details, comms, dag)
    assert comms.terminal["type"] == "SucceedTask", comms.terminal
    return found[0]


def test_a_run_gives_all_its_task_instances_however_many_there_are():
    found = looks(Rows(5), lambda dag_run: [(ti.task_id, ti.map_index, ti.state) for ti in dag_run.get_task_instances()])
    assert found == [("t", n, None if n % 2 else "success") for n in range(5)]


@pytest.mark.parametrize("states, want", [("success", [0, 2, 4]), (["success", None], [0, 1, 2, 3, 4]), ([None], [1, 3]),
                                          ([], []), ("failed", [])])
def test_a_run_gives_the_task_instances_of_some_states(states, want):
    assert looks(Rows(5), lambda dag_run: [ti.map_index for ti in dag_run.get_task_instances(state=states)]) == want


def test_a_task_instance_of_a_run_has_what_reports_are_made_of():
    def look(dag_run):
        ti = dag_run.get_task_instance("t", map_index=2)
        assert dag_run.get_task_instance("t") is None
        return [str(ti.start_date)[:19], ti.duration, ti.log_url, ti.dag_id, ti.run_id, ti.try_number, ti.current_state(),
                timedelta(seconds=ti.duration) == ti.end_date - ti.start_date]

    url = "http://ui/dags/d/runs/r1/tasks/t/mapped/2?try_number=1"
    assert looks(Rows(3), look) == ["2024-01-01 00:00:00", 90.0, url, "d", "r1", 1, "success", True]


def test_the_task_that_asks_is_running_whatever_is_stored_of_it():
    comms = LocalComms()
    comms.instances = lambda dag_id, run_id: [{"task_id": "look", "map_index": -1, "state": "queued", "try_number": 1}]
    assert looks(comms, lambda dag_run: [ti.state for ti in dag_run.get_task_instances()]) == ["running"]


def test_a_local_run_gives_its_task_instances_to_its_tasks_and_callbacks(capsys):
    def look(context):
        print("now", [(ti.task_id, ti.state) for ti in context["dag_run"].get_task_instances()])

    def fail():
        raise ValueError

    with DAG("d", start_date=START, schedule=None, on_failure_callback=look) as dag:
        first = PythonOperator(task_id="first", python_callable=lambda **context: look(context))
        first >> PythonOperator(task_id="bad", python_callable=fail) >> PythonOperator(task_id="last", python_callable=print)
    assert run_dag(dag).state == "failed"
    out = capsys.readouterr().out
    assert "now [('first', 'running'), ('bad', None), ('last', None)]" in out
    assert "now [('first', 'success'), ('bad', 'failed'), ('last', 'upstream_failed')]" in out
