"""Small helpers that Airflow files import from here and there."""

import datetime

from . import dates
from .exceptions import AirflowException, AirflowTaskTimeout
from .surface import VERSION as version  # noqa: F401

XCOM_RETURN_KEY = "return_value"
ID_LEN = 250
TIMEZONE = dates.utc
NEW_SESSION = None
# For state that outlives every run.
NEVER_EXPIRE = datetime.timedelta.max


def __getattr__(name):
    if name == "TypedDict":
        from typing import TypedDict

        return TypedDict
    if name == "DAGS_FOLDER":
        from .configuration import conf

        return conf.get("core", "dags_folder")
    if name == "BaseAsyncOperator":
        return _async_operator()
    raise AttributeError("module 'airflow' has no attribute %r" % name)


def days_ago(n, hour=0, minute=0, second=0, microsecond=0):
    """Return midnight UTC ``n`` days ago (Airflow 2; a fixed start_date is better)."""
    today = dates.now().replace(hour=hour, minute=minute, second=second, microsecond=microsecond)
    return dates.shown(today - datetime.timedelta(days=n))


def date_range(start_date, end_date=None, num=None, delta=None):
    """Return the dates from ``start_date`` on, ``delta`` apart."""
    out = []
    if not isinstance(delta, datetime.timedelta):
        raise AirflowException("date_range needs a timedelta as delta")
    while (end_date is not None and start_date <= end_date) or (num is not None and len(out) < abs(num)):
        out.append(start_date)
        start_date = start_date + (delta if num is None or num >= 0 else -delta)
    return out


def apply_defaults(function):
    """Kept for its name: default_args are applied to every operator."""
    return function


def exactly_one(*args):
    return sum(map(bool, args)) == 1


def at_most_one(*args):
    return sum(map(bool, args)) <= 1


def chunks(items, chunk_size):
    if not isinstance(chunk_size, int) or chunk_size <= 0:
        raise ValueError("chunk size must be a positive integer")
    for start in range(0, len(items), chunk_size):
        yield items[start:start + chunk_size]


def merge_dicts(dict1, dict2):
    """Return both dicts in one, the second winning, at any depth."""
    out = dict(dict1)
    for key, value in dict2.items():
        out[key] = merge_dicts(out[key], value) if isinstance(out.get(key), dict) and isinstance(value, dict) else value
    return out


def prune_dict(val, mode="strict"):
    """Drop None (strict) or everything falsy (truthy), at any depth."""
    def drop(value):
        return value is None if mode == "strict" else not value

    if isinstance(val, dict):
        return {key: prune_dict(value, mode) for key, value in val.items() if not drop(value)}
    if isinstance(val, list):
        return [prune_dict(value, mode) for value in val if not drop(value)]
    return val


def import_string(dotted_path):
    """Return what a dotted path names."""
    module, dot, name = dotted_path.rpartition(".")
    if not dot:
        raise ImportError("%s doesn't look like a module path" % dotted_path)
    import importlib

    return getattr(importlib.import_module(module), name)


def determine_kwargs(func, args, kwargs):
    """Return those of ``kwargs`` that a function takes."""
    from .callables import Parameters

    parameters = Parameters(func)
    taken = parameters.positional[:len(args)]
    return {key: value for key, value in kwargs.items() if key not in taken
            and (parameters.varkw or key in parameters.names)}


def provide_session(function):
    """Kept for its name: there is no database session in tasks."""
    return function


def create_session(*args, **kwargs):
    raise AirflowException("DAG files and tasks have no access to the database; use the REST API")


def clear_task_instances(*args, **kwargs):
    raise AirflowException("DAG files and tasks have no access to the database; use the REST API")


def get_parsing_context():
    """Return what the file is being parsed for; here always for all its DAGs."""
    return _ParsingContext()


class _ParsingContext:
    dag_id = task_id = None


class LoggingMixin:
    """Gives ``self.log``."""

    def __init__(self, context=None):
        pass

    @property
    def log(self):
        import logging

        return logging.getLogger("%s.%s" % (type(self).__module__, type(self).__qualname__))

    @classmethod
    def logger(cls):
        import logging

        return logging.getLogger("%s.%s" % (cls.__module__, cls.__qualname__))


class timeout:
    """``with timeout(seconds=3):`` raises AirflowTaskTimeout after that time; main thread only."""

    def __init__(self, seconds=1, error_message="Timeout"):
        self.seconds, self.message = seconds, error_message

    def __enter__(self):
        import signal

        def alarm(number, frame):
            raise AirflowTaskTimeout(self.message)

        self._former = signal.signal(signal.SIGALRM, alarm)
        self._left = signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        import signal

        signal.setitimer(signal.ITIMER_REAL, *self._left)
        signal.signal(signal.SIGALRM, self._former)


class DagBag:
    """Reads one DAG file or every file of a folder; for tests of DAG files."""

    def __init__(self, dag_folder=None, include_examples=False, **_):
        import os

        from .loader import load_file

        self.dags, self.import_errors = {}, {}
        folder = os.path.abspath(str(dag_folder or os.getcwd()))
        if os.path.isfile(folder):
            root, files = os.path.dirname(folder), [os.path.basename(folder)]
        else:
            root = folder
            files = sorted(os.path.relpath(os.path.join(base, name), root) for base, _, names in os.walk(root)
                           for name in names if name.endswith(".py"))
        for file in files:
            with open(os.path.join(root, file), "rb") as handle:
                text = handle.read().lower()
            if b"dag" not in text or b"airflow" not in text:
                continue
            result = load_file(root, file)
            self.dags.update(result.dags)
            for error in result.errors:
                self.import_errors[os.path.join(root, file)] = error.get("traceback") or error["message"]

    def get_dag(self, dag_id, session=None):
        return self.dags.get(dag_id)

    @property
    def dag_ids(self):
        return list(self.dags)

    def size(self):
        return len(self.dags)


class _NoTable:
    """A database table of Airflow that tasks and DAG files cannot reach here."""

    def __init__(self, *args, **kwargs):
        raise AirflowException("DAG files and tasks have no access to the database; use the REST API")


class DagModel(_NoTable):
    """See _NoTable."""


class AssetModel(_NoTable):
    """See _NoTable."""


class TaskInstanceKey(tuple):
    """(dag_id, task_id, run_id, try_number, map_index)."""


class AirflowPlugin:
    """Kept for its name: plugins are not loaded."""

    name = None


def hookimpl(function=None, **_):
    """Kept for its name: listeners are not called."""
    return function if function is not None else lambda inner: inner


class PriorityWeightStrategy:
    """Kept for its name: weight_rule= takes downstream, upstream or absolute."""

    def get_weight(self, ti):
        raise NotImplementedError("%s has no get_weight method" % type(self).__name__)


class BaseSecretsBackend:
    """Kept for its name: secrets come from the environment and the server."""


class File:
    """A file as a lineage entity."""

    def __init__(self, url, type_hint=None):
        self.url, self.type_hint = url, type_hint


class ObjectStoragePath:
    """A path in an object store. It can be named and joined; to read or write through it is refused in words."""

    def __init__(self, path="", *more, conn_id=None, **_):
        self._text, self.conn_id = "/".join([str(path).rstrip("/") if more else str(path), *map(str, more)]), conn_id

    def __truediv__(self, other):
        return type(self)(self._text.rstrip("/") + "/" + str(other), conn_id=self.conn_id)

    joinpath = __truediv__

    def __str__(self):
        return self._text

    def __repr__(self):
        return "ObjectStoragePath(%r)" % self._text

    def __fspath__(self):
        return self._text

    @property
    def name(self):
        return self._text.rstrip("/").rpartition("/")[2]

    def __getattr__(self, word):
        if word.startswith("__"):
            raise AttributeError(word)
        raise AirflowException("ObjectStoragePath.%s is not built; use fsspec, boto3 or pandas with the path %s"
                               % (word, self._text))


class Stats:
    """Metrics by name; counted by the server, so nothing happens here."""

    @staticmethod
    def incr(stat, count=1, rate=1, *, tags=None):
        """Nothing."""

    decr = gauge = timing = incr

    @staticmethod
    def timer(*args, **kwargs):
        import contextlib

        return contextlib.nullcontext()


_async_class = None


def _async_operator():
    global _async_class
    if _async_class is None:
        from .baseoperator import BaseOperator

        class BaseAsyncOperator(BaseOperator):
            """Subclasses do their work in ``aexecute(context)``, a coroutine."""

            is_async = True

            async def aexecute(self, context):
                raise NotImplementedError("%s has no aexecute method" % type(self).__name__)

            def execute(self, context):
                import asyncio

                return asyncio.run(self.aexecute(context))

        _async_class = BaseAsyncOperator
    return _async_class
