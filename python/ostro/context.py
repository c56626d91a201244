"""The context of a running task: every name of Airflow 3 and, beside them, those Airflow 2 had.

Values are computed when they are asked for: most tasks use two or three, and dates may cost an import of pendulum.
"""

import datetime
from collections.abc import MutableMapping

from . import dates
from .params import ParamsDict


class Context(MutableMapping):
    """A mapping whose values are computed once, on first use, by functions of where they come from.

    The functions are one table for all tasks: a fork pays for what it makes, and for every page it touches.
    """

    def __init__(self, makers, source, values=None, removed=()):
        self._makers, self._source, self._values, self._removed = makers, source, dict(values or {}), set(removed)

    def __getitem__(self, name):
        if name in self._values:
            return self._values[name]
        if name not in self._makers or name in self._removed:
            from .settings import nearest

            raise KeyError(no_date(self, name) or "the context has no %r%s" % (name, nearest(name, self)))
        value = self._values[name] = self._makers[name](self._source)
        return value

    def __setitem__(self, name, value):
        self._values[name] = value

    def __delitem__(self, name):
        if name not in self:
            raise KeyError(name)
        self._removed.add(name)
        self._values.pop(name, None)

    def __contains__(self, name):
        return name in self._values or (name in self._makers and name not in self._removed)

    def __iter__(self):
        made = [name for name in self._makers if name not in self._removed]
        return iter(dict.fromkeys(made + list(self._values)))

    def __len__(self):
        return sum(1 for _ in self)

    def __repr__(self):
        return "<Context: %s>" % ", ".join(sorted(self))

    def get(self, name, default=None):
        # Not Mapping.get: a value that fails with a KeyError of its own is not an absent one.
        if name not in self:
            return default
        return self[name]

    def pop(self, name, *default):
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def setdefault(self, name, default=None):
        if name not in self:
            self[name] = default
        return self[name]

    def copy(self):
        return Context(self._makers, self._source, self._values, self._removed)

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

    def get_task_instances(self, state=None, session=None):
        """Return the run's task instances as they are now, for reading."""
        from . import instances

        return instances.of_run(self, state)

    def get_task_instance(self, task_id, session=None, *, map_index=-1):
        """Return one of them, None if there is none such."""
        from . import instances

        found = instances.of_run(self, task_ids=[task_id])
        return next((one for one in found if one.map_index == map_index), None)


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


class _Source:
    """Where the values of one attempt's context come from."""

    def __init__(self, task, ti, run_fields, startup):
        self.dag, self.task, self.ti, self.fields, self.startup = task.dag, task, ti, run_fields, startup
        self.run = DagRunView(run_fields, self.dag)

    def date(self, name):
        """Return a date of the run, its logical date where it has no such date."""
        return dates.plain(self.fields.get(name)) or dates.plain(self.fields["logical_date"])

    def neighbour(self, name):
        """Return a date of the run before or after in the schedule; for a run by hand, which has none, its own.

        That is the rule of Airflow 2, whose names these are. What a schedule says about the run is not looked at.
        """
        by_hand = self.fields.get("run_type") == "manual"
        return dates.plain(self.fields["logical_date"] if by_hand else self.startup.get(name))


def build(task, ti, run_fields, startup_context):
    """Return the context of one attempt."""
    if not run_fields.get("logical_date") and task.dag is not None and task.dag.compat == "airflow2":
        run_fields = dict(run_fields, logical_date=run_fields.get("run_after"))  # there every run has a date
    makers = _WITH_DATES if run_fields.get("logical_date") else _WITHOUT_DATES
    return Context(makers, _Source(task, ti, run_fields, startup_context))


def _conf(_):
    from .configuration import conf

    return conf


def _instance_key(at):
    when = at.fields.get("logical_date")
    return "__".join((at.ti.dag_id, at.ti.task_id, dates.plain(when).strftime("%Y%m%d") if when else at.ti.run_id))


# Name → function of a _Source.
_WITHOUT_DATES = {
    "dag": lambda at: at.dag, "task": lambda at: at.ti.task, "ti": lambda at: at.ti,
    "task_instance": lambda at: at.ti, "run_id": lambda at: at.ti.run_id, "dag_run": lambda at: at.run,
    "params": lambda at: merged_params(at.dag, at.task, at.run.conf), "var": lambda at: _Var(),
    "conn": lambda at: ConnectionAccessor(), "macros": lambda at: _Macros(), "inlets": lambda at: at.task.inlets,
    "outlets": lambda at: at.task.outlets, "outlet_events": lambda at: _events("OutletEventAccessors", at.task.outlets),
    "inlet_events": lambda at: _events("InletEventsAccessors", at.task.inlets),
    "map_index_template": lambda at: at.task.map_index_template,
    "expanded_ti_count": lambda at: at.startup.get("expanded_ti_count"),
    "task_reschedule_count": lambda at: at.startup.get("task_reschedule_count", 0),
    "task_instance_key_str": _instance_key,
    "triggering_asset_events": lambda at: _events("TriggeringAssetEvents", at.run.consumed_asset_events),
    "triggering_dataset_events": lambda at: _events("TriggeringAssetEvents", at.run.consumed_asset_events),
    "partition_key": lambda at: at.run.partition_key, "task_state_store": lambda at: _NoState("task_state_store"),
    "asset_state_store": lambda at: _NoState("asset_state_store"),
    "prev_start_date_success": lambda at: at.ti.previous_success("start_date"),
    "prev_end_date_success": lambda at: at.ti.previous_success("end_date"),
    "start_date": lambda at: at.ti.start_date, "test_mode": lambda at: False, "conf": _conf,
}


def _shown(name):
    return lambda at: dates.shown(at.date(name))


def _day(offset, pattern="%Y-%m-%d"):
    return lambda at: (at.date("logical_date") + datetime.timedelta(days=offset)).strftime(pattern)


def _neighbour(name, pattern=None):
    def value(at):
        when = at.neighbour(name)
        if when is None:
            return None
        return when.strftime(pattern) if pattern else dates.shown(when)

    return value


def _iso(at):
    return at.date("logical_date").isoformat()


def _previous_success(name):
    return lambda at: at.ti.previous_success(name)


# And those of a run that has a logical date.
_WITH_DATES = {
    **_WITHOUT_DATES,
    "logical_date": _shown("logical_date"), "execution_date": _shown("logical_date"),
    "ds": _day(0), "ds_nodash": _day(0, "%Y%m%d"), "ts": _iso, "ts_nodash": _day(0, "%Y%m%dT%H%M%S"),
    "ts_nodash_with_tz": lambda at: _iso(at).replace("-", "").replace(":", ""),
    "data_interval_start": _shown("data_interval_start"), "data_interval_end": _shown("data_interval_end"),
    "prev_data_interval_start_success": _previous_success("data_interval_start"),
    "prev_data_interval_end_success": _previous_success("data_interval_end"),
    "prev_execution_date_success": _previous_success("data_interval_start"),
    "tomorrow_ds": _day(1), "tomorrow_ds_nodash": _day(1, "%Y%m%d"),
    "yesterday_ds": _day(-1), "yesterday_ds_nodash": _day(-1, "%Y%m%d"),
    "next_execution_date": _neighbour("next_data_interval_start"),
    "prev_execution_date": _neighbour("prev_data_interval_start"),
    "next_ds": _neighbour("next_data_interval_start", "%Y-%m-%d"),
    "next_ds_nodash": _neighbour("next_data_interval_start", "%Y%m%d"),
    "prev_ds": _neighbour("prev_data_interval_start", "%Y-%m-%d"),
    "prev_ds_nodash": _neighbour("prev_data_interval_start", "%Y%m%d"),
}


def merged_params(dag, task, conf):
    """Return the parameters of a task: the DAG's, the task's over them, the run's conf over both; checked."""
    merged = ParamsDict(dag.params.deep() if dag is not None else {})
    for name, param in task.params.deep().items():
        merged[name] = param
    for name, value in (conf or {}).items():
        merged[name] = value
    return merged.validate()
