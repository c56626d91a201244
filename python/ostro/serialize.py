"""Turns a DAG into the JSON the control plane stores; the field names are those of the Go package internal/core/dag."""

import datetime
import os

from . import dates
from .params import NOTSET, Param
from .xcomarg import Reference


def describe(dag):
    """Return ``dag`` as a dict with exactly the fields of the wire format; zero values are left out."""
    known = dag.__dict__.get("_described")
    if known is not None:
        return known
    dag.validate()
    out = {
        "dag_id": dag.dag_id,
        "dag_display_name": dag.dag_display_name if dag.dag_display_name != dag.dag_id else None,
        "description": dag.description,
        "doc_md": dag.doc_md,
        "file": _relative(dag),
        "compat": dag.compat,
        "schedule": _clean(dag.timetable.wire()),
        "start_date": dates.wire(dag.start_date),
        "end_date": dates.wire(dag.end_date),
        "timezone": dates.zone_name(dag.timezone),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "max_active_tasks": dag.max_active_tasks,
        "max_consecutive_failed_dag_runs": dag.max_consecutive_failed_dag_runs,
        "dagrun_timeout": _seconds(dag.dagrun_timeout),
        "fail_fast": dag.fail_fast,
        "tags": sorted(dag.tags),
        "owner_links": dag.owner_links,
        "params": _params(dag.params),
        "allowed_run_types": dag.allowed_run_types,
        "render_template_as_native_obj": dag.render_template_as_native_obj,
        "has_on_success_callback": bool(dag.on_success_callback),
        "has_on_failure_callback": bool(dag.on_failure_callback),
        "deadline": [_deadline(one) for one in dag.deadline or ()],
        "access_control": shown(dag.access_control) if dag.access_control else None,
        "result_task": dag.result_task,
    }
    out = _clean(out)
    if dag.is_paused_upon_creation is not None:
        out["is_paused_upon_creation"] = bool(dag.is_paused_upon_creation)
    out["tasks"] = [_task(task, dag) for task in dag.tasks]
    groups = [_group(group) for group in dag.task_groups.values()]
    if groups:
        out["task_groups"] = groups
    labels = [{"from": pair[0], "to": pair[1], "label": label} for pair, label in sorted(dag.edge_labels.items())]
    if labels:
        out["edge_labels"] = labels
    return out


def _relative(dag):
    root = getattr(dag, "bundle_path", None)
    path = dag.fileloc
    if root and os.path.realpath(path).startswith(os.path.realpath(root) + os.sep):
        path = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    return path.replace(os.sep, "/")


def _clean(fields):
    return {name: value for name, value in fields.items()
            if not (value is None or value is False or (value == 0 and not isinstance(value, bool))
                    or value == "" or value == [] or value == {})}


def _seconds(delta):
    if delta is None:
        return None
    return number(delta.total_seconds() if isinstance(delta, datetime.timedelta) else float(delta))


def number(value):
    """Write whole floats as integers, so that the JSON does not depend on how a number was made."""
    return int(value) if float(value).is_integer() else value


def _params(params):
    out = {}
    for name, param in params.items():
        entry = _clean({"description": param.description, "source": param.source, "schema": shown(param.schema)})
        if param.value is not NOTSET:
            entry["value"] = shown(param.value)
        out[name] = entry
    return out


def _deadline(one):
    return one.wire() if hasattr(one, "wire") else {"description": shown(one)}


def looks(cls):
    """Return what the UI needs to know of an operator class."""
    return {"template_fields": list(cls.template_fields), "ui_color": cls.ui_color, "ui_fgcolor": cls.ui_fgcolor}


def _task(task, dag):
    cls = task.operator_class
    groupless = task.task_group is None or task.task_group.is_root
    setups = sorted(up.task_id for up in task.upstream_list if up.is_setup) if task.is_teardown else []
    later = task.start_date if task.start_date and (not dag.start_date or task.start_date > dag.start_date) else None
    sooner = task.end_date if task.end_date and (not dag.end_date or task.end_date < dag.end_date) else None
    out = _clean({
        "task_display_name": task.task_display_name if task.task_display_name != task.task_id else None,
        "label": task.label,
        "group": None if groupless else task.task_group.group_id,
        "operator_name": task.operator_name,
        "module": cls.shown_module or cls.__module__,
        "upstream": sorted(task.upstream_task_ids),
        "owner": task.owner,
        "retries": task.retries,
        "retry_exponential_backoff": _factor(task.retry_exponential_backoff),
        "max_retry_delay": _seconds(task.max_retry_delay),
        "execution_timeout": _seconds(task.execution_timeout),
        "depends_on_past": bool(task.depends_on_past),
        "ignore_first_depends_on_past": bool(task.ignore_first_depends_on_past),
        "wait_for_downstream": bool(task.wait_for_downstream),
        "wait_for_past_depends_before_skipping": bool(task.wait_for_past_depends_before_skipping),
        "weight_rule": str(task.weight_rule) if str(task.weight_rule) != "downstream" else None,
        "queue": task.queue if task.queue != "default" else None,
        "pool": task.pool if task.pool != "default_pool" else None,
        "pool_slots": task.pool_slots if task.pool_slots != 1 else None,
        "executor": task.executor,
        "executor_config": shown(task.executor_config) if task.executor_config else None,
        "max_active_tis_per_dag": task.max_active_tis_per_dag,
        "max_active_tis_per_dagrun": task.max_active_tis_per_dagrun,
        "start_date": dates.wire(later),
        "end_date": dates.wire(sooner),
        "do_xcom_push": bool(task.do_xcom_push),
        "multiple_outputs": bool(task.multiple_outputs),
        "is_setup": task.is_setup,
        "is_teardown": task.is_teardown,
        "setups": setups,
        "on_failure_fail_dagrun": task.on_failure_fail_dagrun,
        "callbacks": _clean({name.replace("_callback", ""): bool(getattr(task, name)) for name in CALLBACKS}),
        "inlets": [asset for asset in map(_asset, task.inlets) if asset],
        "outlets": [asset for asset in map(_asset, task.outlets) if asset],
        "mapped": task.mapping.wire() if task.is_mapped else None,
        "map_index_template": task.map_index_template,
        "resources": _clean(resources(task)),
        "isolation": (task.executor_config or {}).get("isolation") if isinstance(task.executor_config, dict) else None,
        "params": _params(task.params),
        "doc_md": _doc(task),
        "template_fields": list(cls.template_fields),
        "fields": fields(task),
        "ui_color": cls.ui_color,
        "ui_fgcolor": cls.ui_fgcolor,
    })
    if task.trigger_rule and str(task.trigger_rule) != "all_success":
        out["trigger_rule"] = str(task.trigger_rule)
    if task.priority_weight != 1:
        out["priority_weight"] = int(task.priority_weight)
    kind = _kind(task, cls)
    if kind != "process":
        out["kind"] = kind
    return dict({"task_id": task.task_id, "operator": task.task_type, "retry_delay": _seconds(task.retry_delay) or 0},
                **out)


CALLBACKS = ("on_execute_callback", "on_failure_callback", "on_success_callback", "on_retry_callback",
             "on_skipped_callback")


def _kind(task, cls):
    """An empty operator needs no process unless something of the author's has to run with it."""
    if cls.work_kind != "empty":
        return cls.work_kind
    from .baseoperator import BaseOperator

    plain = (not any(getattr(task, name) for name in CALLBACKS) and not task.outlets
             and not task._pre_execute_hook and not task._post_execute_hook
             and all(getattr(cls, name) is getattr(BaseOperator, name) for name in ("pre_execute", "post_execute"))
             and getattr(cls.execute, "empty", False))
    return "empty" if plain else "process"


def _factor(value):
    if value is True:
        return 2
    return number(value or 0)


def _doc(task):
    return task.doc_md or task.doc_rst or task.doc_yaml or task.doc_json or task.doc


def _asset(asset):
    if hasattr(asset, "declared"):
        return asset.declared()
    return asset.wire() if hasattr(asset, "wire") else None


def resources(task):
    """Return what a task asks of its machine: cores, bytes, GPUs."""
    if hasattr(task, "requested_resources"):
        return task.requested_resources()
    if task.is_mapped and hasattr(task.mapped_class, "resources_of"):
        return task.mapped_class.resources_of(task.partial_kwargs)
    given = task_resources(task.resources, task.executor_config)
    if given:
        from .quantity import parse_task

        return parse_task(given, task.task_id)
    return {}


def task_resources(resources, executor_config):
    """Return resources= of a task, or what its executor_config holds under that name; Airflow lets anything stand there."""
    if not resources and isinstance(executor_config, dict):
        return executor_config.get("resources")
    return resources


def fields(task, trim=lambda value: value):
    """Return every templated argument as it was written; of large data, what ``trim`` leaves."""
    if task.is_mapped:
        source = task.partial_kwargs
    else:
        source = task.__dict__
    out = {}
    for name in task.operator_class.template_fields:
        value = source.get(name)
        if value is not None and value != [] and value != () and value != {}:
            out[name] = shown(trim(value))
    extra = getattr(task.operator_class, "shown_fields", ())
    for name in extra:
        value = source.get(name)
        if value is not None:
            out[name] = shown(value)
    return out


def _group(group):
    parent = group.parent_group
    return _clean({
        "group_id": group.group_id,
        "group_display_name": group._display_name,
        "parent": None if parent.is_root else parent.group_id,
        "tooltip": group.tooltip,
        "prefix_off": not group.prefix_group_id,
        "mapped": group.mapping.wire() if group.mapping else None,
        "ui_color": group.ui_color if group.ui_color != "CornflowerBlue" else None,
        "ui_fgcolor": group.ui_fgcolor if group.ui_fgcolor != "#000" else None,
    })


def shown(value, depth=0):
    """Return any value as JSON for people: the same text for the same code, so nothing with an address in it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value if not isinstance(value, str) or type(value) is str else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if depth > 20:
        return "…"
    if isinstance(value, Reference):
        return str(value) if hasattr(value, "operator") and value.operator is not None else repr(value)
    if isinstance(value, Param):
        return shown(value.value, depth + 1)
    if value is NOTSET:
        return None
    if isinstance(value, dict):
        return {str(key): shown(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((shown(item, depth + 1) for item in value), key=str)
    if isinstance(value, datetime.datetime):
        return dates.wire(value)
    if isinstance(value, (datetime.date, datetime.timedelta)):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return "<callable %s>" % value.__qualname__
    if hasattr(value, "to_dict"):
        try:
            return shown(_given(value.to_dict()), depth + 1)
        except Exception:
            pass
    import re

    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _given(value):
    """Leave out what is None, at any depth: a Kubernetes object lists every field there could be."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value
