"""Runs ``ostro.host`` or ``ostro.task`` with the smallest possible loader and runner, to test the process side alone.

A file's module is its one DAG, "d"; a task is a function of it, called with the channel. What it returns becomes the
only XCom; what it raises, the reason.
"""

import importlib.util
import os
import sys
import time
import traceback
import types


class LoadResult:
    def __init__(self):
        self.dags, self.errors, self.warnings, self.modules = {}, [], [], []


def load_file(bundle_path, file, shown_path=None, compat="airflow3", defaults=None):
    result = LoadResult()
    result.modules.append(file)
    sys.path.insert(0, bundle_path)
    try:
        spec = importlib.util.spec_from_file_location("dagfile", os.path.join(bundle_path, file))
        module = importlib.util.module_from_spec(spec)
        sys.modules["dagfile"] = module
        spec.loader.exec_module(module)
        result.dags["d"] = module
    except BaseException as err:
        text = traceback.format_exc()
        result.errors.append({"file": file, "message": "%s: %s" % (type(err).__name__, err), "traceback": text})
    return result


def describe(dag):
    return {"dag_id": "d", "doc_md": getattr(dag, "DOC", "")}


def run_task(startup, comms, dag):
    end = {"end_date": "2026-01-02T03:04:05Z"}
    try:
        value = getattr(dag, startup["ti"]["task_id"])(comms)
        xcoms = [{"key": "return_value", "value": value, "map_length": -1}]
        comms.send(dict(end, type="SucceedTask", xcoms=xcoms))
    except SystemExit as err:
        comms.send(dict(end, type="RetryTask", reason="SystemExit: %s" % err.code))
    except BaseException as err:
        traceback.print_exc()
        comms.send(dict(end, type="RetryTask", reason="%s: %s" % (type(err).__name__, err)))


def run_callback(startup, comms, dag):
    getattr(dag, startup["callback"]["kind"])(comms)
    comms.send({"type": "CallbacksDone"})


def run():
    """The rehearsal, of a runner that has nothing to rehearse."""


def prepare():
    """What the rehearsal and logging need: nothing here."""


def on_term():
    hook = getattr(sys.modules.get("dagfile"), "on_kill", None)
    if hook:
        hook()


def install():
    for name, members in {
        "ostro.loader": (load_file, LoadResult),
        "ostro.serialize": (describe,),
        "ostro.runner": (run_task, run_callback, on_term),
        "ostro.template": (),
        "ostro.rehearsal": (run, prepare),
        "ostro.tasklog": (prepare,),
    }.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        setattr(__import__(parent), child, module)


if __name__ == "__main__":
    install()
    sys.path.pop(0)  # the tests' folder
    started = time.monotonic()
    if sys.argv[1] == "host":
        from ostro.host import main
    else:
        from ostro.task import main
    main()
