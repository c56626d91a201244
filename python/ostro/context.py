"""The context of a running task: every name of Airflow 3 and, beside them, those Airflow 2 had.

Values are computed when they are asked for: most tasks use two or three, and dates may cost an import of pendulum.
"""

import datetime
from collections.abc import MutableMapping

from . import dates
from .params import ParamsDict


class Context(MutableMapping):
    """A mapping whose values are computed once, on first use."""

    def __init__(self, makers, values=None):
        self._makers, self._values = dict(makers), dict(values or {})

    def __getitem__(self, name):
        if name in self._values:
            return self._values[name]
        if name not in self._makers:
            from .settings import nearest

            raise KeyError(no_date(self, name) or "the context has no %r%s" % (name, nearest(name, self)))
        value = self._values[name] = self._makers[name]()
        return value

    def __setitem__(self, name, value):
        self._values[name] = value

    def __delitem__(self, name):
        if name not in self:
            raise KeyError(name)
        self._makers.pop(name, None)
        self._values.pop(name, None)

    def __contains__(self, name):
        return name in self._values or name in self._makers

    def __iter__(self):
        return iter(dict.fromkeys(list(self._makers) + list(self._values)))

    def __len__(self):
        return len(set(self._makers) | set(self._values))

    def __repr__(self):
        return "<Context: %s>" % ", ".join(sorted(self))

    def get(self, name, default=None):
        # Not Mapping.get: a value that fails with a KeyError of its own is not an absent one.
        if name not in self:
            return default
        return self[name]

    def copy(self):
        return Context(self._makers, self._values)

    __copy__ = copy


# The names a run has only with a logical date.
DATED = frozenset(
    "logical_date execution_date ds ds_nodash ts ts_nodash ts_nodash_with_tz data_interval_start data_interval_end "
    "prev_data_interval_start_success prev_data_interval_end_success prev_execution_date_success tomorrow_ds "
    "tomorrow_ds_nodash yesterday_ds yesterday_ds_nodash next_execution_date prev_execution_date next_ds "
    "next_ds_nodash prev_ds prev_ds_nodash".split())


def no_date(context, name):
    """Say why a dated name is not there: the run was triggered without a logical date. Else say nothing."""
    if name not in DATED or name in context:
        return ""
    return ("this DAG run has no logical date, so it has no %r: trigger it with a logical date or use "
            "dag_run.run_after" % name)


class DagRunView:
    """The ``dag_run`` of a context."""

    def __init__(self, fields, dag=None):
        self._fields, self.dag = fields, dag

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        fields = self.__dict__["_fields"]
        name = "logical_date" if name == "execution_date" else name
        if name in ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date", "end_date",
                    "queued_at"):
            return dates.shown(fields.get(name))
        if name == "conf":
            return fields.get("conf") or {}
        if name in ("dag_id", "run_id", "run_type", "state", "clear_number", "note", "triggering_user_name",
                    "consumed_asset_events", "partition_key", "partition_date"):
            return fields.get(name)
        if name == "external_trigger":
            return fields.get("run_type") == "manual"
        raise AttributeError("a DAG run has no attribute %r" % name)

    def __repr__(self):
        return "<DagRun %s @ %s: %s>" % (self.dag_id, self._fields.get("logical_date"), self.run_id)

    def get_state(self):
        return self.state

    def get_dag(self):
        return self.dag

    def get_task_instances(self, *args, **kwargs):
        raise RuntimeError("tasks have no access to the database: ask the REST API for task instances")

    def get_task_instance(self, *args, **kwargs):
        raise RuntimeError("tasks have no access to the database: ask the REST API for task instances")


class VariableAccessor:
    """``var.value.name`` and ``var.json.name``; ``.get(name, default)``."""

    def __init__(self, as_json=False):
        self._json = as_json

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        from .variable import Variable

        return Variable.get(name, deserialize_json=self._json)

    def get(self, name, default_var=None, default=None):
        from .variable import Variable

        return Variable.get(name, default=default_var if default is None else default, deserialize_json=self._json)


class _Var:
    def __init__(self):
        self.value, self.json = VariableAccessor(), VariableAccessor(True)


class ConnectionAccessor:
    """``conn.my_conn_id``; ``.get(conn_id, default)``."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        from .connection import Connection

        return Connection.get(name)

    def get(self, name, default_conn=None):
        from .connection import Connection
        from .exceptions import AirflowNotFoundException

        try:
            return Connection.get(name)
        except AirflowNotFoundException:
            return default_conn


class _Macros:
    def __getattr__(self, name):
        from . import macros

        return getattr(macros, name)


class _NoState:
    """``task_state_store`` and ``asset_state_store``: known by name, so that using one says what is the matter."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, word):
        if word.startswith("__"):
            raise AttributeError(word)
        return self[word]

    def __getitem__(self, _):
        from .exceptions import AirflowException

        raise AirflowException("%s is not built; keep the state in a Variable or an XCom" % self._name)


def _events(name, given):
    from . import assetevents

    return getattr(assetevents, name)(given)


def context_to_env(context):
    """Return the AIRFLOW_CTX_* environment variables of a task."""
    ti, run, dag = context["ti"], context["dag_run"], context["dag"]
    out = {
        "AIRFLOW_CTX_DAG_ID": ti.dag_id, "AIRFLOW_CTX_TASK_ID": ti.task_id, "AIRFLOW_CTX_DAG_RUN_ID": ti.run_id,
        "AIRFLOW_CTX_TRY_NUMBER": str(ti.try_number),
        "AIRFLOW_CTX_DAG_OWNER": (dag.owner if dag is not None else "") or "airflow",
    }
    logical = run._fields.get("logical_date")
    if logical:
        iso = dates.plain(logical).isoformat()
        out["AIRFLOW_CTX_LOGICAL_DATE"] = out["AIRFLOW_CTX_EXECUTION_DATE"] = iso
    return out


def build(task, ti, run_fields, startup_context):
    """Return the context of one attempt."""
    dag = task.dag
    run = DagRunView(run_fields, dag)
    makers = {
        "dag": lambda: dag, "task": lambda: ti.task, "ti": lambda: ti, "task_instance": lambda: ti,
        "run_id": lambda: ti.run_id, "dag_run": lambda: run, "params": lambda: merged_params(dag, task, run.conf),
        "var": _Var, "conn": ConnectionAccessor, "macros": _Macros, "inlets": lambda: task.inlets,
        "outlets": lambda: task.outlets, "outlet_events": lambda: _events("OutletEventAccessors", task.outlets),
        "inlet_events": lambda: _events("InletEventsAccessors", task.inlets),
        "map_index_template": lambda: task.map_index_template,
        "expanded_ti_count": lambda: startup_context.get("expanded_ti_count"),
        "task_reschedule_count": lambda: startup_context.get("task_reschedule_count", 0),
        "task_instance_key_str": lambda: "__".join(
            (ti.dag_id, ti.task_id, _nodash(run_fields.get("logical_date")) or ti.run_id)),
        "triggering_asset_events": lambda: _events("TriggeringAssetEvents", run.consumed_asset_events),
        "triggering_dataset_events": lambda: _events("TriggeringAssetEvents", run.consumed_asset_events),
        "partition_key": lambda: run.partition_key, "task_state_store": lambda: _NoState("task_state_store"),
        "asset_state_store": lambda: _NoState("asset_state_store"),
        "prev_start_date_success": lambda: ti.previous_success("start_date"),
        "prev_end_date_success": lambda: ti.previous_success("end_date"),
        "start_date": lambda: ti.start_date, "test_mode": lambda: False, "conf": _conf,
    }
    if run_fields.get("logical_date"):
        makers.update(_dated(ti, run_fields, startup_context))
    return Context(makers)


def _conf():
    from .configuration import conf

    return conf


def _nodash(when):
    return dates.plain(when).strftime("%Y%m%d") if when else ""


def _dated(ti, run_fields, startup_context):
    """The names that exist only for a run with a logical date."""
    logical = dates.plain(run_fields["logical_date"])
    start = dates.plain(run_fields.get("data_interval_start")) or logical
    end = dates.plain(run_fields.get("data_interval_end")) or logical

    def day(offset, pattern="%Y-%m-%d"):
        return lambda: (logical + datetime.timedelta(days=offset)).strftime(pattern)

    def neighbour(name, pattern=None):
        def value():
            when = startup_context.get(name)
            if when is None and run_fields.get("run_type") == "manual":
                # Airflow 2: around a run by hand, "previous" and "next" are the run's own date.
                when = logical
            if when is None:
                return None
            return dates.plain(when).strftime(pattern) if pattern else dates.shown(when)

        return value

    iso = logical.isoformat
    return {
        "logical_date": lambda: dates.shown(logical), "execution_date": lambda: dates.shown(logical),
        "ds": day(0), "ds_nodash": day(0, "%Y%m%d"), "ts": iso,
        "ts_nodash": lambda: logical.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": lambda: iso().replace("-", "").replace(":", ""),
        "data_interval_start": lambda: dates.shown(start), "data_interval_end": lambda: dates.shown(end),
        "prev_data_interval_start_success": lambda: ti.previous_success("data_interval_start"),
        "prev_data_interval_end_success": lambda: ti.previous_success("data_interval_end"),
        "prev_execution_date_success": lambda: ti.previous_success("data_interval_start"),
        "tomorrow_ds": day(1), "tomorrow_ds_nodash": day(1, "%Y%m%d"),
        "yesterday_ds": day(-1), "yesterday_ds_nodash": day(-1, "%Y%m%d"),
        "next_execution_date": neighbour("next_data_interval_start"),
        "prev_execution_date": neighbour("prev_data_interval_start"),
        "next_ds": neighbour("next_data_interval_start", "%Y-%m-%d"),
        "next_ds_nodash": neighbour("next_data_interval_start", "%Y%m%d"),
        "prev_ds": neighbour("prev_data_interval_start", "%Y-%m-%d"),
        "prev_ds_nodash": neighbour("prev_data_interval_start", "%Y%m%d"),
    }


def merged_params(dag, task, conf):
    """Return the parameters of a task: the DAG's, the task's over them, the run's conf over both; checked."""
    merged = ParamsDict(dag.params.deep() if dag is not None else {})
    for name, param in task.params.deep().items():
        merged[name] = param
    for name, value in (conf or {}).items():
        merged[name] = value
    return merged.validate()
