"""BaseOperator: one task of a DAG, with every argument Airflow's has, in both of its spellings."""

import datetime
from abc import ABCMeta

from . import context_stack, dates, settings
from .exceptions import AirflowException, DuplicateTaskIdFound, TaskDeferred
from .graph import DependencyMixin, SetupTeardownScope
from .params import ParamsDict
from .rules import check_trigger_rule, check_weight_rule

# Arguments of Airflow 2 under their names of today.
RENAMED = {"task_concurrency": "max_active_tis_per_dag", "xcom_push": "do_xcom_push"}


def parameter_names(function):
    """Return the positional and the keyword parameter names of a Python function, without importing inspect."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:
        return (), ()
    positional = code.co_varnames[:code.co_argcount]
    return positional, code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]


def _filled_from_defaults(cls, init):
    """Wrap one class's __init__ so that arguments left out come from the merged default_args."""
    positional, keyword = parameter_names(init)
    names = [name for name in positional[1:] + keyword if name not in ("self", "dag", "default_args", "task_group")]

    def __init__(self, *args, **kwargs):
        merged = self.__dict__.get("_merged_default_args")
        if merged:
            given = positional[1:1 + len(args)]
            for name in names:
                if name in merged and name not in kwargs and name not in given:
                    kwargs[name] = merged[name]
        return init(self, *args, **kwargs)

    __init__.__wrapped__ = init
    __init__.__name__, __init__.__qualname__, __init__.__doc__ = "__init__", init.__qualname__, init.__doc__
    return __init__


class BaseOperatorMeta(ABCMeta):
    """Merges default_args before a constructor runs and wires XComArg dependencies after it."""

    def __new__(mcs, name, bases, namespace, **kwargs):
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        if "__init__" in namespace:
            cls.__init__ = _filled_from_defaults(cls, namespace["__init__"])
        return cls

    def __call__(cls, *args, **kwargs):
        task = cls.__new__(cls)
        dag = kwargs.get("dag") or context_stack.current_dag()
        group = kwargs.get("task_group") or context_stack.current_group(dag)
        if dag is None and group is not None:
            dag = group.dag
        task.__dict__["_merged_default_args"] = merge_defaults(dag, group, kwargs.get("default_args"))
        cls._fill_renamed(task.__dict__["_merged_default_args"], kwargs)
        try:
            task.__init__(*args, **kwargs)
        except TypeError as fault:
            raise _friendlier(cls, kwargs, fault) from None
        task._made = True
        if not context_stack.unmapping:
            task._wire_xcomargs()
        return task

    def _fill_renamed(cls, merged, kwargs):
        for old, new in RENAMED.items():
            if old in merged and new not in merged:
                merged[new] = merged[old]


def merge_defaults(dag, group, own):
    """Merge default_args from the outside in: DAG, groups from the outermost, the task's own."""
    merged = {}
    if dag is not None:
        merged.update(dag.default_args)
    chain = []
    while group is not None:
        chain.append(group)
        group = group.parent_group
    for one in reversed(chain):
        merged.update(one.default_args or {})
    merged.update(own or {})
    merged.pop("params", None)
    return merged


def _friendlier(cls, kwargs, fault):
    text = str(fault)
    unknown = [word for word in kwargs if word not in all_arguments(cls)]
    if unknown and ("unexpected keyword argument" in text or "required" in text):
        word = unknown[0]
        return TypeError("%s(%s) got an unexpected argument %r%s" % (
            cls.__name__, "task_id=%r" % kwargs["task_id"] if "task_id" in kwargs else "", word,
            settings.nearest(word, all_arguments(cls))))
    if "missing" in text and "required" in text:
        return TypeError("%s: %s" % (cls.__name__, text.split("() ", 1)[-1]))
    return fault


def all_arguments(cls):
    """Return every keyword the class and its bases accept."""
    names = set()
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and base is not object:
            positional, keyword = parameter_names(init)
            names.update(positional[1:] + keyword)
    return names | set(RENAMED)


def seconds_or_delta(value, name, task_id):
    """Accept a timedelta or a number of seconds; None stays None."""
    if value is None or isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.timedelta(seconds=value)
    raise TypeError("%s of task %r must be a timedelta or a number of seconds, not %r" % (name, task_id, value))


def check_key(text, what="task_id", limit=250):
    """Refuse an id that Airflow refuses: other than letters, digits, dashes, dots and underscores, or too long."""
    if not isinstance(text, str):
        raise TypeError("the %s must be text, not %r" % (what, text))
    if len(text) > limit:
        raise AirflowException("the %s %r is longer than %d characters" % (what, text, limit))
    if not text or not all(ch.isalnum() or ch in "_-." for ch in text):
        raise AirflowException("the %s %r has to be made of letters, digits, dashes, dots and underscores only"
                               % (what, text))


class BaseOperator(DependencyMixin, metaclass=BaseOperatorMeta):
    """A task. Subclasses implement ``execute(context)``; what it returns is pushed as the XCom ``return_value``."""

    template_fields = ()
    template_ext = ()
    template_fields_renderers = {}
    operator_extra_links = ()
    ui_color = "#fff"
    ui_fgcolor = "#000"
    shallow_copy_attrs = ()
    supports_lineage = False
    custom_operator_name = None
    start_trigger_args = None
    start_from_trigger = False
    is_mapped = False
    # Where Airflow users find the class; used for display only.
    shown_module = None
    # Standard modules that execute() needs; imported once beside the DAG file rather than in every task.
    runtime_modules = ()
    # "process" runs user code; "empty" needs no process.
    work_kind = "process"

    def __init__(self, *, task_id, owner=None, email=None, email_on_retry=True, email_on_failure=True, retries=None,
                 retry_delay=None, retry_exponential_backoff=0, max_retry_delay=None, start_date=None, end_date=None,
                 depends_on_past=False, ignore_first_depends_on_past=False,
                 wait_for_past_depends_before_skipping=False, wait_for_downstream=False, dag=None, params=None,
                 default_args=None, priority_weight=1, weight_rule="downstream", queue="default", pool="default_pool",
                 pool_slots=1, sla=None, execution_timeout=None, on_execute_callback=None, on_failure_callback=None,
                 on_success_callback=None, on_retry_callback=None, on_skipped_callback=None, pre_execute=None,
                 post_execute=None, trigger_rule="all_success", resources=None, run_as_user=None,
                 map_index_template=None, max_active_tis_per_dag=None, max_active_tis_per_dagrun=None, executor=None,
                 executor_config=None, do_xcom_push=True, multiple_outputs=False, inlets=None, outlets=None,
                 task_group=None, doc=None, doc_md=None, doc_json=None, doc_yaml=None, doc_rst=None,
                 task_display_name=None, logger_name=None, allow_nested_operators=True,
                 render_template_as_native_obj=None, retry_policy=None, **kwargs):
        max_active_tis_per_dag = kwargs.pop("task_concurrency", max_active_tis_per_dag)
        do_xcom_push = kwargs.pop("xcom_push", do_xcom_push)
        kwargs.pop("provide_context", None)  # Airflow 1's way to ask for what everyone gets
        if kwargs:
            word = next(iter(kwargs))
            raise TypeError("%s(task_id=%r) got an unexpected argument %r%s" % (
                type(self).__name__, task_id, word, settings.nearest(word, all_arguments(type(self)))))
        self._place(task_id, dag, task_group)
        dag_id = self.dag.dag_id if self.dag is not None else None
        if sla is not None:
            settings.warn_of_task("sla", "sla= of %s has no effect: SLAs were removed from Airflow 3", self.task_id, dag_id)
        if retry_policy is not None:
            _check_policy(retry_policy, self.task_id, dag_id)
        if email and (email_on_failure or email_on_retry):
            settings.warn_once(("email", dag_id), "email= of DAG %r, task %r, has no effect, nor have others of this DAG: no "
                               "mail is sent; use a callback or a notifier" % (dag_id, self.task_id))
        self.owner = owner or settings.default("owner", "airflow")
        self.email, self.email_on_retry, self.email_on_failure = email, email_on_retry, email_on_failure
        self.start_date, self.end_date = _aware(start_date, self.dag), _aware(end_date, self.dag)
        self.retries = _retries(settings.default("default_retries", 0) if retries is None else retries, self.task_id)
        self.retry_delay = (settings.retry_delay() if retry_delay is None
                            else seconds_or_delta(retry_delay, "retry_delay", self.task_id))
        self.retry_exponential_backoff = retry_exponential_backoff
        self.max_retry_delay = seconds_or_delta(max_retry_delay, "max_retry_delay", self.task_id)
        self.depends_on_past = depends_on_past or wait_for_downstream
        self.ignore_first_depends_on_past = ignore_first_depends_on_past
        self.wait_for_past_depends_before_skipping = wait_for_past_depends_before_skipping
        self.wait_for_downstream = wait_for_downstream
        self.params = ParamsDict(params)
        self.priority_weight = priority_weight
        self.weight_rule = check_weight_rule(weight_rule)
        self.queue, self.pool, self.pool_slots = queue, pool, pool_slots
        if not isinstance(pool_slots, int) or pool_slots < 1:
            raise ValueError("pool_slots of task %r must be a whole number, 1 or more, not %r"
                             % (self.task_id, pool_slots))
        if execution_timeout is not None and not isinstance(execution_timeout, datetime.timedelta):
            raise ValueError("execution_timeout of task %r must be a timedelta, not %r"
                             % (self.task_id, execution_timeout))
        self.execution_timeout = execution_timeout
        self.on_execute_callback, self.on_failure_callback = on_execute_callback, on_failure_callback
        self.on_success_callback, self.on_retry_callback = on_success_callback, on_retry_callback
        self.on_skipped_callback = on_skipped_callback
        self._pre_execute_hook, self._post_execute_hook = pre_execute, post_execute
        self.trigger_rule = check_trigger_rule(trigger_rule)
        self.resources, self.run_as_user = resources, run_as_user
        self.map_index_template = map_index_template
        self.max_active_tis_per_dag = max_active_tis_per_dag
        self.max_active_tis_per_dagrun = max_active_tis_per_dagrun
        self.executor, self.executor_config = executor, executor_config or {}
        if resources or executor_config:
            _check_resources(resources, executor_config, self.task_id)
        self.do_xcom_push, self.multiple_outputs = do_xcom_push, multiple_outputs
        self.inlets, self.outlets = _as_list(inlets), _as_list(outlets)
        self.doc, self.doc_md, self.doc_json, self.doc_yaml, self.doc_rst = doc, doc_md, doc_json, doc_yaml, doc_rst
        self._task_display_name, self._logger_name = task_display_name, logger_name
        self.render_template_as_native_obj = render_template_as_native_obj
        self.retry_policy = retry_policy
        if run_as_user:
            settings.warn_of_task("run_as_user", "run_as_user= of %s has no effect: tasks run as the worker's user",
                                  self.task_id, dag_id)
        if self.dag is not None:
            self.dag.add_task(self)

    def _place(self, task_id, dag, task_group):
        """Find the DAG and the group this task is in, and its full id."""
        check_key(task_id)
        dag = dag or (task_group.dag if task_group is not None else None) or context_stack.current_dag()
        group = task_group or context_stack.current_group(dag)
        self.__dict__["_dag"] = None
        self.label = task_id
        self.task_id = group.child_id(task_id) if group is not None else task_id
        check_key(self.task_id)
        self.task_group = group
        self.upstream_task_ids, self.downstream_task_ids = set(), set()
        self.is_setup = self.is_teardown = self.on_failure_fail_dagrun = False
        if dag is not None and self.task_id in dag.task_dict:
            raise DuplicateTaskIdFound("task id %r has already been added to the DAG %r" % (self.task_id, dag.dag_id))
        self.__dict__["_dag"] = dag
        if group is not None:
            group.add(self)
        for scope in context_stack.scopes:
            scope.inside.append(self)

    # ---- identity ----

    def __repr__(self):
        return "<Task(%s): %s>" % (self.task_type, self.task_id)

    def __eq__(self, other):
        return self is other or (isinstance(other, BaseOperator) and self.task_id == other.task_id
                                 and type(self) is type(other) and self._dag is other._dag)

    def __hash__(self):
        return hash((type(self), self.__dict__.get("task_id")))

    def __lt__(self, other):
        return self.task_id < other.task_id

    @property
    def task_type(self):
        return type(self).__name__

    @property
    def operator_class(self):
        return type(self)

    @property
    def operator_name(self):
        return self.custom_operator_name or self.task_type

    @property
    def task_display_name(self):
        return self._task_display_name or self.task_id

    @property
    def node_id(self):
        return self.task_id

    @property
    def dag(self):
        return self.__dict__.get("_dag")

    @dag.setter
    def dag(self, dag):
        if self.dag is not None and self.dag is not dag:
            raise AirflowException("the DAG of task %r cannot be changed" % self.task_id)
        self.__dict__["_dag"] = dag
        if self.task_group is None:
            self.task_group = dag.task_group
            dag.task_group.add(self)
        dag.add_task(self)

    @property
    def dag_id(self):
        return self.dag.dag_id if self.dag is not None else "adhoc_" + self.owner

    def has_dag(self):
        return self.dag is not None

    def get_dag(self):
        return self.dag

    @property
    def log(self):
        import logging

        return logging.getLogger(self._logger_name and "airflow.task.operators." + self._logger_name
                                 or "airflow.task.operators.%s.%s" % (type(self).__module__, type(self).__qualname__))

    def _tell(self, text, *args):
        """Log what the task's author should see, whatever the task's own code has made of logging."""
        from .tasklog import tell

        tell(self.log, text, *args)

    @property
    def logger_name(self):
        return self._logger_name

    # ---- relations ----

    @property
    def roots(self):
        return [self]

    @property
    def leaves(self):
        return [self]

    @property
    def upstream_list(self):
        return [self.dag.task_dict[name] for name in sorted(self.upstream_task_ids)] if self.dag else []

    @property
    def downstream_list(self):
        return [self.dag.task_dict[name] for name in sorted(self.downstream_task_ids)] if self.dag else []

    def get_direct_relative_ids(self, upstream=False):
        return self.upstream_task_ids if upstream else self.downstream_task_ids

    def get_direct_relatives(self, upstream=False):
        return self.upstream_list if upstream else self.downstream_list

    def get_flat_relative_ids(self, *, upstream=False):
        """Return the ids of everything above or below, at any distance."""
        found, todo = set(), list(self.get_direct_relative_ids(upstream))
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.dag.task_dict[name].get_direct_relative_ids(upstream)
        return found

    def get_flat_relatives(self, upstream=False):
        return [self.dag.task_dict[name] for name in sorted(self.get_flat_relative_ids(upstream=upstream))]

    @property
    def output(self):
        """What this task returns, to hand to other tasks."""
        from .xcomarg import XComArg

        return XComArg(self)

    def get_closest_mapped_task_group(self):
        group = self.task_group
        while group is not None:
            if group.mapping is not None:
                return group
            group = group.parent_group
        return None

    def iter_mapped_task_groups(self):
        group = self.task_group
        while group is not None:
            if group.mapping is not None:
                yield group
            group = group.parent_group

    def _become_teardown(self, setups, on_failure_fail_dagrun):
        self.is_teardown = True
        if on_failure_fail_dagrun is not None:
            self.on_failure_fail_dagrun = on_failure_fail_dagrun
        if self.trigger_rule == "all_success":
            self.trigger_rule = check_trigger_rule("all_done_setup_success")
        if setups is not None:
            from .graph import flatten

            for node in flatten(setups):
                for task in node.leaves:
                    task.is_setup = True
                    task.set_downstream(self)

    def __enter__(self):
        if not (self.is_setup or self.is_teardown):
            raise AirflowException("only setup and teardown tasks can be used as context managers, %r is neither"
                                   % self.task_id)
        self.__dict__["_scope"] = SetupTeardownScope([self])
        return self._scope.__enter__()

    def __exit__(self, *exc):
        self._scope.__exit__(*exc)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name in type(self).template_fields and self.__dict__.get("_made"):
            self._wire_xcomargs((name,))

    def _wire_xcomargs(self, names=None):
        """Make this task wait for the tasks whose results its templated arguments refer to."""
        from .xcomarg import find_references

        for name in type(self).template_fields if names is None else names:
            value = self.__dict__.get(name)
            if value is None or isinstance(value, (str, int, float, bool)):
                continue
            for task in find_references(value):
                if task is not self and task.task_id not in self.upstream_task_ids:
                    self.set_upstream(task)

    # ---- running ----

    def prepare_for_execution(self):
        """Return a copy that rendering may change."""
        task = type(self).__new__(type(self))
        task.__dict__.update(self.__dict__, _made=False)
        return task

    def pre_execute(self, context):
        """Runs before execute."""

    def execute(self, context):
        """Do the work; what is returned is pushed as an XCom."""
        raise NotImplementedError("%s has no execute method" % type(self).__name__)

    def post_execute(self, context, result=None):
        """Runs after execute, with what it returned."""

    def on_kill(self):
        """Runs when the task is asked to end or has timed out: stop what was started."""

    def defer(self, *, trigger, method_name, kwargs=None, timeout=None):
        """End this attempt until ``trigger`` fires."""
        raise TaskDeferred(trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=timeout)

    def resume_execution(self, next_method, next_kwargs, context):
        """Go on after a deferral."""
        from .exceptions import TaskDeferralError, TaskDeferralTimeout

        kwargs = dict(next_kwargs or {})
        if next_method == "__fail__":
            if kwargs.get("error") == "Trigger timeout":
                raise TaskDeferralTimeout("Trigger timeout: what the task waited for did not come in time")
            if kwargs.get("traceback"):
                self.log.error("Trigger failed:\n%s", kwargs["traceback"])
            raise TaskDeferralError(kwargs.get("error", "the trigger failed"))
        return getattr(self, next_method)(context, **kwargs)

    def dry_run(self):
        for name in self.template_fields:
            self.log.info("Rendering template for %s: %s", name, getattr(self, name, None))

    # ---- templates ----

    def prepare_template(self):
        """Runs after files named by templated fields were read; may change those fields."""

    def get_template_env(self, dag=None):
        from .template import environment

        return environment(self, dag or self.dag)

    def render_template_fields(self, context, jinja_env=None):
        """Replace every templated argument by its rendered value."""
        from .template import Renderer

        Renderer(self, context, jinja_env).render_fields(self)

    def render_template(self, content, context, jinja_env=None, seen_oids=None):
        """Return ``content`` with every template in it rendered, at any depth."""
        from .template import Renderer

        return Renderer(self, context, jinja_env).render(content, "render_template")

    # ---- mapping ----

    @classmethod
    def partial(cls, *, task_id, dag=None, task_group=None, **kwargs):
        """Give the arguments that are the same for every instance; ``.expand`` gives those that differ."""
        from .mapping import OperatorPartial

        return OperatorPartial(cls, dict(kwargs, task_id=task_id), dag, task_group)

    def unmap(self, resolve=None):
        return self

    def expand_start_from_trigger(self, *, context):
        return self.start_from_trigger


def _aware(when, dag):
    if when is None:
        return None
    if isinstance(when, str):
        return dates.parse(when)
    if isinstance(when, datetime.date) and not isinstance(when, datetime.datetime):
        when = datetime.datetime(when.year, when.month, when.day)
    if when.tzinfo is None:
        return when.replace(tzinfo=dag.timezone if dag is not None else dates.utc)
    return when


def _retries(value, task_id):
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise AirflowException("retries of task %r must be a whole number, not %r" % (task_id, value))
    try:
        return int(value)
    except ValueError:
        raise AirflowException("retries of task %r must be a whole number, not %r" % (task_id, value)) from None


def _check_resources(resources, executor_config, task_id):
    """Refuse what a task cannot ask of its machine, in the line that says it."""
    from .quantity import parse_task
    from .serialize import task_resources

    parse_task(task_resources(resources, executor_config), task_id)


def _check_policy(policy, task_id, dag_id):
    if not callable(getattr(policy, "evaluate", None)):
        raise TypeError("retry_policy of task %r must be a RetryPolicy, not %r" % (task_id, policy))
    if any(getattr(rule, "retry_delay", None) is not None for rule in getattr(policy, "rules", ())):
        settings.warn_of_task("retry_policy", "retry_policy= of %s: the delays of its rules are not kept, retry_delay= is",
                              task_id, dag_id)


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


class BaseOperatorLink:
    """A link an operator shows beside its task."""

    operators = []

    @property
    def name(self):
        return type(self).__name__

    def get_link(self, operator, *, ti_key):
        raise NotImplementedError
