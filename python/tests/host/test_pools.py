"""Pools of processes that are started anew, over functions of the DAG file and of modules beside it."""

import subprocess
import sys

import pytest
from test_runtime import answer, details

from harness import PYTHON_ROOT, Host, environment, spawn
from ostro import comms as wire

DAG = """
import dataclasses, datetime, json, os, sys
import concurrent.futures, multiprocessing
from airflow.models import Variable
from airflow.sdk import dag, task
from pools.beside import twice

FACTOR = int(Variable.get("factor"))
LIMIT = Variable.get("nowhere", default=7)

@dataclasses.dataclass
class Point:
    x: int

def scaled(point):
    return Point(twice(point.x) * FACTOR + LIMIT - 7)

class Doubler:
    def __call__(self, x):
        return x * 2

@dag(schedule=None, start_date=datetime.datetime(2024, 1, 1))
def pipeline():
    @task
    def pool(kind):
        with multiprocessing.get_context(kind).Pool(2) as pool:
            return [one.x for one in pool.map(scaled, [Point(1), Point(2)])] + pool.map(Doubler(), [4])

    @task
    def executor():
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            return [one.x for one in pool.map(scaled, [Point(1), Point(2)])]

    @task
    def loky():
        from joblib import Parallel, delayed
        return [one.x for one in Parallel(n_jobs=2)(delayed(scaled)(Point(x)) for x in (1, 2))]

    @task
    def program():
        import subprocess
        code = "import importlib; print(importlib.import_module(%r).scaled.__module__)" % __name__
        return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout

    @task
    def closes():
        import subprocess
        os.closerange(3, 256)
        code = "import importlib; print(importlib.import_module(%r).FACTOR)" % __name__
        return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout

    pool("spawn"), pool.override(task_id="server")("forkserver"), executor(), loky(), program(), closes()

pipeline()
"""


NOT_THERE = {"code": "VARIABLE_NOT_FOUND", "message": "none"}


def ask(body):
    """Answer a task; an error is told by an exception."""
    if body["type"] == "GetVariable":
        if body["key"] == "nowhere":
            raise wire.RemoteError(**NOT_THERE)
        return {"type": "VariableResult", "key": "factor", "value": "10"}
    return answer(body)


@pytest.fixture(params=["fork", "spawn"])
def run(request, tmp_path):
    """Run one task of the file above, in a fork of a host or as a process of its own, and return its end."""
    (tmp_path / "team").mkdir()
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "beside.py").write_text("def twice(x):\n    return 2 * x\n")

    def forked(task_id):
        with Host(tmp_path, DAG, "team/my-dag.py", argv=["-m", "ostro.host"]) as host:
            assert describe(host)["errors"] == []
            task = host.fork(task_id, start=False, answer=ask)
            task.channel.send(dict(details(task_id, "a-1", str(tmp_path)), dag_rel_path="team/my-dag.py"))
            return task.finish()

    def spawned(task_id):
        found = dict(details(task_id, "a-1", str(tmp_path)), dag_rel_path="team/my-dag.py")
        return spawn(tmp_path, DAG, task_id, "team/my-dag.py", answer=ask, argv=["-m", "ostro.task"], details=found).finish()

    return forked if request.param == "fork" else spawned


def describe(host):
    """Have the file imported; it asks for two variables, one of which is not there."""
    body = {"type": "Describe", "bundle_name": "b", "bundle_path": host.bundle, "file": host.file, "shown_path": host.bundle}
    host.channel.send(body, id=1000)
    while True:
        frame = host.channel.frame()
        asked = frame.get("body") or {}
        if asked.get("type") == "Described":
            return asked
        if frame["id"]:
            host.channel.reply(frame, ask)


@pytest.mark.parametrize("task_id", ["pool", "server"])
def test_a_pool_of_processes_started_anew_runs_functions_of_the_dag_file(run, task_id):
    end = run(task_id)
    assert end.value == [20, 40, 8], end.err


def test_an_executor_of_spawned_processes_runs_functions_of_the_dag_file(run):
    end = run("executor")
    assert end.value == [20, 40], end.err


def test_joblib_runs_functions_of_the_dag_file(run):
    pytest.importorskip("joblib")
    end = run("loky")
    assert end.value == [20, 40], end.err


def test_a_program_that_a_task_starts_can_import_the_dag_file_by_its_modules_name(run):
    end = run("program")
    assert end.value.startswith("ostro_dag."), end.err


def test_a_program_is_told_what_the_file_was_answered_after_the_task_has_closed_low_descriptors(run):
    end = run("closes")
    assert end.value == "10\n", end.err


def test_outside_of_a_task_there_is_no_such_module():
    code = "import ostro_dag\ntry:\n    import ostro_dag.nothing\nexcept ModuleNotFoundError as fault:\n    print(fault)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(PYTHONPATH=PYTHON_ROOT), stdout=subprocess.PIPE,
                          text=True)
    assert done.stdout == "No module named 'ostro_dag.nothing'\n"
