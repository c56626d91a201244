"""XCom values as JSON: plain JSON as it is, other types in Airflow's envelope {"__classname__", "__version__", "__data__"}.

Packages a value may come from (numpy, pandas, pydantic, …) are never imported here to write a value: if the value exists,
its module is loaded. To read one back, its module is imported if it can be; else the envelope's data is returned.
"""

import datetime
import sys

from .exceptions import AirflowException

NAME, VERSION, DATA = "__classname__", "__version__", "__data__"
_DEPTH = 100
_SHOWN_STEPS = 12
_PLAIN = frozenset((type(None), bool, int, str))
_PLAIN_OR_FLOAT = _PLAIN | {float}
_TEXT = frozenset((str,))


class XComSerializationError(AirflowException, TypeError):
    """A value cannot be stored."""


# What reads its elements when they are asked for: the sequences of ostro.xcomarg.
_LAZY = ("LazyXComSequence", "_Mapped", "_Zipped", "_Joined")


def map_length(value):
    """Return how many instances a task mapped over this value has; -1 for what one cannot map over."""
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    if type(value).__name__ in _LAZY:
        return len(value)
    return -1


def encode(value, what="the value"):
    """Return ``value`` as JSON-able data; raise saying which part of it cannot be stored, and what to do."""
    return _encode(value, (), what, 0, frozenset())


def _fail(value, path, what, why=None):
    name = "%s.%s" % (type(value).__module__, type(value).__qualname__)
    raise XComSerializationError(
        "cannot store %s: %s is a %s%s. Return plain data (numbers, text, lists, dicts, dates, dataclasses), or save "
        "it to a file and return the path" % (what, _place(path), name, ", " + why if why else ""))


def _place(path):
    """Say where in the value an element is; ``path`` is (the path of what it is in, its index or key or text)."""
    steps = []
    while path:
        path, step = path
        steps.append(step if type(step) is _Text else "[%r]" % (step,))
    steps.reverse()
    if len(steps) > _SHOWN_STEPS:
        steps[_SHOWN_STEPS:] = ["…"]
    return "the element %s" % "".join(steps) if steps else "it"


class _Text(str):
    """A step of a path that is no index."""


def _encode(value, path, what, depth, inside):
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if value - value == 0 else _wrap("builtins.float", 1, repr(value))
    if id(value) in inside:
        _fail(value, path, what, "which contains itself")
    if depth > _DEPTH:
        _fail(value, path, what, "nested more than %d deep, which is too deep to be stored" % _DEPTH)
    within = inside | {id(value)}
    if kind is list or kind is dict:
        value = kind(value)  # as it is now: a thread of the task's may go on to change it
    if kind is list and _all_plain(value):
        return value
    if kind is dict and _all_plain(value.values()) and set(map(type, value)) <= _TEXT and NAME not in value:
        return value

    def inner(item, step):
        return _encode(item, (path, step), what, depth + 1, within)

    if kind is list:
        return [inner(item, index) for index, item in enumerate(value)]
    if kind is dict:
        return _encode_dict(value, path, what, inner)
    return _encode_other(value, kind, path, what, inner)


def _all_plain(items):
    """Whether all of them are plain JSON as they are: the common case of large data, found out without a look at each."""
    kinds = set(map(type, items))
    if kinds <= _PLAIN:
        return True
    return kinds <= _PLAIN_OR_FLOAT and all(item - item == 0 for item in items if type(item) is float)


def _encode_dict(value, path, what, inner):
    if all(type(key) is str for key in value) and NAME not in value:
        return {key: inner(item, key) for key, item in value.items()}
    if all(isinstance(key, str) for key in value):
        return _wrap("builtins.dict", 1, [[str(key), inner(item, key)] for key, item in value.items()])
    return _wrap("builtins.dict", 1, [[inner(key, _Text("'s key %r" % (key,))), inner(item, key)]
                                      for key, item in value.items()])


def _wrap(name, version, data):
    return {NAME: name, VERSION: version, DATA: data}


def _encode_other(value, kind, path, what, inner):
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _wrap(_name(kind), 1, {"fields": {name: inner(getattr(value, name), _Text("." + name))
                                                 for name in value._fields}})
    if kind in (tuple, set, frozenset):
        items = value if kind is tuple else _ordered(value)
        return _wrap("builtins." + kind.__name__, 1, [inner(item, index)
                                                      for index, item in enumerate(items)])
    if kind.__name__ in _LAZY:
        return [inner(item, index) for index, item in enumerate(value)]
    for check in (_encode_time, _encode_scalar, _encode_array, _encode_structure):
        out = check(value, kind, inner)
        if out is not None:
            return out
    if isinstance(value, (str, int, float)):
        return type(value).__mro__[-2](value) if type(value).__mro__[-2] in (str, int, float) else str(value)
    if isinstance(value, dict):
        return _encode_dict(value, path, what, inner)
    if isinstance(value, (list, tuple)):
        return [inner(item, index) for index, item in enumerate(value)]
    hint = None
    if hasattr(value, "fileno"):
        hint = "an open file or connection cannot travel"
    elif hasattr(value, "__next__"):
        hint = "a generator, which can be read only once; return list(...) of it"
    return _fail(value, path, what, hint)


def _ordered(items):
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=repr)


def _name(kind):
    return "%s.%s" % (kind.__module__, kind.__qualname__)


def _encode_time(value, kind, inner):
    from . import dates

    if isinstance(value, datetime.datetime):
        name = "pendulum.datetime.DateTime" if isinstance(value, dates.DateTime) or kind.__module__.startswith(
            "pendulum") else "datetime.datetime"
        zone = None if value.tzinfo is None else _zone(value)
        # Microseconds are kept apart: a float timestamp loses them.
        return _wrap(name, 2, {"timestamp": value.timestamp() if value.tzinfo else None, "tz": zone,
                               "iso": value.isoformat()})
    if isinstance(value, datetime.date):
        return _wrap("datetime.date", 2, value.isoformat())
    if isinstance(value, datetime.time):
        return _wrap("datetime.time", 1, value.isoformat())
    if isinstance(value, datetime.timedelta):
        return _wrap("datetime.timedelta", 2, value.total_seconds())
    if isinstance(value, datetime.tzinfo):
        return _wrap("zoneinfo.ZoneInfo", 1, dates.zone_name(value))
    return None


def _zone(value):
    for attribute in ("key", "name", "zone"):
        name = getattr(value.tzinfo, attribute, None)
        if isinstance(name, str) and name:
            return name
    return "UTC" if not value.utcoffset() else value.strftime("%z")


def _encode_scalar(value, kind, inner):
    import enum

    if isinstance(value, enum.Enum):
        return _wrap(_name(kind), 1, {"enum": inner(value.value, _Text(".value"))})
    if isinstance(value, (bytes, bytearray)):
        import base64

        return _wrap("builtins." + kind.__name__, 1, base64.b64encode(bytes(value)).decode())
    if kind is complex:
        return _wrap("builtins.complex", 1, [value.real, value.imag])
    module = kind.__module__.partition(".")[0]
    if module == "decimal" or kind.__name__ == "Decimal":
        return _wrap("decimal.Decimal", 1, str(value))
    if module == "uuid" and hasattr(value, "hex"):
        return _wrap("uuid.UUID", 1, {"uuid": str(value)})
    if hasattr(value, "__fspath__") and module == "pathlib":
        return _wrap("pathlib.PurePath", 1, str(value))
    return None


def _encode_array(value, kind, inner):
    module = kind.__module__.partition(".")[0]
    if module == "numpy":
        if hasattr(value, "tolist") and hasattr(value, "dtype"):
            if getattr(value, "ndim", 0) == 0:
                item = value.item()
                if isinstance(item, (bool, int, float, str)):
                    return _wrap("numpy." + value.dtype.name, 1, item)
                return None
            if value.dtype.kind in "biufSU":
                return _wrap("numpy.ndarray", 1, {"dtype": str(value.dtype), "data": value.tolist()})
        return None
    if module == "pandas":
        return _encode_pandas(value, kind)
    return None


def _encode_pandas(value, kind):
    import base64
    import io

    if kind.__name__ == "Timestamp":
        return None
    if kind.__name__ == "Series":
        frame = _encode_pandas(value.to_frame("value" if value.name is None else value.name), type(value.to_frame()))
        return _wrap("pandas.core.series.Series", 1, frame[DATA])
    if kind.__name__ != "DataFrame":
        return None
    try:
        buffer = io.BytesIO()
        value.to_parquet(buffer)
        data = {"format": "parquet", "data": base64.b64encode(buffer.getvalue()).decode()}
    except (ImportError, ValueError):
        # No parquet engine: CSV with the column types beside it.
        data = {"format": "csv", "data": value.to_csv(),
                "dtypes": {str(name): str(dtype) for name, dtype in value.dtypes.items()}}
    return _wrap("pandas.core.frame.DataFrame", 1, data)


def _encode_structure(value, kind, inner):
    if hasattr(kind, "__dataclass_fields__"):
        return _wrap(_name(kind), 1, {"fields": {name: inner(getattr(value, name), _Text("." + name))
                                                 for name in kind.__dataclass_fields__}})
    if hasattr(kind, "__attrs_attrs__"):
        return _wrap(_name(kind), 1, {"fields": {field.name: inner(getattr(value, field.name), _Text("." + field.name))
                                                 for field in kind.__attrs_attrs__}})
    if "pydantic" in sys.modules and callable(getattr(value, "model_dump", None)):
        return _wrap(_name(kind), 1, {"model": inner(value.model_dump(), _Text())})
    if callable(getattr(value, "serialize", None)) and callable(getattr(kind, "deserialize", None)):
        return _wrap(_name(kind), getattr(kind, "__version__", 0), inner(value.serialize(), _Text()))
    if hasattr(value, "wire") and kind.__module__ == "ostro.assets":
        return _wrap("airflow.sdk.definitions.asset." + kind.__name__, 1, inner(value.wire(), _Text()))
    return None


def too_large(what, size):
    """Return the exception for a value that no message can carry; ``size`` is its length in bytes as JSON."""
    from .comms import MAX_SEND

    return ValueError("%s has %.1f MiB as JSON, and an XCom can have at most %d MiB. Write the value to a file, for instance "
                      "under s3://, and pass on its path" % (what, size / 1048576, MAX_SEND >> 20))


def push(message, what):
    """Send a SetXCom request and say in words when its value is too large."""
    from . import largexcom, live
    from .comms import FrameTooLarge

    if largexcom.store(message):
        return
    try:
        live.request(message)
    except FrameTooLarge as fault:
        raise too_large(what, fault.size) from None


def decode(data):
    """Return the value that ``encode`` wrote."""
    if isinstance(data, list):
        return data if _PLAIN_OR_FLOAT.issuperset(map(type, data)) else [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if NAME not in data:
        if _PLAIN_OR_FLOAT.issuperset(map(type, data.values())):
            return data
        return {key: decode(item) for key, item in data.items()}
    return _decode_class(data[NAME], data.get(VERSION, 1), data.get(DATA))


def _decode_class(name, version, data):
    simple = _DECODERS.get(name)
    if simple is not None:
        return simple(data)
    if name.startswith("numpy."):
        import numpy

        return getattr(numpy, name[6:].replace("bool", "bool_") if name == "numpy.bool" else name[6:])(data)
    kind = _find(name)
    if kind is None or not _is_value_class(kind):
        return {NAME: name, VERSION: version, DATA: decode(data)}
    if isinstance(data, dict):
        if set(data) == {"enum"}:
            return kind(decode(data["enum"]))
        if set(data) == {"fields"}:
            return _rebuild(kind, {key: decode(item) for key, item in data["fields"].items()})
        if set(data) == {"model"}:
            return kind(**decode(data["model"]))
    if callable(getattr(kind, "deserialize", None)):
        return kind.deserialize(decode(data), version)
    return {NAME: name, VERSION: version, DATA: decode(data)}


def _is_value_class(kind):
    """Only classes that are values by their own declaration are made from stored data, never just any callable."""
    import enum

    if issubclass(kind, enum.Enum) or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return True
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return True
    if callable(getattr(kind, "model_dump", None)) and callable(getattr(kind, "model_validate", None)):
        return True
    return callable(getattr(kind, "serialize", None)) and callable(getattr(kind, "deserialize", None))


def _rebuild(kind, fields):
    """Make an instance from its fields; fields the constructor does not take are set afterwards."""
    if hasattr(kind, "__dataclass_fields__"):
        later = {name for name, field in kind.__dataclass_fields__.items() if not field.init}
        made = kind(**{name: value for name, value in fields.items() if name not in later})
        for name in later & set(fields):
            object.__setattr__(made, name, fields[name])
        return made
    if hasattr(kind, "__attrs_attrs__"):
        names = {field.name: field.name.lstrip("_") for field in kind.__attrs_attrs__ if field.init}
        return kind(**{names[name]: value for name, value in fields.items() if name in names})
    return kind(**fields)


def _find(name):
    """Return the class by its dotted name, also a class inside a class, or None."""
    module, _, rest = name.rpartition(".")
    parts = [rest]
    while module:
        if module not in sys.modules:
            try:
                __import__(module)
            except ImportError:
                pass
        found = sys.modules.get(module)
        if found is not None:
            for part in parts:
                found = getattr(found, part, None)
            return found if isinstance(found, type) else None
        module, _, head = module.rpartition(".")
        parts.insert(0, head)
    return None


def _datetime(data):
    from . import dates

    if data.get("iso"):
        when = datetime.datetime.fromisoformat(data["iso"])
    else:
        when = datetime.datetime.fromtimestamp(data["timestamp"], dates.utc)
    if when.tzinfo is None or not data.get("tz"):
        return when
    return when.astimezone(dates.zone(data["tz"] if isinstance(data["tz"], str) else "UTC"))


def _pendulum(data):
    from . import dates

    return dates.shown(_datetime(data))


def _bytes(data):
    import base64

    return base64.b64decode(data)


def _decimal(data):
    from decimal import Decimal

    return Decimal(data)


def _uuid(data):
    from uuid import UUID

    return UUID(data["uuid"] if isinstance(data, dict) else data)


def _path(data):
    from pathlib import Path

    return Path(data)


def _array(data):
    import numpy

    return numpy.array(data["data"], dtype=data["dtype"])


def _frame(data):
    import base64
    import io

    import pandas

    if data["format"] == "parquet":
        return pandas.read_parquet(io.BytesIO(base64.b64decode(data["data"])))
    frame = pandas.read_csv(io.StringIO(data["data"]), index_col=0)
    frame.index.name = None
    return frame.astype({name: dtype for name, dtype in data["dtypes"].items() if name in frame.columns})


def _series(data):
    frame = _frame(data)
    series = frame[frame.columns[0]]
    return series.rename(None) if series.name == "value" else series


def _dict(data):
    return {decode(key): decode(value) for key, value in data}


def _zoneinfo(data):
    from . import dates

    return dates.zone(data)


def _asset(kind):
    def make(data):
        from . import assets

        fields = {key: value for key, value in decode(data).items() if key != "alias"}
        return getattr(assets, kind)(**fields)

    return make


_DECODERS = {
    "builtins.tuple": lambda data: tuple(decode(item) for item in data),
    "builtins.set": lambda data: {decode(item) for item in data},
    "builtins.frozenset": lambda data: frozenset(decode(item) for item in data),
    "builtins.dict": _dict, "builtins.float": float, "builtins.bytes": _bytes,
    "builtins.bytearray": lambda data: bytearray(_bytes(data)),
    "builtins.complex": lambda data: complex(*data),
    "datetime.datetime": _datetime, "pendulum.datetime.DateTime": _pendulum,
    "datetime.date": lambda data: datetime.date.fromisoformat(data),
    "datetime.time": lambda data: datetime.time.fromisoformat(data),
    "datetime.timedelta": lambda data: datetime.timedelta(seconds=float(data)),
    "zoneinfo.ZoneInfo": _zoneinfo, "decimal.Decimal": _decimal, "uuid.UUID": _uuid, "pathlib.PurePath": _path,
    "numpy.ndarray": _array, "pandas.core.frame.DataFrame": _frame, "pandas.core.series.Series": _series,
    "airflow.sdk.definitions.asset.Asset": _asset("Asset"), "airflow.sdk.definitions.asset.Model": _asset("Model"),
    "airflow.sdk.definitions.asset.Dataset": _asset("Asset"),
    "airflow.sdk.definitions.asset.AssetAlias": _asset("AssetAlias"),
}


def check_json(value):
    """Return what keeps ``value`` from being plain JSON, as a sentence, or ""."""
    import json

    try:
        json.dumps(value)
    except (TypeError, ValueError) as fault:
        return str(fault)
    return ""


class XCom:
    """Airflow's class of that name: the keyword of a return value, and access to stored values from tasks."""

    XCOM_RETURN_KEY = "return_value"

    @classmethod
    def get_one(cls, *, key=None, task_id=None, dag_id=None, run_id=None, map_index=None, include_prior_dates=False,
                **_):
        from . import live

        ti = live.get_current_context()["ti"]
        return ti.fetch_xcom(task_id or ti.task_id, key or cls.XCOM_RETURN_KEY, map_index, dag_id, run_id,
                             include_prior_dates)[0]

    get_value = get_one

    @classmethod
    def set(cls, key, value, *, dag_id=None, task_id=None, run_id=None, map_index=-1, **_):
        from . import live

        ti = live.get_current_context()["ti"]
        push({"type": "SetXCom", "dag_id": dag_id or ti.dag_id, "run_id": run_id or ti.run_id, "key": key,
              "task_id": task_id or ti.task_id, "map_index": map_index, "value": encode(value),
              "map_length": map_length(value)}, "the XCom %r" % key)


BaseXCom = XCom
