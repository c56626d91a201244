"""What a callable's parameters are and which of them the task's context fills; inspect is imported only when needed."""

from .exceptions import AirflowException

# Every name the context can fill, Airflow 2's included; see ostro.context.
CONTEXT_NAMES = frozenset((
    "dag task ti task_instance run_id dag_run params var conn macros inlets outlets inlet_events outlet_events "
    "map_index_template expanded_ti_count task_reschedule_count task_instance_key_str triggering_asset_events "
    "prev_start_date_success prev_end_date_success start_date exception test_mode logical_date ds ds_nodash ts "
    "ts_nodash ts_nodash_with_tz data_interval_start data_interval_end prev_data_interval_start_success "
    "prev_data_interval_end_success execution_date next_execution_date prev_execution_date "
    "prev_execution_date_success next_ds next_ds_nodash prev_ds prev_ds_nodash tomorrow_ds tomorrow_ds_nodash "
    "yesterday_ds yesterday_ds_nodash conf triggering_dataset_events templates_dict"
).split())


class Parameters:
    """The parameters of a callable: names in order, which have defaults, and whether it takes *args and **kwargs."""

    def __init__(self, function):
        self.positional, self.keyword, self.optional = (), (), frozenset()
        self.varargs = self.varkw = False
        self.annotations = getattr(function, "__annotations__", None) or {}
        code = getattr(function, "__code__", None)
        if code is not None and not hasattr(function, "__wrapped__"):
            self._from_code(function, code)
        else:
            self._from_signature(function)

    def _from_code(self, function, code):
        count = code.co_argcount
        self.positional = code.co_varnames[:count]
        self.keyword = code.co_varnames[count:count + code.co_kwonlyargcount]
        self.varargs, self.varkw = bool(code.co_flags & 0x04), bool(code.co_flags & 0x08)
        defaults = function.__defaults__ or ()
        self.optional = frozenset(self.positional[count - len(defaults):] if defaults else ()) | frozenset(
            function.__kwdefaults__ or ())
        if hasattr(function, "__self__"):
            self.positional = self.positional[1:]

    def _from_signature(self, function):
        import inspect

        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            self.varargs = True
            return
        positional, keyword, optional = [], [], set()
        for name, parameter in signature.parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                positional.append(name)
            elif parameter.kind == parameter.KEYWORD_ONLY:
                keyword.append(name)
            elif parameter.kind == parameter.VAR_POSITIONAL:
                self.varargs = True
            else:
                self.varkw = True
            if parameter.default is not parameter.empty:
                optional.add(name)
        self.positional, self.keyword, self.optional = tuple(positional), tuple(keyword), frozenset(optional)

    @property
    def names(self):
        return self.positional + self.keyword

    def check_call(self, label, args, kwargs, given_elsewhere=()):
        """Raise TypeError unless the call could work once the context has filled the names it knows."""
        if len(args) > len(self.positional) and not self.varargs:
            raise TypeError("%s() takes %d positional arguments but %d were given"
                            % (label, len(self.positional), len(args)))
        taken = set(self.positional[:len(args)])
        for name in kwargs:
            if name in taken:
                raise TypeError("%s() got multiple values for argument %r" % (label, name))
            if name not in self.names and not self.varkw:
                from .settings import nearest

                raise TypeError("%s() got an unexpected keyword argument %r%s"
                                % (label, name, nearest(name, self.names)))
        for name in self.names:
            if (name not in taken and name not in kwargs and name not in self.optional and name not in CONTEXT_NAMES
                    and name not in given_elsewhere):
                raise TypeError("%s() is missing a required argument: %r" % (label, name))

    def fill(self, label, args, kwargs, context):
        """Return the keyword arguments of the call: those given, and those the context fills by name.

        A parameter with a default of its own is still filled, as in Airflow, when its name is one of the context's. A
        date for a parameter annotated ``str`` is filled as text.
        """
        out = dict(kwargs)
        taken = self.positional[:len(args)]
        for name in taken:
            if name in CONTEXT_NAMES and name in context and name not in ("conf", "params", "test_mode") \
                    and name in _RESERVED:
                raise ValueError("the key %r in args is a part of kwargs and therefore reserved" % name)
        for name in self.names:
            if name in taken or name in out:
                continue
            if name in context:
                out[name] = self._typed(name, context[name])
            elif name not in self.optional:
                self._refuse_absent(label, name, context)
        if self.varkw:
            for name in context:
                if name not in out and name not in taken:
                    out[name] = context[name]
        return out

    @staticmethod
    def _refuse_absent(label, name, context):
        """Raise for a name the context would have, had the run a date; what else is missing Python says itself."""
        from .context import no_date

        why = no_date(context, name)
        if why:
            raise AirflowException("%s() cannot be called: %s" % (label, why))

    def _typed(self, name, value):
        wanted = self.annotations.get(name)
        if (wanted is str or wanted == "str") and value is not None and not isinstance(value, str):
            return str(value)
        return value


# Airflow refuses positional values for names of its context; we do so only for those nobody could mean otherwise.
_RESERVED = frozenset(("ti", "task_instance", "dag_run"))


def call_with_context(function, args, kwargs, context):
    """Call a function with its own arguments and what it asks of the context."""
    parameters = Parameters(function)
    label = getattr(function, "__name__", type(function).__name__)
    return function(*args, **parameters.fill(label, args, kwargs, context))


def returns_mapping(function):
    """Say whether the return annotation is a dict, a TypedDict or another mapping."""
    wanted = (getattr(function, "__annotations__", None) or {}).get("return")
    if isinstance(wanted, str):
        head = wanted.partition("[")[0].strip().rpartition(".")[2]
        if head in ("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict"):
            return True
        wanted = getattr(function, "__globals__", {}).get(wanted)
    wanted = getattr(wanted, "__origin__", wanted)
    if not isinstance(wanted, type):
        return False
    from collections.abc import Mapping

    return issubclass(wanted, Mapping)


def require_callable(value, task_id):
    if not callable(value):
        raise AirflowException("`python_callable` of task %r must be callable, not %r" % (task_id, value))
