"""Runs a whole DAG, or one task of it, in one process and without a server: ``dag.test()`` and ``python -m ostro.dagtest``.

What the server would decide (trigger rules, skips, mapping) is decided here by a plain walk through the graph. Retries
happen at once: their delays are for real runs.
"""

import contextlib
import datetime
import json
import os
import signal
import sys
import threading
import time

from . import dates, live
from .localcomms import LocalComms
from .masking import MaskedStream, Masker, masked_output

_DONE_WELL = ("success", "skipped")
# The settings of `ostro dags test`: pods, variables, connections as JSON.
SETTINGS = "OSTRO_DAGTEST_SETTINGS"
_INTERRUPT = signal.default_int_handler
_INTERRUPTED = 128 + signal.SIGINT
_NOT_HERE = 4  # DagTest.Perhaps in internal/app/dagtest.go knows it


class Instance:
    """One instance of a task in a local run."""

    def __init__(self, task, index=-1):
        self.task, self.index = task, index
        self.state, self.seconds, self.tries, self.reason = None, 0.0, 0, ""
        self.begun = self.ended = None
        self.following = None  # after a deferral: the method to go on with and its arguments

    @property
    def name(self):
        return self.task.task_id + ("" if self.index < 0 else "[%d]" % self.index)


class LocalRun:
    """One run of a DAG in this process; ``state`` and ``instances`` tell how it went."""

    def __init__(self, dag, logical_date=None, conf=None, settings=None, out=None, mark_success=None,
                 masker=None):
        settings = settings or {}
        self.dag, self.conf, self.out = dag, conf or {}, out or sys.stdout
        self.pods, self.mark_success = settings.get("pods"), mark_success
        self.scratch = settings.get("scratch") or ""
        self.comms = LocalComms(settings.get("variables"), settings.get("connections"), masker=masker)
        self.logical_date = dates.plain(logical_date) if logical_date else datetime.datetime.now(dates.utc)
        self.run_id = "manual__" + self.logical_date.isoformat()
        self.instances, self.skipped, self.state = {}, set(), "running"
        self.dag_id = dag.dag_id
        self.start_date = datetime.datetime.now(dates.utc)
        self.end_date, self.retrying, self.interrupted = None, True, False
        self.comms.instances = self._wire_instances

    def get_task_instances(self, **_):
        return [one for several in self.instances.values() for one in several]

    def get_task_instance(self, task_id, map_index=-1, **_):
        return next((one for one in self.instances.get(task_id, ()) if one.index == map_index), None)

    def _wire_instances(self, dag_id, run_id):
        """Return every instance as the control plane would; what has not been looked at yet has no state."""
        if (dag_id, run_id) != (self.dag_id, self.run_id):
            return []
        known = [one for task in self.dag.tasks for one in self.instances.get(task.task_id) or [Instance(task)]]
        return [{"task_id": one.task.task_id, "map_index": one.index, "state": one.state, "try_number": one.tries,
                 "max_tries": one.task.retries, "start_date": one.begun, "end_date": one.ended} for one in known]

    # ---- walking ----

    def run(self):
        """Run every task; return self."""
        for task in self.dag.topological_sort():
            self.instances[task.task_id] = several = self._instances_of(task)
            for one in several:
                verdict = one.state or self._verdict(task, one)
                if verdict == "run":
                    self._run(one)
                else:
                    one.state = verdict
                self._report(one)
        leaves = [one for task in deciding_tasks(self.dag) for one in self.instances[task.task_id]]
        failed = any(one.state in ("failed", "upstream_failed") for one in leaves)
        self.state = "failed" if failed else "success"
        self.end_date = datetime.datetime.now(dates.utc)
        self._dag_callback()
        return self

    def run_one(self, task_id, index=-1):
        """Run one task and nothing else, once, whatever its trigger rule and its retries say; return its instance."""
        task = self.dag.get_task(task_id)
        if index < 0 and self._mapping_of(task) is not None:
            index = 0
        one = Instance(task, index)
        self.instances[task_id], self.retrying = [one], False
        self._run(one)
        self._report(one)
        return one

    def _mapping_of(self, task):
        if task.is_mapped:
            return task.mapping
        group = task.get_closest_mapped_task_group()
        return group.mapping if group is not None else None

    def _instances_of(self, task):
        mapping = self._mapping_of(task)
        if mapping is None:
            return [Instance(task)]
        before = {one.state for up in mapping.iter_references() for one in self.instances[up.task_id]}
        if before - {"success"}:
            one = Instance(task)
            one.state = "upstream_failed" if before & {"failed", "upstream_failed"} else "skipped"
            return [one]
        from . import context as contexts
        from .ti import TaskInstance

        live.comms = self.comms
        try:
            startup = self._startup(Instance(task))
            ti = TaskInstance(startup, task)
            count = mapping.length(contexts.build(task, ti, startup["ti_context"]["dag_run"], startup["ti_context"]))
        except Exception as fault:
            one = Instance(task)
            one.state, one.reason = "failed", "cannot map: %s" % fault
            return [one]
        finally:
            live.comms = None
        if count:
            return [Instance(task, index) for index in range(count)]
        one = Instance(task)
        one.state = "skipped"
        return [one]

    def _verdict(self, task, one):
        if (task.task_id, one.index) in self.skipped or (task.task_id, -1) in self.skipped:
            return "skipped"
        states = []
        for up in task.upstream_list:
            theirs = self.instances[up.task_id]
            same = [other for other in theirs if other.index == one.index]
            if one.index >= 0 and same and up.get_closest_mapped_task_group() is task.get_closest_mapped_task_group() \
                    and not task.is_mapped:
                theirs = same
            states += [(other.state, up) for other in theirs]
        return decide(str(task.trigger_rule), states)

    # ---- one instance ----

    def _run(self, one):
        from .runner import run_task

        if self.mark_success is not None and __import__("re").search(self.mark_success, one.task.task_id):
            one.state = "success"
            return
        if one.task.work_kind == "empty" and not one.task.is_mapped and not one.task.outlets \
                and not one.task.on_success_callback:
            one.state = "success"
            return
        self._say("→ %s" % one.name)
        started, one.begun, one.state = time.monotonic(), dates.wire(datetime.datetime.now(dates.utc)), "running"
        while True:
            one.tries += 1
            before = len(self.comms.sent)
            run_task(self._startup(one), self.comms, self.dag)
            if self.interrupted:
                one.state, one.reason, one.seconds = "failed", "interrupted", time.monotonic() - started
                self._report(one)
                raise KeyboardInterrupt
            ending = next(message for message in self.comms.sent[before:] if message["type"] in self.comms.TERMINAL)
            if not self._again(one, ending):
                break
        one.seconds, one.ended = time.monotonic() - started, dates.wire(datetime.datetime.now(dates.utc))
        for message in self.comms.sent[before:]:
            if message["type"] == "AddNotice":
                self._say("  note: " + message["text"])

    def _again(self, one, ending):
        """Take in how an attempt ended; say whether another follows."""
        ref = self._ref(one)
        self.comms.store(ref, ending.get("xcoms"))
        kind = ending["type"]
        one.reason = (ending.get("reason") or "").split("\n", 1)[0]  # what was printed above has all of it
        if kind == "SucceedTask":
            one.state = "success"
            for message in self.comms.of("SkipDownstreamTasks"):
                for name in message["tasks"]:
                    self.skipped.add((name, -1) if isinstance(name, str) else (name[0], name[1]))
        elif kind == "TaskState":
            one.state = ending["state"]
        elif kind == "RescheduleTask":
            pause = (dates.plain(ending["reschedule_date"]) - datetime.datetime.now(dates.utc)).total_seconds()
            time.sleep(max(0.0, pause))
            one.tries -= 1
            return True
        elif kind == "DeferTask":
            if ending.get("input"):
                one.state, one.reason = "failed", "a person must answer, which needs a running server"
                return False
            from .triggerer import fire

            self._say("  deferred, waiting for %s" % ending["classpath"])
            one.following = fire(ending)
            if one.following[0] is None:  # the trigger has ended the task
                one.state = one.following[1]
                return False
            one.tries -= 1
            return True
        else:
            if self.retrying and one.tries <= one.task.retries:
                self._say("  try %d failed (%s); trying again at once" % (one.tries, one.reason))
                return True
            one.state = "failed"
        return False

    def _ref(self, one):
        return {"id": "local", "attempt_id": "local-%s-%d" % (one.name, one.tries), "dag_id": self.dag.dag_id,
                "run_id": self.run_id, "task_id": one.task.task_id, "map_index": one.index,
                "try_number": max(one.tries, 1), "pool": one.task.pool, "queue": one.task.queue}

    def _startup(self, one):
        (method, kwargs), one.following = one.following or (None, None), None
        when = dates.wire(self.logical_date)
        run = {"dag_id": self.dag.dag_id, "run_id": self.run_id, "run_type": "manual", "state": "running",
               "logical_date": when, "data_interval_start": when, "data_interval_end": when, "run_after": when,
               "start_date": dates.wire(self.start_date), "end_date": None, "clear_number": 0, "conf": self.conf}
        mapping = self._mapping_of(one.task)
        return {"type": "StartupDetails", "kind": "task", "ti": self._ref(one), "dag_rel_path": self.dag.fileloc,
                "start_date": dates.wire(datetime.datetime.now(dates.utc)), "pods": self.pods,
                "scratch": self.scratch,
                "ti_context": {"dag_run": run, "max_tries": one.task.retries,
                               "should_retry": one.tries <= one.task.retries, "task_reschedule_count": 0,
                               **({"next_method": method, "next_kwargs": kwargs} if method else {}),
                               **({"expanded_ti_count": 1} if mapping else {})}}

    def _dag_callback(self):
        kind = "on_success_callback" if self.state == "success" else "on_failure_callback"
        if not getattr(self.dag, kind) or not self.dag.tasks:
            return
        from .runner import run_callback

        startup = self._startup(Instance(self.dag.tasks[-1]))
        startup["ti_context"]["dag_run"]["state"] = self.state
        startup["callback"] = {"kind": kind, "dag": True,
                               "reason": "success" if self.state == "success" else "task_failure"}
        self._say("→ %s of the DAG" % kind)
        run_callback(startup, self.comms, self.dag)

    # ---- telling ----

    def _say(self, text):
        self.out.write(text + "\n")
        self.out.flush()

    def _report(self, one):
        marks = {"success": "✓", "failed": "✗", "upstream_failed": "↯", "skipped": "–"}
        text = "%s %s %s" % (marks.get(one.state, "?"), one.name, one.state)
        if one.tries:
            text += " in %.2f s" % one.seconds
        if one.reason and one.state != "success":
            text += ": " + one.reason
        self._say(text)

    def table(self):
        """Return the result as a table."""
        rows = [("TASK", "STATE", "TRIES", "SECONDS")]
        rows += [(one.name, one.state or "none", str(one.tries), "%.2f" % one.seconds)
                 for one in self.get_task_instances()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join(lines + ["", "DAG run %s: %s" % (self.run_id, self.state)])


def deciding_tasks(dag):
    """Return the tasks whose states make the run's: the leaves, where a teardown that may fail counts as not there."""
    def counts(task):
        return not task.is_teardown or task.on_failure_fail_dagrun

    return [task for task in dag.tasks if counts(task) and not any(map(counts, task.downstream_list))] or dag.leaves


def decide(rule, states):
    """Return "run", "skipped" or "upstream_failed" for a trigger rule, given (state, task) of everything upstream."""
    if not states or rule == "always":
        return "run"
    failed = sum(state in ("failed", "upstream_failed") for state, _ in states)
    skipped = sum(state == "skipped" for state, _ in states)
    good = sum(state == "success" for state, _ in states)
    total = len(states)
    setups = [state for state, task in states if task.is_setup]

    def otherwise():
        return "upstream_failed" if failed else "skipped"

    if rule == "all_success":
        return "run" if good == total else otherwise()
    if rule == "all_failed":
        return "run" if failed == total else "skipped"
    if rule == "all_done":
        return "run"
    if rule == "all_done_min_one_success":
        return "run" if good else otherwise()
    if rule == "all_done_setup_success":
        if setups and not any(state == "success" for state in setups):
            return "upstream_failed" if any(state in ("failed", "upstream_failed") for state in setups) else "skipped"
        return "run"
    if rule == "one_success":
        return "run" if good else otherwise()
    if rule == "one_failed":
        return "run" if failed else "skipped"
    if rule == "one_done":
        return "run" if good or failed else "skipped"
    if rule == "none_failed":
        return "run" if not failed else "upstream_failed"
    if rule == "none_failed_min_one_success":
        return "upstream_failed" if failed else "run" if good else "skipped"
    if rule == "none_skipped":
        return "run" if not skipped else "skipped"
    if rule == "all_skipped":
        return "run" if skipped == total else ("upstream_failed" if failed else "skipped")
    raise ValueError("unknown trigger rule %r" % rule)


def run_dag(dag, logical_date=None, conf=None, settings=None, connections_file=None, variables_file=None, out=None,
            mark_success=None):
    """Run a DAG here and now and print how it goes, without its secrets; return the finished LocalRun."""
    settings = dict(settings if settings is not None else _settings())
    for name, path in (("connections", connections_file), ("variables", variables_file)):
        if path:
            settings[name] = _read(path)
    masker = Masker()
    if out is not None:
        out = MaskedStream(out, masker)
    _log_to(out)
    dag.validate()
    if isinstance(conf, str):
        conf = json.loads(conf)
    with masked_output(masker):
        run = _run_whole(LocalRun(dag, logical_date, conf, settings, out, mark_success, masker))
    if out is not None:
        out.finish()
    return run


def _run_whole(run):
    try:
        with _heeding_interrupts(run):
            run.run()
    finally:
        run._say("\n" + run.table())
    return run


@contextlib.contextmanager
def _heeding_interrupts(run):
    """Have ``run`` know of Ctrl-C. For the task that it interrupts it is one failure of many, but nobody wants another try."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not _INTERRUPT:
        yield
        return

    def interrupt(number, frame):
        run.interrupted, run.state = True, "failed"
        _INTERRUPT(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _INTERRUPT)


def _log_to(out):
    import logging

    if not logging.getLogger().handlers:
        handler = logging.StreamHandler(out or sys.stdout)
        handler.setFormatter(_formatter())
        logging.basicConfig(level=logging.INFO, handlers=[handler])


def _formatter():
    import logging

    from .trace import format_exception

    class Formatter(logging.Formatter):
        """Tracebacks of the author's frames only."""

        def formatException(self, info):
            return format_exception(info[1])

    return Formatter("  %(levelname)s %(message)s")


def _settings():
    text = os.environ.get(SETTINGS)
    return json.loads(text) if text else {}


def _read(path):
    with open(path, encoding="utf-8") as handle:
        text = handle.read()
    if path.endswith((".yaml", ".yml")):
        import yaml

        return yaml.safe_load(text)
    if path.endswith(".env"):
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return json.loads(text)


def _arguments(argv):
    import argparse

    parser = argparse.ArgumentParser(prog="python -m ostro.dagtest", description="Run a DAG in this process.")
    parser.add_argument("--file", required=True, help="the DAG file, relative to --bundle or a path")
    parser.add_argument("--dag-id", help="which DAG of the file; needed when it declares several")
    parser.add_argument("--logical-date", help="the run's logical date, by default now")
    parser.add_argument("--conf", help="the run's conf, a JSON object")
    parser.add_argument("--perhaps", action="store_true", help="end with %d and no word where the file declares no such DAG"
                        % _NOT_HERE)
    parser.add_argument("--task", help="run this task alone")
    parser.add_argument("--map-index", type=int, default=-1, help="which instance of a mapped task")
    parser.add_argument("--bundle", help="the folder of the DAG files, by default the file's own")
    parser.add_argument("--compat", default="airflow3", choices=("airflow3", "airflow2"))
    return parser.parse_args(argv)


@contextlib.contextmanager
def _within(masker):
    """Mask the output of a process that is not ours alone."""
    with masked_output(masker):
        yield None, None


def main(argv=None, masked=_within):
    """Entry of ``python -m ostro.dagtest``; 0 success, 1 failure, 2 wrong arguments, 3 no such task or DAG, 130 interrupted.

    ``masked`` makes what keeps secrets out of the output while it lasts. It gives where to write, None for sys.stdout, and a
    folder that the run may make and somebody removes, None where nobody does.
    """
    given = _arguments(argv)
    path = os.path.abspath(given.file if os.path.isabs(given.file) or not given.bundle
                           else os.path.join(given.bundle, given.file))
    bundle = os.path.abspath(given.bundle or os.path.dirname(path))
    masker = Masker()
    with masked(masker) as (out, scratch):
        return _run_given(given, path, bundle, masker, out, dict(_settings(), scratch=scratch))


def _run_given(given, path, bundle, masker, out, settings):
    from .loader import load_file

    live.comms = LocalComms(settings.get("variables"), settings.get("connections"), masker=masker)
    try:
        result = load_file(bundle, os.path.relpath(path, bundle), compat=given.compat, defaults=settings.get("defaults"))
    finally:
        live.comms = None
    for text in result.warnings:
        print("warning: " + text, file=sys.stderr)
    for error in result.errors:
        print(error.get("traceback") or error["message"], file=sys.stderr)
        print("import error in %s: %s" % (error["file"], error["message"]), file=sys.stderr)
    if given.perhaps and given.dag_id not in result.dags:
        return _NOT_HERE
    if result.errors and (not result.dags or not given.dag_id):
        return 1
    dag = _pick(result.dags, given)
    if dag is None:
        return 3 if given.dag_id else 2
    try:
        conf = json.loads(given.conf) if given.conf else {}
        logical = dates.parse(given.logical_date) if given.logical_date else None
    except ValueError as fault:
        print("wrong argument: %s" % fault, file=sys.stderr)
        return 2
    if not isinstance(conf, dict):
        print("wrong argument: --conf must be a JSON object", file=sys.stderr)
        return 2
    _log_to(out)
    dag.validate()
    run = LocalRun(dag, logical, conf, settings, out, masker=masker)
    try:
        if given.task:
            return _test_one(run, given)
        return 0 if _run_whole(run).state == "success" else 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _test_one(run, given):
    dag = run.dag
    if given.task not in dag.task_dict:
        from .settings import nearest

        print("DAG %s has no task %r%s" % (dag.dag_id, given.task, nearest(given.task, dag.task_dict)), file=sys.stderr)
        return 3
    with _heeding_interrupts(run):
        one = run.run_one(given.task, given.map_index)
    return 0 if one.state in _DONE_WELL else 1


def _pick(dags, given):
    if given.dag_id:
        if given.dag_id in dags:
            return dags[given.dag_id]
        from .settings import nearest

        print("%s declares no DAG %r%s" % (given.file, given.dag_id, nearest(given.dag_id, dags)), file=sys.stderr)
        return None
    if len(dags) == 1:
        return next(iter(dags.values()))
    print("%s declares %s; choose with --dag-id" % (given.file, "no DAG" if not dags else ", ".join(dags)),
          file=sys.stderr)
    return None


@contextlib.contextmanager
def _own_process(masker):
    """Mask the output of this process and of all it starts, which nobody may do to a process that is not his own."""
    from . import maskedrun

    scratch = maskedrun.begin(masker)
    if scratch is not None:
        yield maskedrun.OwnOutput(), scratch  # open to the end: log records may come as late
        masker.relay.end()
        return
    with _within(masker) as nothing:
        yield nothing


if __name__ == "__main__":
    sys.exit(main(masked=_own_process))
