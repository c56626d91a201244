"""PythonOperator and its branching and short-circuiting kin."""

import os

from .. import strayed
from ..baseoperator import BaseOperator
from ..callables import Parameters, require_callable
from ..exceptions import AirflowException
from ..live import get_current_context
from ..settings import warn
from ..shown import text_of
from .skipping import SkipMixin

SHOWN = "airflow.providers.standard.operators.python"


class PythonOperator(BaseOperator):
    """Calls a function with op_args and op_kwargs and what it asks of the context by name."""

    template_fields = ("templates_dict", "op_args", "op_kwargs")
    template_fields_renderers = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs = ("python_callable", "op_kwargs")
    ui_color = "#ffefeb"
    shown_module = SHOWN
    shown_fields = ("python_callable",)

    def __init__(self, *, python_callable, op_args=None, op_kwargs=None, templates_dict=None, templates_exts=None,
                 show_return_value_in_logs=True, **kwargs):
        super().__init__(**kwargs)
        require_callable(python_callable, self.task_id)
        self.python_callable = python_callable
        self.op_args, self.op_kwargs = op_args if op_args is not None else (), op_kwargs or {}
        self.templates_dict = templates_dict
        if templates_exts:
            self.template_ext = templates_exts
        self.show_return_value_in_logs = show_return_value_in_logs

    def execute(self, context):
        context["templates_dict"] = self.templates_dict
        value = self.call(context)
        if self.show_return_value_in_logs:
            self._tell("Done. Returned value was: %s", text_of(value))
        else:
            self._tell("Done. Returned value not shown")
        return value

    def call(self, context):
        """Call the function and return what it returns; a generator is run to its end."""
        function, me = self.python_callable, os.getpid()
        parameters = Parameters(function)
        label = getattr(function, "__name__", type(function).__name__)
        kwargs = parameters.fill(label, self.op_args, self.op_kwargs, context)
        value = function(*self.op_args, **kwargs)
        if hasattr(value, "__await__") and not isinstance(value, (str, bytes)):
            import asyncio

            value = asyncio.run(_awaited(value))
        elif hasattr(value, "gi_frame"):
            import inspect

            if inspect.isgeneratorfunction(function):  # else it was returned, and is a value like any other
                value = _drain(value, context)
        strayed.check(me)
        return value

    def execute_callable(self):
        return self.call(get_current_context())


async def _awaited(value):
    return await value


def _drain(generator, context):
    """Run a generator function; the Metadata it yields goes to its outlets' events."""
    from ..assets import AssetAlias, Metadata

    while True:
        try:
            item = next(generator)
        except StopIteration as end:
            return end.value
        if not isinstance(item, Metadata):
            continue
        if item.alias:
            context["outlet_events"][AssetAlias(item.alias)].add(item.asset, item.extra)
        else:
            context["outlet_events"][item.asset].extra.update(item.extra)


class BaseBranchOperator(BaseOperator, SkipMixin):
    """Subclasses choose with ``choose_branch(context)``, which returns task ids."""

    shown_module = "airflow.providers.standard.operators.branch"
    inherits_from_skipmixin = True

    def choose_branch(self, context):
        raise NotImplementedError("%s has no choose_branch method" % type(self).__name__)

    def execute(self, context):
        return self.do_branch(context, self.choose_branch(context))

    def do_branch(self, context, branches_to_execute):
        self.skip_all_except(context["ti"], branches_to_execute)
        return branches_to_execute


class BranchPythonOperator(PythonOperator, SkipMixin):
    """Follows the tasks whose ids the function returns; other direct downstream tasks are skipped."""

    inherits_from_skipmixin = True

    def execute(self, context):
        value = super().execute(context)
        self.skip_all_except(context["ti"], value)
        return value


class ShortCircuitOperator(PythonOperator, SkipMixin):
    """Skips what is downstream when the function returns something falsy."""

    inherits_from_skipmixin = True

    def __init__(self, *, ignore_downstream_trigger_rules=True, **kwargs):
        super().__init__(**kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context):
        condition = super().execute(context)
        self.short_circuit(context, condition)
        return condition

    def short_circuit(self, context, condition):
        self._tell("Condition result is %s", text_of(condition))
        if condition:
            self._tell("Proceeding with downstream tasks")
            return
        task = context["task"]
        below = (task.get_flat_relatives() if self.ignore_downstream_trigger_rules else task.downstream_list)
        below = [one for one in below if not one.is_teardown]
        self._tell("Skipping %d downstream tasks", len(below))
        self.skip(context["ti"], below)


class _Unbuilt(PythonOperator):
    """An operator that is known and can be declared; running it says what to use instead."""

    needs = ""

    def __init__(self, *, python_callable, **kwargs):
        mine = {name: kwargs.pop(name) for name in list(kwargs) if name in self.own_arguments}
        super().__init__(python_callable=python_callable, **kwargs)
        self.settings = mine
        self.foretell(self.task_id)

    @classmethod
    def foretell(cls, task_id):
        """Warn at import that the task is going to fail."""
        warn("%s: task %r will fail when it runs: %s" % (cls.custom_operator_name or cls.__name__, task_id, cls.needs))

    own_arguments = ()

    def execute(self, context):
        raise AirflowException("%s (task %r) cannot run here: %s" % (self.operator_name, self.task_id, self.needs))


_VENV = ("requirements python_version serializer use_dill system_site_packages pip_install_options string_args "
         "expect_airflow skip_on_exit_code index_urls index_urls_from_connection_ids venv_cache_path env_vars "
         "inherit_env expect_pendulum").split()
_SUPPORTED = "use @task, @task.bash or KubernetesPodOperator with its own python= under images: in the configuration"


class PythonVirtualenvOperator(_Unbuilt):
    """Declared as in Airflow."""

    own_arguments = _VENV
    needs = "virtual environments per task are not built; " + _SUPPORTED


class BranchPythonVirtualenvOperator(PythonVirtualenvOperator):
    """Declared as in Airflow."""


class ExternalPythonOperator(_Unbuilt):
    """Declared as in Airflow."""

    own_arguments = _VENV + ["python"]
    needs = "functions in another interpreter are not built; " + _SUPPORTED


class BranchExternalPythonOperator(ExternalPythonOperator):
    """Declared as in Airflow."""
