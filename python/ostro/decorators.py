"""@task and its family: functions that become tasks."""

from . import context_stack
from .baseoperator import BaseOperator, all_arguments
from .callables import Parameters, call_with_context, returns_mapping
from .exceptions import AirflowException, AirflowSkipException
from .mapping import ExpandInput, ExpandKwargsInput, MappedOperator, OperatorPartial
from .operators.python import _SUPPORTED, _VENV, BranchPythonOperator, PythonOperator, ShortCircuitOperator, _Unbuilt
from .settings import nearest
from .xcomarg import XComArg

_SHOWN = "airflow.providers.standard.decorators."


def unique_task_id(task_id, dag, group):
    """Return ``task_id`` or, where it is taken, ``task_id__1``, ``__2``, …"""
    if dag is None:
        return task_id
    if (group.child_id(task_id) if group is not None else task_id) not in dag.task_dict:
        return task_id
    base = task_id
    head, mark, tail = task_id.rpartition("__")
    if mark and tail.isdigit():
        base = head
    number = 1
    while (group.child_id("%s__%d" % (base, number)) if group is not None else "%s__%d" % (base, number)) in \
            dag.task_dict:
        number += 1
    return "%s__%d" % (base, number)


class DecoratedOperator(PythonOperator):
    """A task made of a function by a decorator."""

    template_fields = ("templates_dict", "op_args", "op_kwargs")
    custom_operator_name = "@task"
    shown_module = _SHOWN + "python"

    def __init__(self, *, python_callable, task_id=None, multiple_outputs=None, **kwargs):
        if multiple_outputs is None:
            multiple_outputs = returns_mapping(python_callable)
        super().__init__(python_callable=python_callable, task_id=task_id or python_callable.__name__,
                         multiple_outputs=multiple_outputs, **kwargs)


class _PythonDecoratedOperator(DecoratedOperator):
    """@task"""


class _BranchPythonDecoratedOperator(DecoratedOperator, BranchPythonOperator):
    """@task.branch"""

    custom_operator_name = "@task.branch"
    shown_module = _SHOWN + "branch_python"


class _ShortCircuitDecoratedOperator(DecoratedOperator, ShortCircuitOperator):
    """@task.short_circuit"""

    custom_operator_name = "@task.short_circuit"
    shown_module = _SHOWN + "short_circuit"


class _BashDecoratedOperator(DecoratedOperator):
    """@task.bash: the function returns the command."""

    template_fields = ("bash_command", "env", "cwd", "op_args", "op_kwargs", "templates_dict")
    template_ext = (".sh", ".bash")
    custom_operator_name = "@task.bash"
    runtime_modules = ("ostro.operators.bash", "subprocess", "shutil", "tempfile", "threading")
    shown_module = _SHOWN + "bash"

    def __init__(self, *, python_callable, env=None, append_env=False, output_encoding="utf-8", skip_on_exit_code=99,
                 cwd=None, output_processor=None, multiple_outputs=None, **kwargs):
        # The annotation is the command's; what the command prints becomes several values only if the author says so.
        super().__init__(python_callable=python_callable, multiple_outputs=bool(multiple_outputs), **kwargs)
        self.bash_command = None
        self.env, self.cwd = env, cwd
        self._bash = {"append_env": append_env, "output_encoding": output_encoding,
                      "skip_on_exit_code": skip_on_exit_code, "output_processor": output_processor}
        self._inner = None

    def execute(self, context):
        from .operators.bash import BashOperator

        command = self.call(context)
        if not isinstance(command, str) or not command.strip():
            raise TypeError("the returned value from the @task.bash function %r must be a non-empty text, not %r"
                            % (self.python_callable.__name__, command))
        saved = context_stack.dags[:], context_stack.groups[:]
        context_stack.dags[:], context_stack.groups[:] = [], []
        try:
            self._inner = BashOperator(task_id="bash", bash_command=self.render_template(command, context),
                                       env=self.env, cwd=self.cwd, **self._bash)
        finally:
            context_stack.dags[:], context_stack.groups[:] = saved
        self.bash_command = self._inner.bash_command
        context["ti"].send_rendered_fields(self)
        return self._inner.execute(context)

    def on_kill(self):
        if self._inner is not None:
            self._inner.on_kill()


class _SensorDecoratedOperator(BaseOperator):
    """Made lazily: see _sensor_class."""


def _sensor_class():
    from .sensors import DecoratedSensorOperator

    return DecoratedSensorOperator


class _VirtualenvDecoratedOperator(DecoratedOperator, _Unbuilt):
    """@task.virtualenv"""

    custom_operator_name = "@task.virtualenv"
    own_arguments = tuple(_VENV)
    needs = "virtual environments per task are not built; " + _SUPPORTED


class _ExternalPythonDecoratedOperator(DecoratedOperator, _Unbuilt):
    """@task.external_python"""

    custom_operator_name = "@task.external_python"
    own_arguments = tuple(_VENV) + ("python",)
    needs = "functions in another interpreter are not built; " + _SUPPORTED


class _AnyArgument(DecoratedOperator, _Unbuilt):
    """A decorator of another provider: every argument that is not BaseOperator's is accepted at declaration."""

    def __init__(self, *, python_callable, **kwargs):
        known = all_arguments(DecoratedOperator) | all_arguments(BaseOperator)
        mine = {name: kwargs.pop(name) for name in list(kwargs) if name not in known}
        super().__init__(python_callable=python_callable, **kwargs)
        self.settings = mine


def _unbuilt(name):
    return type("_%sDecoratedOperator" % name.title().replace("_", ""), (_AnyArgument,), {
        "custom_operator_name": "@task." + name, "__doc__": "@task." + name, "__module__": __name__,
        "needs": "functions inside another container or engine are not built; " + _SUPPORTED})


class _Decorator:
    """What @task makes of a function: call it inside a DAG to add a task."""

    def __init__(self, function, operator_class, kwargs):
        if not callable(function) or isinstance(function, type):
            raise TypeError("@task wants a function, not %r" % (function,))
        if isinstance(function, (staticmethod, classmethod)):
            raise TypeError("@task cannot be used on class methods")
        self.function, self.operator_class, self.kwargs = function, operator_class, kwargs
        for name in kwargs:
            known = all_arguments(operator_class) | set(getattr(operator_class, "own_arguments", ()))
            if name not in known and not issubclass(operator_class, _AnyArgument):
                raise TypeError("@task got an unexpected argument %r%s" % (name, nearest(name, known)))
        self.__name__ = getattr(function, "__name__", "task")
        self.__doc__, self.__wrapped__ = function.__doc__, function
        self.__module__ = getattr(function, "__module__", None)
        self.parameters = Parameters(function)
        self.is_setup = self.is_teardown = False
        self.on_failure_fail_dagrun = False

    def __repr__(self):
        return "<@task %s>" % self.__name__

    def _class_kwargs(self):
        kwargs = dict(self.kwargs)
        dag = kwargs.get("dag") or context_stack.current_dag()
        group = kwargs.get("task_group") or context_stack.current_group(dag)
        kwargs["task_id"] = unique_task_id(kwargs.get("task_id") or self.__name__, dag, group)
        if not kwargs.get("doc_md") and self.function.__doc__:
            kwargs["doc_md"] = self.function.__doc__
        kwargs["python_callable"] = self.function
        return kwargs

    def __call__(self, *args, **kwargs):
        self.parameters.check_call(self.__name__, args, kwargs)
        task = self.operator_class(op_args=args, op_kwargs=kwargs, **self._class_kwargs())
        return self._finished(task)

    def _finished(self, task):
        if self.is_setup:
            task.is_setup = True
        if self.is_teardown:
            task._become_teardown(None, self.on_failure_fail_dagrun)
        return XComArg(task)

    def _copy(self, kwargs):
        other = type(self)(self.function, self.operator_class, kwargs)
        other.is_setup, other.is_teardown = self.is_setup, self.is_teardown
        other.on_failure_fail_dagrun = self.on_failure_fail_dagrun
        return other

    def override(self, **kwargs):
        """The same function with other task arguments."""
        return self._copy(dict(self.kwargs, **kwargs))

    def partial(self, **kwargs):
        """Give the function arguments that are the same for every instance."""
        self._known_names(kwargs, "partial")
        other = self._copy(dict(self.kwargs))
        other.op_kwargs = dict(getattr(self, "op_kwargs", {}), **kwargs)
        return other

    def _known_names(self, kwargs, method):
        for name in kwargs:
            if name not in self.parameters.names and not self.parameters.varkw:
                raise TypeError("%s.%s() got an unexpected keyword argument %r%s"
                                % (self.__name__, method, name, nearest(name, self.parameters.names)))

    def expand(self, **mapped):
        """Run the function once for every combination of the given lists."""
        if not mapped:
            raise TypeError("no arguments to expand against")
        self._known_names(mapped, "expand")
        self.parameters.check_call(self.__name__, (), dict(getattr(self, "op_kwargs", {}), **mapped))
        return self._mapped(ExpandInput(mapped))

    def expand_kwargs(self, kwargs, *, strict=True):
        """Run the function once for every dict of arguments."""
        return self._mapped(ExpandKwargsInput(kwargs))

    def _mapped(self, mapping):
        kwargs = self._class_kwargs()
        kwargs.setdefault("multiple_outputs", returns_mapping(self.function))
        kwargs["op_kwargs"] = dict(getattr(self, "op_kwargs", {}))
        task = _DecoratedMapped._of(self.operator_class, kwargs, mapping, kwargs.pop("dag", None),
                                    kwargs.pop("task_group", None))
        return self._finished(task)


class _DecoratedMapped(MappedOperator):
    """A mapped @task: what differs are the function's arguments."""

    def unmap(self, resolve=None):
        return super().unmap({"op_kwargs": dict(self.partial_kwargs["op_kwargs"], **(resolve or {}))})


class TaskDecorators:
    """The object named ``task``: a decorator, and the home of the others."""

    def __call__(self, python_callable=None, multiple_outputs=None, **kwargs):
        return self.python(python_callable, multiple_outputs, **kwargs)

    def python(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_PythonDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def branch(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_BranchPythonDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def short_circuit(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_ShortCircuitDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def bash(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_BashDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def sensor(self, python_callable=None, **kwargs):
        return _factory(_sensor_class(), python_callable, None, kwargs)

    def virtualenv(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_VirtualenvDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def external_python(self, python_callable=None, multiple_outputs=None, **kwargs):
        return _factory(_ExternalPythonDecoratedOperator, python_callable, multiple_outputs, kwargs)

    def run_if(self, condition, skip_message=None):
        """Run the task only if ``condition(context)`` holds; else skip it."""
        return _conditional(condition, True, skip_message)

    def skip_if(self, condition, skip_message=None):
        """Skip the task if ``condition(context)`` holds."""
        return _conditional(condition, False, skip_message)

    def __getattr__(self, name):
        if name in _ELSEWHERE:
            cls = _unbuilt(name)
            return lambda python_callable=None, multiple_outputs=None, **kwargs: _factory(
                cls, python_callable, multiple_outputs, kwargs)
        if name.startswith("__"):
            raise AttributeError(name)
        known = [word for word in vars(TaskDecorators) if not word.startswith("_")] + list(_ELSEWHERE)
        raise AttributeError("there is no decorator @task.%s%s" % (name, nearest(name, known)))


_ELSEWHERE = ("docker", "kubernetes", "kubernetes_cmd", "pyspark", "branch_virtualenv", "branch_external_python",
              "snowpark", "llm", "agent", "stub")


def _factory(operator_class, function, multiple_outputs, kwargs):
    if multiple_outputs is not None:
        kwargs["multiple_outputs"] = multiple_outputs
    if function is not None:
        if not callable(function):
            raise TypeError("@task takes keyword arguments only, got %r" % (function,))
        return _Decorator(function, operator_class, kwargs)
    return lambda inner: _Decorator(inner, operator_class, kwargs)


def _conditional(condition, run_when, message):
    def decorate(target):
        if not isinstance(target, _Decorator):
            raise TypeError("@task.run_if and @task.skip_if go above @task")
        before = target.kwargs.get("pre_execute")

        def check(context):
            verdict = condition(context) if callable(condition) else condition
            reason = message
            if isinstance(verdict, tuple):
                verdict, reason = verdict[0], verdict[1] or message
            if bool(verdict) != run_when:
                raise AirflowSkipException(reason or "the condition of @task.%s says so"
                                           % ("run_if" if run_when else "skip_if"))
            if before is not None:
                before(context)

        return target.override(pre_execute=check)

    return decorate


task = TaskDecorators()


def setup(function):
    """Mark a task, a group or a function as setup."""
    return _mark(function, "is_setup", False)


def teardown(function=None, *, on_failure_fail_dagrun=False):
    """Mark a task, a group or a function as teardown."""
    if function is None:
        return lambda inner: _mark(inner, "is_teardown", on_failure_fail_dagrun)
    return _mark(function, "is_teardown", on_failure_fail_dagrun)


def _mark(function, flag, on_failure_fail_dagrun):
    from .taskgroup import _GroupFactory

    if isinstance(function, _GroupFactory):
        raise AirflowException("task groups cannot be marked as setup or teardown")
    target = function if isinstance(function, _Decorator) else task(function)
    setattr(target, flag, True)
    target.on_failure_fail_dagrun = on_failure_fail_dagrun
    return target


def result(function):
    """Mark the task whose return value is the DAG's result."""
    target = function if isinstance(function, _Decorator) else task(function)
    original = target._finished

    def finished(one):
        if one.dag is not None:
            one.dag.result_task = one.task_id
        return original(one)

    target._finished = finished
    return target


__all__ = ["OperatorPartial", "TaskDecorators", "call_with_context", "result", "setup", "task", "teardown"]
