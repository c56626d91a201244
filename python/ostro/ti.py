"""The task instance a running task sees as ``ti``."""

import datetime

from . import dates, largexcom, live, serialize
from .params import NOTSET
from .xcom import decode, encode, map_length, push
from .xcomarg import ALL, RETURN_KEY, LazyXComSequence


class Named:
    """What a task instance is called, whoever looks at it."""

    def __repr__(self):
        return "<TaskInstance: %s.%s %s%s [%s]>" % (
            self.dag_id, self.task_id, self.run_id, "" if self.map_index < 0 else " map_index=%d" % self.map_index,
            self.state)

    @property
    def key(self):
        return (self.dag_id, self.task_id, self.run_id, self.try_number, self.map_index)


class TaskInstance(Named):
    """One attempt of one instance of a task."""

    def __init__(self, startup, task):
        ref = startup["ti"]
        self.startup, self.task = startup, task
        self.startup_context = startup.get("ti_context") or {}
        self.id = ref.get("id")
        self.attempt_id = ref.get("attempt_id")
        self.dag_id, self.run_id, self.task_id = ref["dag_id"], ref["run_id"], ref["task_id"]
        self.map_index, self.try_number = ref.get("map_index", -1), ref.get("try_number", 1)
        self.max_tries = self.startup_context.get("max_tries", 0)
        self.hostname, self.queue = ref.get("hostname", ""), ref.get("queue") or "default"
        self.pool, self.pool_slots = ref.get("pool") or "default_pool", ref.get("pool_slots") or 1
        self.priority_weight = ref.get("priority_weight", 1)
        self.state = "running"
        self.end_date = None
        self.rendered_map_index = None
        self._pending = {}

    @property
    def log(self):
        import logging

        return logging.getLogger("airflow.task")

    @property
    def operator(self):
        return self.task.task_type

    @property
    def operator_name(self):
        return self.task.operator_name

    @property
    def pid(self):
        import os

        return os.getpid()

    @property
    def start_date(self):
        return dates.shown(self.startup.get("start_date")) or dates.utcnow()

    @property
    def duration(self):
        begin = dates.plain(self.startup.get("start_date"))
        if begin is None:
            return None
        return ((self.end_date or datetime.datetime.now(dates.utc)) - begin).total_seconds()

    @property
    def dag_run(self):
        from .context import DagRunView

        return DagRunView(self.startup_context.get("dag_run") or {}, self.task.dag)

    @property
    def logical_date(self):
        return self.dag_run.logical_date

    execution_date = logical_date

    @property
    def dag_display_name(self):
        return self.task.dag.dag_display_name if self.task.dag else self.dag_id

    @property
    def is_mapped(self):
        return self.map_index >= 0

    @property
    def should_retry(self):
        return bool(self.startup_context.get("should_retry"))

    def is_eligible_to_retry(self):
        return self.should_retry

    @property
    def log_url(self):
        return log_url(self.startup.get("base_url"), *self.key)

    @property
    def mark_success_url(self):
        return self.log_url

    def get_template_context(self, session=None, ignore_param_exceptions=True):
        return live.get_current_context()

    def get_dagrun(self, session=None):
        return self.dag_run

    def get_num_running_task_instances(self, *args, **kwargs):
        return live.request({"type": "GetTICount", "dag_id": self.dag_id, "task_ids": [self.task_id],
                             "states": ["running"]})["count"]

    def get_first_reschedule_date(self, context):
        """Return when this try first started, for sensors that look again later."""
        return dates.plain(self.startup_context.get("first_start_date")) or dates.plain(self.startup.get("start_date"))

    # ---- earlier runs ----

    def previous_success(self, name):
        """Return a date of the last run that succeeded before this one, None if there is none."""
        if not hasattr(self, "_previous"):
            try:
                self._previous = live.request({"type": "GetPrevSuccessfulDagRun", "ti_id": self.id or ""})
            except Exception:
                self._previous = {}
        return dates.shown(self._previous.get(name))

    def get_previous_dagrun(self, state=None, session=None):
        from .context import DagRunView

        logical = (self.startup_context.get("dag_run") or {}).get("logical_date")
        if not logical:
            return None
        ask = {"type": "GetPreviousDagRun", "dag_id": self.dag_id, "logical_date": logical}
        if state:
            ask["state"] = str(getattr(state, "value", state))
        fields = live.request(ask).get("dag_run")
        return DagRunView(fields, self.task.dag) if fields else None

    def get_previous_ti(self, state=None, session=None, **_):
        run = self.get_previous_dagrun(state)
        return _PreviousInstance(self, run) if run is not None else None

    @property
    def previous_ti(self):
        return self.get_previous_ti()

    @property
    def previous_ti_success(self):
        return self.get_previous_ti("success")

    def get_previous_start_date(self, state=None, session=None):
        run = self.get_previous_dagrun(state)
        return run.start_date if run is not None else None

    def get_previous_execution_date(self, state=None, session=None):
        run = self.get_previous_dagrun(state)
        return run.logical_date if run is not None else None

    # ---- XCom ----

    def xcom_push(self, key, value, execution_date=None, session=None):
        """Store a value for other tasks."""
        if not isinstance(key, str) or not key:
            raise ValueError("an XCom key must be non-empty text, not %r" % (key,))
        what = "the XCom %r of task %r" % (key, self.task_id)
        push({"type": "SetXCom", "dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id,
              "map_index": self.map_index, "key": key, "value": encode(value, what), "map_length": map_length(value)}, what)

    def store_large(self, xcom):
        """Store an XCom of a terminal message ahead of it, if it is large; return whether it is stored."""
        return largexcom.store(dict(xcom, type="SetXCom", dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id,
                                    map_index=self.map_index))

    def add_xcom(self, key, value):
        """Store a value together with this attempt's end, without a request of its own."""
        self._pending[key] = value

    def pending_xcoms(self):
        return [{"key": key, "value": encode(value, "the XCom %r" % key), "map_length": map_length(value)}
                for key, value in self._pending.items()]

    def xcom_pull(self, task_ids=None, dag_id=None, key=RETURN_KEY, include_prior_dates=False, session=None, *,
                  map_indexes=NOTSET, default=None, run_id=None):
        """Return what other tasks stored: one value for one task id, a list for a list of them.

        Without ``task_ids`` Airflow 3 asks this very task; Airflow 2 asks every task of the run, the latest first.
        """
        where = {"dag_id": dag_id or self.dag_id, "run_id": run_id or self.run_id}
        if task_ids is None:
            if (self.task.dag.compat if self.task.dag else "") == "airflow2":
                return self._pull_from_any(where, key, include_prior_dates, default)
            task_ids = self.task_id
        if isinstance(task_ids, str):
            value = self._pull(where, task_ids, key, include_prior_dates, map_indexes, default)
            return list(value) if isinstance(value, _Many) else value
        out = []
        for name in task_ids:
            value = self._pull(where, name, key, include_prior_dates, map_indexes, default)
            if isinstance(value, _Many):
                out += value
            else:
                out.append(value)
        return out

    def _pull(self, where, task_id, key, prior, map_indexes, default):
        if map_indexes is None or map_indexes is NOTSET:
            if self._is_several(where, task_id) or map_indexes is None and self._is_several(where, task_id, True):
                return _Many(LazyXComSequence(where["dag_id"], where["run_id"], task_id, key))
            value, found = self.fetch_xcom(task_id, key, -1, prior=prior, **where)
            return value if found and value is not None else default
        if isinstance(map_indexes, int):
            value, found = self.fetch_xcom(task_id, key, map_indexes, prior=prior, **where)
            return value if found and value is not None else default
        out = _Many()
        for index in map_indexes:
            value, found = self.fetch_xcom(task_id, key, index, prior=prior, **where)
            out.append(value if found and value is not None else default)
        return out

    def _is_several(self, where, task_id, anywhere=False):
        dag = self.task.dag
        if where["dag_id"] != self.dag_id or dag is None or task_id not in dag.task_dict:
            return False
        task = dag.task_dict[task_id]
        return task.is_mapped or task.get_closest_mapped_task_group() is not None

    def _pull_from_any(self, where, key, prior, default):
        below_first = [self.task_id] + [task.task_id for task in reversed(self.task.dag.topological_sort())]
        for name in dict.fromkeys(below_first):
            value, found = self.fetch_xcom(name, key, -1, prior=prior, **where)
            if found:
                return value
        return default

    def fetch_xcom(self, task_id, key, map_index=-1, dag_id=None, run_id=None, prior=False):
        """Return (value, whether there is one)."""
        ask = {"type": "GetXCom", "dag_id": dag_id or self.dag_id, "run_id": run_id or self.run_id, "task_id": task_id,
               "key": key, "map_index": -1 if map_index is None else map_index}
        if prior:
            ask["include_prior_dates"] = True
        answer = largexcom.fetch(ask)
        if not answer.get("found"):
            return None, False
        return decode(answer.get("value")), True

    def upstream_map_indexes(self, upstream, context):
        """Return which instance of ``upstream`` to read: an index, a list of them, or ALL."""
        known = self.startup_context.get("upstream_map_indexes") or {}
        if upstream.task_id in known:
            return ALL if known[upstream.task_id] is None else known[upstream.task_id]
        theirs = upstream.get_closest_mapped_task_group()
        if theirs is not None and theirs is self.task.get_closest_mapped_task_group() and not upstream.is_mapped:
            return self.map_index
        return ALL if upstream.is_mapped or theirs is not None else -1

    # ---- reports ----

    def send_rendered_fields(self, task):
        """Show the rendered arguments of a task."""
        shown = serialize.fields(task, lambda value: _trimmed(value, [_MOST_ELEMENTS]))
        if shown:
            live.send({"type": "SetRenderedFields", "rendered_fields": _cut(shown)})


def log_url(base, dag_id, task_id, run_id, try_number, map_index):
    """Return where people see the log of a try; the arguments after ``base`` are those of a TaskInstance's key."""
    from urllib.parse import quote

    base = (base or "http://localhost:8080").rstrip("/")
    url = "%s/dags/%s/runs/%s/tasks/%s" % (base, quote(dag_id, safe=""), quote(run_id, safe=""), quote(task_id, safe=""))
    if map_index >= 0:
        url += "/mapped/%d" % map_index
    return url + "?try_number=%d" % try_number


def _cut(shown, limit=4096):
    """Keep very long texts out of the database; Airflow's limit."""
    if isinstance(shown, str) and len(shown) > limit:
        return "Truncated. You can change this behaviour in [core]max_templated_field_length. %r... " % shown[:limit]
    if isinstance(shown, dict):
        return {key: _cut(value, limit) for key, value in shown.items()}
    if isinstance(shown, list):
        return [_cut(value, limit) for value in shown]
    return shown


# How many elements of an argument are shown, at all depths together.
_MOST_ELEMENTS = 1000


def _trimmed(value, left):
    """Return the beginning of large data, without a look at the rest; ``left`` is how many elements there is room for."""
    kind = type(value)
    if kind not in (list, tuple, set, frozenset, dict):
        return value
    out, keyed = [], kind is dict
    for item in value.items() if keyed else value:
        left[0] -= 1
        if left[0] < 0:
            rest = "%d more" % (len(value) - len(out))
            out.append(("…", rest) if keyed else "… (%s)" % rest)
            break
        out.append((item[0], _trimmed(item[1], left)) if keyed else _trimmed(item, left))
    if keyed:
        return dict(out)
    return out if kind is list or left[0] < 0 and kind is not tuple else kind(out)


class _Many(list):
    """Several values pulled for one task id."""


class _PreviousInstance:
    """The same task in an earlier run."""

    def __init__(self, ti, run):
        self.task_id, self.dag_id, self.dag_run, self.run_id = ti.task_id, ti.dag_id, run, run.run_id
        self.start_date, self.end_date, self.logical_date = run.start_date, run.end_date, run.logical_date
        self.execution_date, self._ti = run.logical_date, ti

    @property
    def state(self):
        answer = live.request({"type": "GetTaskStates", "dag_id": self.dag_id, "task_ids": [self.task_id],
                               "run_ids": [self.run_id]})
        return (answer.get("task_states", {}).get(self.run_id) or {}).get(self.task_id)

    def xcom_pull(self, task_ids=None, key=RETURN_KEY, **kwargs):
        kwargs.setdefault("run_id", self.run_id)
        return self._ti.xcom_pull(task_ids=task_ids or self.task_id, key=key, **kwargs)
