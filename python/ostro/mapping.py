"""Dynamic mapping: ``partial(...).expand(...)`` for operators and @task, and what a mapped instance's arguments are."""

from collections.abc import Sequence

from . import context_stack, settings
from .baseoperator import BaseOperator, all_arguments, merge_defaults
from .exceptions import UnmappableXComTypePushed, XComForMappingNotPushed
from .xcomarg import MappedArgument, Reference, XComArg, elements, find_references, resolve_any


class ExpandInput:
    """``expand(a=…, b=…)``: the product of the arguments, the last varying fastest."""

    kind = "expand"

    def __init__(self, values):
        for name, value in values.items():
            if isinstance(value, (XComArg, list, dict, tuple, set, frozenset)):
                continue
            if isinstance(value, MappedArgument):
                raise NotImplementedError("mapping a task inside a mapped task group is not supported: expand(%s=...) over an "
                                          "argument of the group" % name)
            raise ValueError("expand() got an unexpected type %r for argument %r: want a list, a dict or the result "
                             "of a task" % (type(value).__name__, name))
        self.values = values

    def names(self):
        return list(self.values)

    def iter_references(self):
        return find_references(self.values)

    def wire(self):
        return {"kind": self.kind, "args": [_wire_arg(name, value) for name, value in self.values.items()]}

    def _columns(self, context):
        return {name: elements(value.resolve(context) if isinstance(value, Reference) else
                               sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)
                for name, value in self.values.items()}

    def length(self, context):
        """Return the number of instances."""
        total = 1
        for column in self._columns(context).values():
            total *= len(column)
        return total

    def resolve_at(self, context, index):
        """Return the arguments of instance ``index``."""
        out, rest = {}, index
        for name, column in reversed(list(self._columns(context).items())):
            if not len(column) or index < 0:
                raise RuntimeError("cannot expand %r for map index %d" % (name, index))
            rest, position = divmod(rest, len(column))
            out[name] = resolve_any(column[position], context)
        if rest:
            raise RuntimeError("map index %d is beyond the number of instances" % index)
        return out


class ExpandKwargsInput(ExpandInput):
    """``expand_kwargs([{…}, {…}])``: one dict of arguments an instance."""

    kind = "expand_kwargs"

    def __init__(self, value):
        if not isinstance(value, (XComArg, list, tuple)):
            raise TypeError("expand_kwargs() wants a list of dicts or the result of a task, not %s"
                            % type(value).__name__)
        self.value = value

    def names(self):
        if isinstance(self.value, (list, tuple)):
            return sorted({name for item in self.value if isinstance(item, dict) for name in item})
        return []

    def iter_references(self):
        return find_references(self.value)

    def wire(self):
        return {"kind": self.kind, "args": [_wire_arg("kwargs", self.value)]}

    def _rows(self, context):
        return elements(self.value.resolve(context) if isinstance(self.value, Reference) else self.value)

    def length(self, context):
        return len(self._rows(context))

    def resolve_at(self, context, index):
        row = resolve_any(self._rows(context)[index], context)
        if not isinstance(row, dict) or not all(isinstance(name, str) for name in row):
            raise ValueError("expand_kwargs() wants a list of dicts with text keys, element %d is %r" % (index, row))
        return row


def _wire_arg(name, value):
    if isinstance(value, XComArg):
        return {"name": name, "length": -1, "source": value.source()}
    return {"name": name, "length": len(value)}


class OperatorPartial:
    """What ``Operator.partial(...)`` returns: the common arguments, waiting for ``expand``."""

    def __init__(self, operator_class, kwargs, dag=None, task_group=None):
        self.operator_class, self.kwargs, self.dag, self.task_group = operator_class, kwargs, dag, task_group
        _check_names(operator_class, kwargs, "partial")
        self._expanded = False

    def expand(self, **mapped):
        """Run the task once for every combination of the given lists."""
        if not mapped:
            raise TypeError("no arguments to expand against")
        both = sorted(set(mapped) & set(self.kwargs))
        if both:
            raise TypeError("%s.expand() got arguments that partial() has already: %s"
                            % (self.operator_class.__name__, ", ".join(both)))
        _check_names(self.operator_class, mapped, "expand")
        return self._make(ExpandInput(mapped))

    def expand_kwargs(self, kwargs, *, strict=True):
        """Run the task once for every dict of arguments."""
        return self._make(ExpandKwargsInput(kwargs))

    def _make(self, mapping):
        self._expanded = True
        return MappedOperator._of(self.operator_class, self.kwargs, mapping, self.dag, self.task_group)


def _check_names(cls, kwargs, method):
    known = all_arguments(cls) | set(getattr(cls, "own_arguments", ()))
    for name in kwargs:
        if name not in known:
            raise TypeError("%s.%s() got an unexpected argument %r%s"
                            % (cls.__name__, method, name, settings.nearest(name, known)))
        if method == "expand" and name in _NOT_MAPPABLE:
            raise ValueError("%s.expand(): %r cannot differ between instances; give it to partial()"
                             % (cls.__name__, name))


_NOT_MAPPABLE = {"task_id", "dag", "task_group", "trigger_rule", "retries", "start_date", "end_date", "depends_on_past",
                 "wait_for_downstream", "priority_weight", "weight_rule", "pool", "owner", "execution_timeout",
                 "max_active_tis_per_dag", "max_active_tis_per_dagrun", "default_args", "multiple_outputs"}

_BASE_ARGUMENTS = all_arguments(BaseOperator)


class MappedOperator(BaseOperator):
    """A task that becomes several when it runs. It stands in the graph; its instances are made by ``unmap``."""

    is_mapped = True

    @classmethod
    def _of(cls, operator_class, kwargs, mapping, dag=None, task_group=None):
        dag = dag or context_stack.current_dag()
        group = task_group or context_stack.current_group(dag)
        if group is not None and any(True for _ in _mapped_groups(group)):
            raise NotImplementedError("mapping a task inside a mapped task group is not supported: task %r in %r"
                                      % (kwargs["task_id"], group.group_id))
        base = {name: value for name, value in kwargs.items() if name in _BASE_ARGUMENTS}
        task = cls(dag=dag, task_group=task_group, **base)
        task.__dict__.update(
            mapped_class=operator_class, partial_kwargs=dict(kwargs), mapping=mapping,
            defaults=merge_defaults(dag, group, kwargs.get("default_args")))
        task._look_like(operator_class)
        getattr(operator_class, "foretell", lambda task_id: None)(task.task_id)
        for upstream in list(mapping.iter_references()) + list(find_references(kwargs)):
            if upstream is not task:
                task.set_upstream(upstream)
        return task

    def _look_like(self, operator_class):
        from .serialize import looks

        self.__dict__["looks"] = looks(operator_class)
        defaults = getattr(operator_class, "mapped_defaults", None)
        for name, value in (defaults or {}).items():
            if name not in self.partial_kwargs:
                self.__dict__[name] = value

    @property
    def task_type(self):
        return self.__dict__["mapped_class"].__name__ if "mapped_class" in self.__dict__ else "MappedOperator"

    @property
    def operator_class(self):
        return self.mapped_class

    @property
    def operator_name(self):
        return self.mapped_class.custom_operator_name or self.task_type

    def unmap(self, resolve=None):
        """Return the ordinary operator of one instance, given its resolved arguments."""
        kwargs = {name: value for name, value in self.partial_kwargs.items() if name not in ("task_id", "default_args")}
        kwargs.update(_merged(kwargs, dict(resolve or {})))
        saved = context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:]
        context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:] = [], [], []
        outer, context_stack.unmapping = context_stack.unmapping, True
        try:
            task = self.mapped_class(task_id=self.label, default_args=self.defaults, **kwargs)
        finally:
            context_stack.unmapping = outer
            context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:] = saved
        task.__dict__.update(
            _made=False, _dag=self.dag, task_id=self.task_id, label=self.label, task_group=self.task_group,
            upstream_task_ids=self.upstream_task_ids, downstream_task_ids=self.downstream_task_ids,
            is_setup=self.is_setup, is_teardown=self.is_teardown, trigger_rule=self.trigger_rule,
            on_failure_fail_dagrun=self.on_failure_fail_dagrun, _unmapped_from=self)
        return task

    def prepare_for_execution(self):
        return self


def check_mappable(task, value):
    """Fail the task whose result other tasks are mapped over when nobody can map over it."""
    if task.dag is None or task.task_id not in mapped_over(task.dag) or isinstance(value, (list, dict)):
        return
    if value is None:
        raise XComForMappingNotPushed(task.task_id)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise UnmappableXComTypePushed(task.task_id, value)


def mapped_over(dag):
    """Return the ids of the tasks whose results others are mapped over; the loader asks first, so that no task computes it."""
    found = dag.__dict__.get("_mapped_over")
    if found is None:
        mappings = [one.mapping for one in dag.tasks if one.is_mapped]
        mappings += [group.mapping for group in dag.task_groups.values() if group.mapping is not None]
        found = dag.__dict__["_mapped_over"] = {task.task_id for mapping in mappings for task in mapping.iter_references()}
    return found


def _merged(partial, mapped):
    """Dict-like arguments of a decorated task are merged, not replaced."""
    if "op_kwargs" in partial and isinstance(mapped.get("op_kwargs"), dict) and partial.get("_merge_op_kwargs"):
        mapped["op_kwargs"] = dict(partial["op_kwargs"], **mapped["op_kwargs"])
    return mapped


def _mapped_groups(group):
    while group is not None:
        if group.mapping is not None:
            yield group
        group = group.parent_group
