"""DAG files as teams have them in production, run whole: what Airflow's documentation says of their tasks is what happens."""

import io
import os
import sys

import pytest

from ostro.dagmodule import name_of
from ostro.dagtest import run_dag
from ostro.loader import load_file
from support import described

DAGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dags")
SETTINGS = {
    "variables": {"bucket": "lake", "limits": {"rows": 7}, "etl_config": {"tables": ["orders", "items"]}},
    "connections": {"warehouse": {"conn_type": "postgres", "host": "db.example", "port": 5432,
                                  "extra": {"role": "reader"}}},
}


@pytest.fixture(autouse=True)
def _modules():
    """Every test imports the files anew."""
    path, before = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith(("ostro_dag.", "ostro_dag_", "warehouse")):
            del sys.modules[name]


def load(file, compat="airflow3"):
    loaded = load_file(DAGS, file, compat=compat)
    assert loaded.errors == []
    return loaded.dags, sys.modules.get(name_of(file))


def states(dag, logical_date="2024-01-03T03:00:00+00:00", **kwargs):
    run = run_dag(dag, logical_date=logical_date, settings=SETTINGS, out=io.StringIO(), **kwargs)
    return run.state, {one.name: one.state for one in run.get_task_instances()}, run


def test_an_old_etl_file_runs_in_its_old_spellings():
    dags, module = load("nightly_etl.py", "airflow2")
    state, tasks, run = states(dags["nightly_etl"])
    assert (state, tasks) == ("success", {
        "start": "success", "extract": "success", "count": "success", "branch": "success", "full": "skipped",
        "delta": "success", "join": "success", "check": "failed", "alert": "success", "done": "success"})
    pulled = {key[2:]: value for key, value in run.comms.xcoms.items()}
    assert pulled[("extract", -1, "return_value")] == {"path": "s3://orders-landing/EU/2024-01-02", "day": "20240103",
                                                       "limit": "10"}
    assert pulled[("count", -1, "return_value")] == "s3://orders-landing/EU/2024-01-02 orders,items"
    assert module.TOLD == [("check", "17 orders without a customer", "2024-01-03")]
    shown = described(dags["nightly_etl"])
    assert shown["doc_md"].strip().startswith("### Nightly load") and shown["max_active_tasks"] == 4
    assert shown["schedule"] == {"kind": "cron_interval", "expression": "0 3 * * *", "cron": ["0 3 * * *"]}


def test_the_branch_of_an_old_etl_file_follows_the_day_of_its_run():
    dags, _ = load("nightly_etl.py")
    _, tasks, _ = states(dags["nightly_etl"], "2024-01-01T03:00:00+00:00")
    assert (tasks["full"], tasks["delta"], tasks["join"]) == ("success", "skipped", "success")


def test_dags_made_in_a_loop_by_a_helper_module_of_a_sub_package():
    dags, _ = load("warehouse/generated.py")
    assert sorted(dags) == ["load_crm", "load_shop"]
    state, tasks, _ = states(dags["load_shop"])
    seen = sys.modules["warehouse.common.factory"].SEEN
    assert seen == [("load_shop", "orders", "2024-01-03", "20240102"), ("load_shop", "customers", "2024-01-03", "20240102")]
    shown = described(dags["load_shop"])["tasks"]
    assert shown[0]["retry_exponential_backoff"] == 2 and shown[0]["execution_timeout"] == 600
    assert shown[1]["upstream"] == ["copy_orders"]
    assert (state, tasks) == ("success", {"copy_orders": "success", "copy_customers": "success", "vacuum": "success"})


def test_sql_and_scripts_come_from_files_and_an_absent_file_is_named():
    dags, module = load("warehouse/reports.py")
    state, tasks, run = states(dags["reports"])
    assert (state, tasks) == ("failed", {"daily": "success", "inline": "success", "script": "success", "absent": "failed"})
    assert [
        ("daily", "SELECT id, total\nFROM orders WHERE day = '2024-01-03' AND region IN (\"eu\", \"us\")",
         "s3://reports/20240103T030000"),
        ("inline", "SELECT '2024-01-03', '2024-01-03' ", run.run_id)] == module.RAN
    assert "'bash_command' of task 'absent' names a file to read, /opt/jobs/run.sh" in run.get_task_instance("absent").reason


def test_taskflow_features_together():
    dags, module = load("taskflow_features.py")
    state, tasks, run = states(dags["taskflow_features"])
    assert {name: one for name, one in tasks.items() if one != "success"} == {
        "big": "skipped", "after": "skipped", "later": "skipped", "fetch[2]": "skipped", "collect": "skipped",
        "work": "failed"}
    assert state == "failed" and run.get_task_instance("show_train").tries == 1
    assert ("show_train", 8, "2024-01-03", 0.5) in module.LOG and ("show", 2, "2024-01-03", 0.5) in module.LOG
    assert ("collect", ["EU", "US"]) in module.LOG and ("drop", "cluster-1") in module.LOG
    assert run.comms.xcoms[("taskflow_features", run.run_id, "shell", -1, "return_value")] == "rows=8 20240103"
    shown = described(dags["taskflow_features"])
    assert {"from": "choose", "to": "small", "label": "below"} in shown["edge_labels"]
    crossed = {task["task_id"]: task.get("upstream") for task in shown["tasks"]}
    assert crossed["x1"] == crossed["x2"] == ["show", "show_train"]


def test_params_of_the_run_decide_the_branch():
    dags, _ = load("taskflow_features.py")
    _, tasks, _ = states(dags["taskflow_features"], conf={"threshold": 0.95})
    assert (tasks["small"], tasks["big"], tasks["notify"]) == ("skipped", "success", "skipped")


def test_every_documented_template():
    dags, module = load("templates.py")
    state, _, run = states(dags["templates"], conf={"k": "v"})
    assert state == "success"
    wanted = {
        "var": "lake", "json": "7", "fallback": "d", "conn": "db.example:5432", "extra": "reader", "params": "26",
        "conf": "v", "get": "n", "ds_add": "2024-01-08", "format": "03/01/2024", "filter": "2024-01-03",
        "nodash": "20240103T030000", "strftime": "2024/01/03", "add": "2024-01-04",
        "subtract": "2024-01-03T00:00:00+00:00", "ts_nodash": "20240103T030000", "ts": "2024-01-03T03:00:00+00:00",
        "prev": "2024-01-03", "next": "2024-01-03", "tomorrow": "20240104", "delta": "2023-12-27",
        "ids": "templates.show.1", "key": "templates__show__20240103", "nested": [{"a": ("2024-01-03", 1)}],
        "loop": "1;2;", "pull": "3", "owner": "airflow", "run_id": run.run_id, "relative": "2024-01-01 00:00:00",
        "in_timezone": "04"}
    shown = dict(module.SEEN)
    assert shown == wanted


def test_native_objects_stay_what_they_are():
    dags, module = load("templates.py")
    assert states(dags["native"])[0] == "success"
    assert module.SEEN == {"rows": [1, 2], "n": 26, "text": "n=26"}


def test_an_undefined_name_is_reported_with_field_task_and_nearest():
    dags, _ = load("templates.py")
    _, tasks, run = states(dags["undefined"])
    assert tasks == {"typo": "failed"}
    assert run.get_task_instance("typo").reason == (
        "UndefinedError: 'logical_dat' is undefined, in 'op_args' of task 'typo': {{ logical_dat }} "
        "(did you mean 'logical_date'?)")


def test_sensors_triggers_and_branches_on_days():
    dags, _ = load("sensors_and_triggers.py", "airflow2")
    state, tasks, run = states(dags["sensors_and_triggers"])
    assert (state, tasks) == ("success", {
        "wait.there": "success", "wait.poked": "success", "wait.missing": "skipped", "wait.rescheduled": "success",
        "trigger": "success", "weekday": "success", "workday": "success", "weekend": "skipped", "latest": "success",
        "stop": "success", "direct": "skipped", "always": "success"})
    assert [(one["dag_id"], one["conf"], one["logical_date"]) for one in run.comms.triggered] == [
        ("reports", {"from": run.run_id, "day": "2024-01-03"}, "2024-01-03T03:00:00Z")]
    _, saturday, _ = states(dags["sensors_and_triggers"], "2024-01-06T12:00:00+00:00")
    assert (saturday["workday"], saturday["weekend"]) == ("skipped", "success")


@pytest.mark.parametrize("file", sorted(
    os.path.relpath(os.path.join(base, name), DAGS) for base, _, names in os.walk(DAGS) for name in names
    if name.endswith(".py") and name not in ("__init__.py", "factory.py")))
@pytest.mark.parametrize("compat", ["airflow2", "airflow3"])
def test_every_file_is_described_in_both_modes(file, compat):
    dags, _ = load(file, compat)
    assert dags and all(described(dag)["compat"] == compat for dag in dags.values())
