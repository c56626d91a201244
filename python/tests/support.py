"""What the tests share: describing a DAG, and running one attempt through LocalComms."""

import datetime
import json
import os
import textwrap

from ostro.loader import load_file
from ostro.localcomms import LocalComms
from ostro.runner import run_task
from ostro.serialize import describe

HERE = os.path.dirname(os.path.abspath(__file__))
WHEN = "2024-01-01T00:00:00Z"
START = datetime.datetime(2024, 1, 1)


def described(dag):
    """The DAG as JSON, by way of text, so that only JSON is in it."""
    return json.loads(json.dumps(describe(dag)))


def task_of(dag, task_id):
    return next(task for task in described(dag)["tasks"] if task["task_id"] == task_id)


def startup(dag, task_id, map_index=-1, logical=WHEN, conf=None, try_number=1, should_retry=False, pods=None, scratch="",
            **context):
    run = {
        "dag_id": dag.dag_id, "run_id": "r1", "run_type": "scheduled", "state": "running", "logical_date": logical,
        "data_interval_start": logical, "data_interval_end": "2024-01-08T00:00:00Z" if logical else None,
        "run_after": WHEN, "start_date": WHEN, "end_date": None, "clear_number": 0, "conf": conf or {},
    }
    return {
        "type": "StartupDetails", "kind": "task", "dag_rel_path": "dag.py", "start_date": WHEN, "pods": pods,
        "scratch": scratch,
        "ti": {"id": "ti", "attempt_id": "a1", "dag_id": dag.dag_id, "run_id": "r1", "task_id": task_id,
               "map_index": map_index, "try_number": try_number},
        "ti_context": dict({"dag_run": run, "max_tries": 0, "should_retry": should_retry,
                            "task_reschedule_count": 0}, **context),
    }


def attempt(dag, task_id, comms=None, **kwargs):
    """Run one attempt and return its comms; what it pushed is stored there."""
    comms = comms if comms is not None else LocalComms()
    details = startup(dag, task_id, **kwargs)
    run_task(details, comms, dag)
    comms.store(details["ti"], comms.terminal.get("xcoms"))
    return comms


def result(dag, task_id, comms=None, **kwargs):
    """Run one attempt that must succeed and return its return value as stored."""
    comms = attempt(dag, task_id, comms, **kwargs)
    assert comms.terminal["type"] == "SucceedTask", comms.terminal
    found = [one["value"] for one in comms.terminal.get("xcoms", ()) if one["key"] == "return_value"]
    return found[0] if found else None


def write(folder, name, text):
    path = os.path.join(str(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as handle:
        handle.write(text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode())
    return path


def load(folder, text, name="a_dag.py", **kwargs):
    write(folder, name, text)
    return load_file(str(folder), name, **kwargs)
