"""DAG: the object an author declares, and the @dag decorator."""

import datetime
import functools
import os
import sys

from . import context_stack, dates, settings, timetables
from .baseoperator import check_key, parameter_names
from .exceptions import (
    AirflowDagCycleException,
    AirflowException,
    DuplicateTaskIdFound,
    FailFastDagInvalidTriggerRule,
    TaskNotFound,
)
from .params import NOTSET, DagParam, Param, ParamsDict
from .taskgroup import TaskGroup

# Arguments of Airflow 2 with another name today.
_RENAMED = {"concurrency": "max_active_tasks", "fail_stop": "fail_fast"}
# Accepted, with the reason why nothing comes of them.
_WITHOUT_EFFECT = {
    "full_filepath": "the file is found by itself",
    "default_view": "views were removed in Airflow 3",
    "orientation": "the graph's direction is chosen in the UI",
    "sla_miss_callback": "SLAs were removed from Airflow 3; use deadline=",
    "access_control": "grants are kept by the server",
    "disable_bundle_versioning": "runs always use the version they started with",
    "rerun_with_latest_version": "a cleared run uses the version it started with",
}
_KNOWN = (
    "description schedule start_date end_date default_args template_searchpath template_undefined user_defined_macros "
    "user_defined_filters max_active_tasks max_active_runs max_consecutive_failed_dag_runs dagrun_timeout deadline "
    "catchup on_success_callback on_failure_callback doc_md params is_paused_upon_creation jinja_environment_kwargs "
    "render_template_as_native_obj tags owner_links auto_register fail_fast allowed_run_types dag_display_name "
    "schedule_interval timetable"
).split() + list(_RENAMED) + list(_WITHOUT_EFFECT)
# Positional arguments after dag_id in Airflow 2, in order.
_POSITIONAL = ("description", "schedule")


class DAG:
    """A directed acyclic graph of tasks with its schedule and limits. Use it as a context manager."""

    def __init__(self, dag_id, *positional, **given):
        given.update(_named(positional, given))
        for word in given:
            if word not in _KNOWN:
                raise TypeError("DAG(%r) got an unexpected argument %r%s"
                                % (dag_id, word, settings.nearest(word, _KNOWN)))
        for old, new in _RENAMED.items():
            if old in given:
                if new in given:
                    raise TypeError("DAG(%r): give %s or %s, not both" % (dag_id, old, new))
                given[new] = given.pop(old)
        check_key(dag_id, "dag_id")
        self.dag_id = dag_id
        for word, why in _WITHOUT_EFFECT.items():
            if given.get(word) is not None:
                settings.warn("%s= of DAG %r has no effect: %s" % (word, dag_id, why))
        self.callers = _callers()
        self.fileloc, self.lineno = self.callers[0] if self.callers else ("<unknown>", 0)
        self._set_plain(given)
        self._set_dates(given)
        self._set_schedule(given)
        self.task_dict, self.task_groups, self.edge_labels = {}, {}, {}
        self.task_group = TaskGroup.create_root(self)
        self.result_task = None
        self.partial = False

    def _set_plain(self, given):
        get = given.get
        self.description = get("description")
        self.default_args = dict(get("default_args") or {})
        self.params = ParamsDict(get("params"))
        inner = self.default_args.get("params")
        for name, value in (inner or {}).items():
            if name not in self.params:
                self.params[name] = value
        searchpath = get("template_searchpath")
        self.template_searchpath = [searchpath] if isinstance(searchpath, (str, os.PathLike)) else searchpath
        self.template_undefined = get("template_undefined")
        self.user_defined_macros, self.user_defined_filters = get("user_defined_macros"), get("user_defined_filters")
        self.jinja_environment_kwargs = get("jinja_environment_kwargs")
        self.render_template_as_native_obj = bool(get("render_template_as_native_obj", False))
        self.max_active_tasks, self.max_active_runs = get("max_active_tasks"), get("max_active_runs")
        self.max_consecutive_failed_dag_runs = get("max_consecutive_failed_dag_runs", 0)
        self.dagrun_timeout = get("dagrun_timeout")
        if self.dagrun_timeout is not None and not isinstance(self.dagrun_timeout, datetime.timedelta):
            raise TypeError("dagrun_timeout of DAG %r must be a timedelta, not %r" % (self.dag_id, self.dagrun_timeout))
        deadline = get("deadline")
        self.deadline = deadline if isinstance(deadline, (list, tuple)) or deadline is None else [deadline]
        self.catchup = bool(_first(get("catchup"), settings.default("catchup_by_default", settings.airflow2())))
        self.on_success_callback, self.on_failure_callback = get("on_success_callback"), get("on_failure_callback")
        self.doc_md = self._read_doc(get("doc_md"))
        self.is_paused_upon_creation = get("is_paused_upon_creation")
        self.tags = _tags(get("tags"), self.dag_id)
        self.owner_links = dict(get("owner_links") or {})
        self.auto_register = get("auto_register", True)
        self.fail_fast = bool(get("fail_fast", False))
        self.allowed_run_types = [str(getattr(one, "value", one)) for one in get("allowed_run_types") or ()]
        self.dag_display_name = get("dag_display_name") or self.dag_id
        self.access_control = get("access_control")
        self.compat = settings.compat

    def _set_dates(self, given):
        start, end = (_date(_first(given.get(word), self.default_args.get(word)), word, self.dag_id)
                      for word in ("start_date", "end_date"))
        self.timezone = (start.tzinfo if start is not None else None) or dates.utc
        self.start_date = start.replace(tzinfo=self.timezone) if start is not None and not start.tzinfo else start
        self.end_date = end.replace(tzinfo=self.timezone) if end is not None and not end.tzinfo else end

    def _set_schedule(self, given):
        words = [word for word in ("schedule", "schedule_interval", "timetable") if given.get(word, NOTSET) is not NOTSET]
        if len(words) > 1:
            raise ValueError("DAG(%r): give at most one of schedule, schedule_interval and timetable, not %s"
                             % (self.dag_id, " and ".join(words)))
        if words:
            schedule = given[words[0]]
        else:
            schedule = datetime.timedelta(days=1) if settings.airflow2() else None
        self.schedule = schedule
        self.timetable = timetables.resolve(schedule)
        limit = self.timetable.active_runs_limit
        if limit and self.max_active_runs and self.max_active_runs > limit:
            raise ValueError("DAG(%r): max_active_runs=%d is too much for %s, which allows %d"
                             % (self.dag_id, self.max_active_runs, self.timetable.summary, limit))
        if limit and not self.max_active_runs:
            self.max_active_runs = limit

    def _read_doc(self, doc):
        if isinstance(doc, str) and doc.endswith(".md") and "\n" not in doc:
            path = os.path.join(os.path.dirname(self.fileloc), doc)
            try:
                with open(path, encoding="utf-8") as file:
                    return file.read()
            except OSError:
                return doc
        return doc

    def __repr__(self):
        return "<DAG: %s>" % self.dag_id

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return hash(self.dag_id)

    def __lt__(self, other):
        return self.dag_id < other.dag_id

    def __enter__(self):
        context_stack.dags.append(self)
        context_stack.groups.append(self.task_group)
        if self.auto_register:
            context_stack.registered.append(self)
        return self

    def __exit__(self, *_):
        context_stack.dags.pop()
        context_stack.groups.pop()

    # ---- tasks ----

    def add_task(self, task):
        """Put a task in."""
        known = self.task_dict.get(task.task_id)
        if known is not None and known is not task:
            raise DuplicateTaskIdFound("task id %r has already been added to the DAG %r" % (task.task_id, self.dag_id))
        self.task_dict[task.task_id] = task
        if task.dag is None:
            task.dag = self

    def add_tasks(self, tasks):
        for task in tasks:
            self.add_task(task)

    @property
    def tasks(self):
        return list(self.task_dict.values())

    @property
    def task_ids(self):
        return list(self.task_dict)

    @property
    def roots(self):
        return [task for task in self.tasks if not task.upstream_task_ids]

    @property
    def leaves(self):
        return [task for task in self.tasks if not task.downstream_task_ids]

    def has_task(self, task_id):
        return task_id in self.task_dict

    def get_task(self, task_id, include_subdags=False):
        if task_id not in self.task_dict:
            raise TaskNotFound("DAG %r has no task %r%s"
                               % (self.dag_id, task_id, settings.nearest(task_id, self.task_dict)))
        return self.task_dict[task_id]

    def has_task_group(self, group_id):
        return group_id in self.task_groups

    def get_edge_info(self, upstream_task_id, downstream_task_id):
        label = self.edge_labels.get((upstream_task_id, downstream_task_id))
        return {"label": label} if label else {}

    def set_edge_info(self, upstream_task_id, downstream_task_id, info):
        self.edge_labels[(upstream_task_id, downstream_task_id)] = info.get("label", "")

    def set_dependency(self, upstream_task_id, downstream_task_id):
        self.get_task(upstream_task_id).set_downstream(self.get_task(downstream_task_id))

    def topological_sort(self):
        """Return the tasks so that each comes after those it waits for; raise naming the circle if there is one."""
        position = {name: number for number, name in enumerate(self.task_dict)}
        order, state = [], {}
        for root in self.task_dict:
            # A walk with its own stack, since a chain of tasks may be longer than Python's.
            path = [(root, None)]
            while path:
                name, waiting = path[-1]
                if waiting is None:
                    if state.get(name) == "done":
                        path.pop()
                        continue
                    state[name] = "open"
                    waiting = iter(sorted(self.task_dict[name].upstream_task_ids, key=position.__getitem__))
                    path[-1] = (name, waiting)
                above = next((one for one in waiting if state.get(one) != "done"), None)
                if above is None:
                    state[name] = "done"
                    order.append(self.task_dict[name])
                    path.pop()
                elif state.get(above) == "open":
                    self._refuse_circle([one for one, _ in path], above)
                else:
                    path.append((above, None))
        return order

    def _refuse_circle(self, path, again):
        """Raise, naming the circle in the direction of the arrows."""
        circle = [again] + path[path.index(again):][::-1]
        raise AirflowDagCycleException("the tasks of DAG %r depend on each other in a circle: %s"
                                       % (self.dag_id, " → ".join(circle)))

    def settle(self, path):
        """Take the file that was loaded as this DAG's own: a helper module that made it is not where its files are."""
        if self.fileloc != path:
            self.fileloc, self.lineno = path, next((line for file, line in self.callers if file == path), 0)

    @property
    def owner(self):
        return ", ".join(sorted({task.owner for task in self.tasks}))

    @property
    def folder(self):
        return os.path.dirname(self.fileloc)

    @property
    def filepath(self):
        return self.fileloc

    @property
    def relative_fileloc(self):
        return self.fileloc

    @property
    def schedule_interval(self):
        return self.schedule

    @property
    def concurrency(self):
        return self.max_active_tasks

    @property
    def task(self):
        """The decorator ``@task`` for this DAG: ``@dag.task`` or ``@dag.task(...)``."""
        from .decorators import task

        return functools.partial(task, dag=self)

    def param(self, name, default=NOTSET):
        """Refer to a parameter inside a DAG function."""
        return DagParam(self, name, default)

    def get_template_env(self, *, force_sandboxed=False):
        from .template import dag_environment

        return dag_environment(self)

    def validate(self):
        """Refuse what contradicts itself, with a sentence."""
        if self.fail_fast:
            for task in self.tasks:
                if str(task.trigger_rule) not in ("all_success", "all_done_setup_success"):
                    raise FailFastDagInvalidTriggerRule(
                        "DAG %r has fail_fast, so the trigger rule of every task must be all_success; %r has %s"
                        % (self.dag_id, task.task_id, task.trigger_rule))
        if self.timetable.can_be_scheduled:
            for name, param in self.params.items():
                if param.value is NOTSET or (param.value is None and "null" not in _types(param)):
                    raise AirflowException("DAG %r has a schedule, so the param %r must have a valid default"
                                           % (self.dag_id, name))
        self.topological_sort()

    def test(self, execution_date=None, run_conf=None, conn_file_path=None, variable_file_path=None,
             use_executor=False, mark_success_pattern=None, logical_date=None, run_after=None):
        """Run every task in this process, in order, and print what happens; returns the finished run."""
        from .dagtest import run_dag

        return run_dag(self, logical_date=_first(logical_date, execution_date), conf=run_conf,
                       connections_file=conn_file_path, variables_file=variable_file_path,
                       mark_success=mark_success_pattern)

    def cli(self):
        """Kept for files that end in ``dag.cli()``; use `ostro` on the command line."""


def _types(param):
    wanted = param.schema.get("type", "null")
    return [wanted] if isinstance(wanted, str) else wanted


def _first(*values):
    for value in values:
        if value is not None:
            return value
    return None


def _named(positional, given):
    if len(positional) > len(_POSITIONAL):
        raise TypeError("DAG() takes at most %d positional arguments (dag_id, %s)"
                        % (len(_POSITIONAL) + 1, ", ".join(_POSITIONAL)))
    named = dict(zip(_POSITIONAL, positional))
    for word in named:
        if word in given:
            raise TypeError("DAG() got multiple values for argument %r" % word)
    return named


def _date(when, word, dag_id):
    if when is None or isinstance(when, datetime.datetime):
        return when
    if isinstance(when, datetime.date):
        return datetime.datetime(when.year, when.month, when.day)
    if isinstance(when, str):
        try:
            return dates.parse(when)
        except ValueError as fault:
            raise ValueError("%s of DAG %r is not a date: %r (%s)" % (word, dag_id, when, fault)) from None
    raise TypeError("%s of DAG %r must be a datetime, not %r" % (word, dag_id, when))


def _tags(tags, dag_id):
    if isinstance(tags, str):
        raise TypeError("tags of DAG %r must be a list of text, not the text %r" % (dag_id, tags))
    for tag in tags or ():
        if len(tag) > 100:
            raise AirflowException("tag %r of DAG %r is longer than 100 characters" % (tag, dag_id))
    return set(tags or ())


def _callers():
    """Return the files and lines of the author that led to this DAG, the innermost first."""
    frame, out = sys._getframe(2), []
    while frame is not None:
        if not settings._ours(frame.f_code.co_filename):
            out.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return out


class _DagFactory:
    """What @dag makes of a function: call it to declare the DAG."""

    def __init__(self, function, dag_id, kwargs):
        self.function, self.dag_id, self.kwargs = function, dag_id, kwargs
        self.__name__, self.__doc__, self.__wrapped__ = function.__name__, function.__doc__, function
        self.__module__ = function.__module__

    def __call__(self, *args, **given):
        kwargs = dict(self.kwargs)
        if self.function.__doc__ and not kwargs.get("doc_md"):
            import textwrap

            kwargs["doc_md"] = textwrap.dedent(self.function.__doc__).strip()
        code = self.function.__code__
        dag = DAG(self.dag_id or self.function.__name__, **kwargs)
        dag.fileloc, dag.lineno = code.co_filename, code.co_firstlineno
        with dag:
            result = self.function(**_dag_params(dag, self.function, args, given))
        from .xcomarg import PlainXComArg

        if isinstance(result, PlainXComArg):
            dag.result_task = result.operator.task_id
        return dag


def _dag_params(dag, function, args, given):
    positional, keyword = parameter_names(function)
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ())))
    defaults.update(function.__kwdefaults__ or {})
    values = dict(zip(positional, args), **given)
    for word in values:
        if word not in positional + keyword:
            raise TypeError("%s() got an unexpected argument %r" % (function.__name__, word))
    out = {}
    for name in positional + keyword:
        value = values.get(name, defaults.get(name, NOTSET))
        if isinstance(value, Param):
            dag.params[name] = value
            out[name] = dag.param(name)
        else:
            out[name] = dag.param(name, value) if value is not NOTSET else dag.param(name)
            if value is NOTSET and name not in dag.params:
                dag.params[name] = Param()
    return out


def dag(dag_id="", *positional, **kwargs):
    """Make a DAG of a function: ``@dag``, ``@dag()`` or ``@dag(dag_id="…", schedule=…)``."""
    if callable(dag_id):
        return _DagFactory(dag_id, "", {})
    kwargs.update(_named(positional, kwargs))
    return lambda function: _DagFactory(function, dag_id, kwargs)
