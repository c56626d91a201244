"""XComArg: "what that task will return", to be passed as an argument before anything has run."""

from collections.abc import Sequence

from . import live
from .exceptions import XComNotFound
from .graph import DependencyMixin
from .params import NOTSET, DagParam

RETURN_KEY = "return_value"


class Reference(DependencyMixin):
    """A value known only when the task runs."""

    def iter_references(self):
        """Yield the tasks the value depends on."""
        raise NotImplementedError

    def resolve(self, context):
        """Return the value."""
        raise NotImplementedError

    def source(self):
        """Return the expression the scheduler computes a length from."""
        raise NotImplementedError

    @property
    def roots(self):
        return list(_unique(self.iter_references()))

    leaves = roots


def _unique(tasks):
    seen = {}
    for task in tasks:
        seen[id(task)] = task
    return seen.values()


class XComArg(Reference):
    """The value a task pushes under a key; made by calling a @task, by ``operator.output`` or by XComArg(operator)."""

    def __new__(cls, operator=None, key=RETURN_KEY):
        return super().__new__(PlainXComArg if cls is XComArg else cls)

    def __init__(self, operator=None, key=RETURN_KEY):
        self.operator, self.key = operator, key

    def map(self, function):
        """Apply ``function`` to every element before it is used."""
        return MapXComArg(self, [function])

    def zip(self, *others, fillvalue=NOTSET):
        """Pair elements with those of others; the shortest decides unless ``fillvalue`` is given."""
        return ZipXComArg([self, *others], fillvalue)

    def concat(self, *others):
        """The elements of this, then those of others."""
        return ConcatXComArg([self, *others])

    def __iter__(self):
        raise TypeError("%r object is not iterable" % type(self).__name__)

    @staticmethod
    def iter_xcom_args(value):
        """Yield the XComArgs in a value, at any depth."""
        return (one for one in _walk(value) if isinstance(one, XComArg))


class PlainXComArg(XComArg):
    """One key of one task."""

    def __getitem__(self, key):
        if not isinstance(key, str):
            raise ValueError("XComArg only supports text keys, not %r: an element of a list is only known at run time"
                             % (key,))
        return PlainXComArg(self.operator, key)

    def __eq__(self, other):
        return isinstance(other, PlainXComArg) and self.operator == other.operator and self.key == other.key

    def __hash__(self):
        return hash((self.operator.task_id, self.key))

    def __repr__(self):
        return "XComArg(%r%s)" % (self.operator, "" if self.key == RETURN_KEY else ", %r" % self.key)

    def __str__(self):
        """A template with the same meaning, so that an XComArg can stand inside text."""
        return "{{ task_instance.xcom_pull(task_ids='%s', dag_id='%s', key='%s') }}" % (
            self.operator.task_id, self.operator.dag_id, self.key)

    @property
    def is_setup(self):
        return self.operator.is_setup

    @is_setup.setter
    def is_setup(self, value):
        self.operator.is_setup = value

    @property
    def is_teardown(self):
        return self.operator.is_teardown

    def __enter__(self):
        return self.operator.__enter__()

    def __exit__(self, *exc):
        return self.operator.__exit__(*exc)

    def iter_references(self):
        yield self.operator

    def source(self):
        return {"op": "xcom", "task": self.operator.task_id, "key": self.key}

    def resolve(self, context):
        ti = context["ti"]
        task_id = self.operator.task_id
        indexes = ti.upstream_map_indexes(self.operator, context)
        if indexes is ALL:
            return LazyXComSequence(ti.dag_id, ti.run_id, task_id, self.key)
        if isinstance(indexes, list):
            return [ti.fetch_xcom(task_id, self.key, one)[0] for one in indexes]
        value, found = ti.fetch_xcom(task_id, self.key, indexes)
        if not found and self.key != RETURN_KEY:
            raise XComNotFound(ti.dag_id, task_id, self.key)
        return value


# Stands for "every instance of the upstream task".
ALL = object()


class MapXComArg(XComArg):
    """An XComArg whose elements pass through functions."""

    def __init__(self, arg, functions):
        for function in functions:
            if hasattr(function, "expand") or isinstance(function, Reference):
                raise ValueError("map() wants a plain function, not a @task")
        self.arg, self.functions = arg, functions

    def map(self, function):
        return MapXComArg(self.arg, self.functions + [function])

    def iter_references(self):
        return self.arg.iter_references()

    def source(self):
        return {"op": "map", "args": [self.arg.source()]}

    def resolve(self, context):
        return _Mapped(elements(self.arg.resolve(context)), self.functions)


class ZipXComArg(XComArg):
    """Several XComArgs element by element."""

    def __init__(self, args, fillvalue=NOTSET):
        if len(args) < 2:
            raise ValueError("zip() needs at least one other argument")
        self.args, self.fillvalue = args, fillvalue

    def iter_references(self):
        for arg in self.args:
            yield from find_references(arg)

    def source(self):
        out = {"op": "zip", "args": [source_of(arg) for arg in self.args]}
        if self.fillvalue is not NOTSET:
            out["fillvalue"] = True
        return out

    def resolve(self, context):
        return _Zipped([elements(resolve_any(arg, context)) for arg in self.args], self.fillvalue)


class ConcatXComArg(XComArg):
    """Several XComArgs one after the other."""

    def __init__(self, args):
        if len(args) < 2:
            raise ValueError("concat() needs at least one other argument")
        self.args = args

    def concat(self, *others):
        return ConcatXComArg(self.args + list(others))

    def iter_references(self):
        for arg in self.args:
            yield from find_references(arg)

    def source(self):
        return {"op": "concat", "args": [source_of(arg) for arg in self.args]}

    def resolve(self, context):
        return _Joined([elements(resolve_any(arg, context)) for arg in self.args])


class MappedArgument(Reference):
    """An argument of a mapped task group, inside the group: this instance's element."""

    def __init__(self, group, key):
        self.group, self.key = group, key

    def __repr__(self):
        return "MappedArgument(%r of %r)" % (self.key, self.group.group_id)

    def __getitem__(self, key):
        return _MappedItem(self, key)

    def iter_references(self):
        return self.group.mapping.iter_references()

    def resolve(self, context):
        return self.group.mapping.resolve_at(context, context["ti"].map_index)[self.key]


class _MappedItem(Reference):
    def __init__(self, arg, key):
        self.arg, self.key = arg, key

    def iter_references(self):
        return self.arg.iter_references()

    def resolve(self, context):
        return self.arg.resolve(context)[self.key]


def elements(value):
    """Return the elements one maps over: those of a list, the pairs of a dict."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError("can only map over a list or a dict, not %s" % type(value).__name__)
    return value if isinstance(value, Sequence) else list(value)


def source_of(value):
    """Return the length expression of an XComArg or of a literal."""
    return value.source() if isinstance(value, XComArg) else {"op": "literal", "length": len(value)}


def _walk(value):
    if isinstance(value, (Reference, DagParam)):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(key)
            yield from _walk(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _walk(item)


def find_references(value):
    """Yield the tasks a value refers to, at any depth."""
    for one in _walk(value):
        yield from one.iter_references()


def resolve_any(value, context):
    """Replace every reference in a value, at any depth."""
    if isinstance(value, (Reference, DagParam)):
        return value.resolve(context)
    if isinstance(value, dict):
        return {key: resolve_any(item, context) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(resolve_any(item, context) for item in value)
    return value


class _View(Sequence):
    """A sequence made of others, each element only when it is asked for: a function that fails for one element fails
    the instance of that element alone."""

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._at(one) for one in range(*index.indices(len(self)))]
        size = len(self)
        if not -size <= index < size:
            raise IndexError(index)
        return self._at(index + size if index < 0 else index)

    def __repr__(self):
        return "<%d elements>" % len(self)

    def __eq__(self, other):
        return isinstance(other, Sequence) and not isinstance(other, (str, bytes)) and list(self) == list(other)

    __hash__ = None


class _Mapped(_View):
    def __init__(self, items, functions):
        self._items, self._functions = items, functions

    def __len__(self):
        return len(self._items)

    def _at(self, index):
        item = self._items[index]
        for function in self._functions:
            item = function(item)
        return item


class _Zipped(_View):
    def __init__(self, columns, fillvalue):
        self._columns, self._fillvalue = columns, fillvalue

    def __len__(self):
        return (min if self._fillvalue is NOTSET else max)(len(column) for column in self._columns)

    def _at(self, index):
        return tuple(column[index] if index < len(column) else self._fillvalue for column in self._columns)


class _Joined(_View):
    def __init__(self, parts):
        self._parts = parts

    def __len__(self):
        return sum(len(part) for part in self._parts)

    def _at(self, index):
        for part in self._parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


class LazyXComSequence(Sequence):
    """The values that all instances of a mapped task pushed; fetched as they are used."""

    def __init__(self, dag_id, run_id, task_id, key):
        self._where = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "key": key}
        self._len = None

    def __repr__(self):
        return "LazyXComSequence(%s)" % ("%d items" % self._len if self._len is not None else self._where["task_id"])

    def __len__(self):
        if self._len is None:
            self._len = live.request(dict(self._where, type="GetXComCount"))["len"]
        return self._len

    def __getitem__(self, index):
        from .xcom import decode

        if isinstance(index, slice):
            ask = dict(self._where, type="GetXComSequenceSlice")
            for name in ("start", "stop", "step"):
                if getattr(index, name) is not None:
                    ask[name] = getattr(index, name)
            return [decode(item) for item in live.request(ask)["root"]]
        if index >= len(self) or index < -len(self):
            raise IndexError(index)
        answer = live.request(dict(self._where, type="GetXComSequenceItem", offset=index))
        return decode(answer.get("value"))

    def __iter__(self):
        return iter(self[:])

    def __eq__(self, other):
        return isinstance(other, (Sequence,)) and list(self) == list(other)

    __hash__ = None
