"""The host with the real loader and runner: a DAG file goes in, results come out."""

import json
import os
import signal
import sys

from harness import Host, startup

DAG = """
import datetime, os, random
from airflow.sdk import dag, task

@dag(schedule=None, start_date=datetime.datetime(2024, 1, 1), tags=["t"])
def pipeline():
    @task
    def first():
        print("printed")
        return {"a": 1, "pid": os.getpid()}

    @task(retries=1)
    def second(value):
        raise ValueError("no good")

    @task
    def slow():
        import time
        print("slow", flush=True)
        time.sleep(1000)

    second(first())
    slow()

pipeline()
"""


def details(task_id, attempt, bundle):
    now = "2026-01-02T03:04:05Z"
    ti = {
        "id": "ti",
        "attempt_id": attempt,
        "dag_id": "pipeline",
        "run_id": "r",
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
    }
    run = {
        "dag_id": "pipeline",
        "run_id": "r",
        "run_type": "manual",
        "state": "running",
        "logical_date": now,
        "data_interval_start": now,
        "data_interval_end": now,
        "run_after": now,
        "start_date": now,
        "end_date": None,
        "clear_number": 0,
        "conf": {},
    }
    context = {"dag_run": run, "max_tries": 1, "should_retry": True, "task_reschedule_count": 0}
    return dict(startup(task_id, bundle, "dag.py", attempt), ti=ti, ti_context=context)


def answer(body):
    if body["type"] == "GetXCom":
        return {"type": "XComResult", "key": body["key"], "value": {"a": 1}, "found": True}
    return {"type": "OKResponse", "ok": True}


class RealHost(Host):
    def __init__(self, bundle, text):
        super().__init__(bundle, text, argv=["-u", "-m", "ostro.host"])

    def start(self, task_id):
        return self.fork(task_id, answer=answer, **details(task_id, "a-%d" % (self._attempts + 1), self.bundle))


def test_a_dag_file_is_described_and_its_tasks_run_in_forks(tmp_path):
    with RealHost(tmp_path, DAG) as host:
        described = host.describe()
        assert described["errors"] == [] and described["fork_unsafe"] == "", described
        assert [task["task_id"] for task in described["dags"][0]["tasks"]] == ["first", "second", "slow"]
        assert described["modules"] == ["dag.py"]
        end = host.start("first").finish()
        assert end.terminal["type"] == "SucceedTask", (end.terminal, end.err, end.logs)
        assert end.terminal["xcoms"][0]["value"] == {"a": 1, "pid": end.exited["pid"]} and "printed" in end.out
        end = host.start("second").finish()
        assert end.terminal["type"] == "RetryTask" and end.terminal["reason"] == "ValueError: no good"


FORKS = """
import os, sys
from airflow.sdk import dag, task

def deep():
    raise ValueError("in the child")

def ending(child):
    pid = os.fork()
    if pid == 0:
        return child()
    print("status", os.WEXITSTATUS(os.waitpid(pid, 0)[1]))

@dag(schedule=None)
def pipeline():
    @task
    def ends(child):
        ending(child)

    ends.override(task_id="raises")(deep)
    ends.override(task_id="exits")(lambda: sys.exit(3))
    ends.override(task_id="says")(lambda: sys.exit("a word"))
    ends.override(task_id="returns")(lambda: None)
    ends.override(task_id="in_a_callback", on_success_callback=lambda context: ending(deep))(lambda: os._exit(0))

pipeline()
"""


def test_a_child_that_a_task_forks_ends_as_a_program_does_and_shows_the_authors_frames_only(tmp_path):
    with RealHost(tmp_path, FORKS) as host:
        assert host.describe()["errors"] == []
        ends = {one: host.start(one).finish() for one in ("raises", "exits", "says", "returns", "in_a_callback")}
    for end in ends.values():
        assert end.terminal["type"] == "SucceedTask" and "/ostro/" not in end.err and end.returncode == 0, end.err
    for name in ("raises", "in_a_callback"):
        words = ends[name].err
        assert words.count("Traceback") == 1 and words.endswith("ValueError: in the child\n") and "in deep" in words
    assert ends["raises"].out == "status 1\n" and ends["in_a_callback"].out == "status 0\nstatus 1\n"
    assert ends["exits"].out == "status 3\n" and ends["exits"].err == ""
    assert ends["says"].out == "status 1\n" and ends["says"].err == "a word\n"
    assert ends["returns"].out == "status 0\n" and "came back from its function; it ends here" in ends["returns"].err


def test_terminating_a_task_ends_it_with_its_reason(tmp_path):
    with RealHost(tmp_path, DAG) as host:
        host.describe()
        task = host.start("slow")
        while b"slow" not in task.out.data:
            task.channel.sock.settimeout(0.05)
            try:
                task.channel.notes.append(task.channel.frame())
            except OSError:
                continue
        task.channel.sock.settimeout(30)
        os.kill(task.pid, signal.SIGTERM)
        end = task.finish()
        assert end.terminal is not None and "SIGTERM" in json.dumps(end.terminal), (end.terminal, end.err, end.logs)


def test_importing_the_host_is_cheap():
    import subprocess

    from harness import environment

    code = "import sys, ostro.host; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, check=True).stdout
    heavy = {"asyncio", "concurrent.futures", "dataclasses", "email", "http", "inspect", "jinja2", "multiprocessing", "unittest"}
    assert heavy.isdisjoint(out.decode().split())
