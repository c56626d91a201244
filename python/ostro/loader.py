"""Imports a DAG file and collects the DAGs it declares. A file is the author's: whatever it does becomes a sentence."""

import os
import sys

from . import context_stack, dagmodule, dates, finder, live, mapping, settings


class LoadResult:
    """What one file declared: ``dags`` by id, import ``errors`` and ``warnings``, and the bundle's files it read.

    Errors are dicts with the fields of ImportError on the wire.
    """

    def __init__(self):
        self.dags, self.errors, self.warnings, self.modules = {}, [], [], []


class _Place:
    """Where a file really is and where people know it to be."""

    def __init__(self, bundle_path, file, shown_path):
        self.root = os.path.abspath(bundle_path)
        self.file = file.replace("\\", "/")
        self.path = os.path.join(self.root, *self.file.split("/"))
        self.shown_root = shown_path or self.root

    def relative(self, path):
        """Return a path relative to the bundle, or None if it is not inside."""
        for root in (self.root, os.path.realpath(self.root)):
            if path and path.startswith(root + os.sep):
                return path[len(root) + 1:].replace(os.sep, "/")
        return None

    def show(self, text):
        for root in (os.path.realpath(self.root), self.root):
            text = text.replace(root + os.sep, self.shown_root.rstrip(os.sep) + os.sep)
        return text


def load_file(bundle_path, file, shown_path=None, compat="airflow3", defaults=None):
    """Import ``file`` (relative to ``bundle_path``) and return a LoadResult. Never raises for what the file does."""
    place, result = _Place(bundle_path, file, shown_path), LoadResult()
    _make_ready(place, compat, defaults)
    touched = {place.file}
    channel = live.comms
    asked = live.comms = dagmodule.Recorder(channel) if channel is not None else None
    try:
        module = _execute(place)
    except _Refused as refused:
        result.errors.append(refused.error)
    except BaseException as fault:
        result.errors.append(_import_error(fault, place, touched))
    else:
        _collect(module, place, result)
    finally:
        live.comms = channel
        dagmodule.publish(place.root, place.file, [compat, defaults], asked.answers if asked is not None else [])
    result.modules = sorted(touched | _modules_of(place))
    for dag in result.dags.values():
        mapping.mapped_over(dag)
    _ready([task for dag in result.dags.values() for task in dag.tasks])
    result.warnings = [place.show(text) for text in settings.warnings]
    return result


def _make_ready(place, compat, defaults):
    finder.install()
    finder.evict()
    settings.configure(compat, defaults)
    context_stack.reset()
    if place.root in sys.path:
        sys.path.remove(place.root)
    sys.path.insert(0, place.root)


def execute(module, bundle_path, file, compat, defaults):
    """Import a DAG file as ``module``, for what is in it beside its DAGs; raises what the file raises."""
    place = _Place(bundle_path, file, bundle_path)
    _make_ready(place, compat, defaults)
    module.__file__ = place.path
    try:
        exec(_compile(_read(place), place), module.__dict__)
    except _Refused as refused:
        raise ImportError(str(refused), name=module.__name__, path=place.path) from None


# What in a template or a parameter list means that a task will see a date.
_DATE_WORDS = ("execution_date", "logical_date", "data_interval", "start_date", "end_date", "run_after", "macros.")


def _ready(tasks):
    """Import what the tasks will need, once here rather than in every one of them."""
    for module in {name for task in tasks for name in task.operator_class.runtime_modules}:
        __import__(module)
    if any(_shows_dates(task) for task in tasks):
        dates.shown_class()  # imports pendulum, if there is one


def _shows_dates(task):
    function = task.__dict__.get("python_callable") or task.__dict__.get("partial_kwargs", {}).get("python_callable")
    code = getattr(function, "__code__", None)
    if code is not None:
        names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        if code.co_flags & 0x08 or any(word in name for name in names for word in _DATE_WORDS):
            return True
    return any("{{" in text and word in text for text in map(repr, (
        task.__dict__.get(name) for name in task.operator_class.template_fields)) for word in _DATE_WORDS)


class _Refused(Exception):
    """The file could not even be compiled; carries the finished error."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.error = error


def _error(place, message, line=0, traceback="", dag_id=""):
    from .trace import TRACEBACK_CHARACTERS, excerpt

    out = {"file": place.file, "message": excerpt(message)}
    if dag_id:
        out["dag_id"] = dag_id
    if line:
        out["line"] = line
    if traceback:
        out["traceback"] = excerpt(traceback, TRACEBACK_CHARACTERS)
    return out


def _read(place):
    try:
        with open(place.path, "rb") as handle:
            return handle.read()
    except OSError as fault:
        raise _Refused(_error(place, "cannot read the file: %s" % (fault.strerror or fault))) from None


def _execute(place):
    import types

    code = _compile(_read(place), place)
    name = dagmodule.name_of(place.file)
    former = name.replace(".", "_")  # in what was pickled before the module had a name that other programs can import
    module = types.ModuleType(name)
    module.__file__ = place.path
    sys.modules[name] = sys.modules[former] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        for one in (name, former):
            sys.modules.pop(one, None)
        raise
    return module


def _compile(data, place):
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError as fault:
        if b"coding" not in b"\n".join(data.split(b"\n", 2)[:2]):
            before = data[:fault.start]
            line = before.count(b"\n") + 1
            column = fault.start - (before.rfind(b"\n") + 1) + 1
            raise _Refused(_error(place, "the file is not UTF-8: byte 0x%02x at line %d, column %d"
                                  % (data[fault.start], line, column), line)) from None
        source = data
    try:
        return compile(source, place.path, "exec", dont_inherit=True)
    except SyntaxError as fault:
        raise _Refused(_syntax_error(fault, place)) from None
    except ValueError as fault:
        raise _Refused(_error(place, "the file cannot be compiled: %s" % fault)) from None


def _syntax_error(fault, place):
    import traceback

    inside = place.relative(fault.filename) if fault.filename else place.file
    where = "" if inside in (None, place.file) else " in %s" % (inside,)
    message = "%s: %s%s (line %s, column %s)" % (type(fault).__name__, fault.msg, where, fault.lineno, fault.offset)
    text = "".join(traceback.format_exception_only(type(fault), fault)).rstrip()
    return _error(place, message, fault.lineno or 0, place.show(text))


def _import_error(fault, place, touched):
    """Turn whatever the import raised into an error with the author's line."""
    from .trace import TRACEBACK_CHARACTERS, excerpt, format_exception, last_line, one_line

    tb = fault.__traceback__
    while tb is not None:
        inside = place.relative(tb.tb_frame.f_code.co_filename)
        if inside:
            touched.add(inside)
        tb = tb.tb_next
    if isinstance(fault, SyntaxError) and fault.filename:
        inside = place.relative(fault.filename)
        if inside:
            touched.add(inside)
        out = _syntax_error(fault, place)
        out["line"] = _line_in(fault, place) or out.get("line", 0)
        out["traceback"] = excerpt(place.show(format_exception(fault)), TRACEBACK_CHARACTERS)
        return out
    line = _line_in(fault, place)
    if isinstance(fault, SystemExit):
        given = "" if fault.code is None else repr(fault.code) if not isinstance(fault.code, int) else str(fault.code)
        message = "the file calls sys.exit(%s) at import, line %d" % (given, line or last_line(fault)[1])
    elif isinstance(fault, KeyboardInterrupt):
        message = "the import was interrupted (KeyboardInterrupt), line %d" % line
    else:
        message = one_line(fault).replace(" (unknown location)", "") + _hint(fault)
    return _error(place, place.show(message), line, place.show(format_exception(fault)))


def _line_in(fault, place):
    """Return the line of the DAG file itself that led to the error; the innermost one."""
    line, tb = 0, fault.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename == place.path:
            line = tb.tb_lineno
        tb = tb.tb_next
    return line


def _hint(fault):
    """Say what is nearest when a name of the import surface is misspelt, and what to install when a package is missing."""
    text = str(fault)
    if isinstance(fault, ImportError) and text.startswith("cannot import name") and (fault.name or "").startswith(
            "airflow"):
        from . import surface

        wanted = text.split("'")[1]
        if fault.name in surface.MODULES:
            return settings.nearest(wanted, surface.names(fault.name))
    if isinstance(fault, ModuleNotFoundError) and fault.name and not fault.name.startswith("airflow"):
        return _how_to_install(fault.name.partition(".")[0])
    return ""


# Packages that have another name than what is imported, and the common ones that have the same.
_PACKAGES = {"PIL": "pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
             "dotenv": "python-dotenv", "git": "GitPython", "jwt": "PyJWT", "psycopg2": "psycopg2-binary",
             "skimage": "scikit-image", "sklearn": "scikit-learn", "slack_sdk": "slack-sdk", "yaml": "pyyaml"}
_PACKAGES.update((name, name) for name in (
    "boto3 catboost dask duckdb fsspec jinja2 joblib kubernetes lightgbm matplotlib mlflow numpy onnx optuna pandas pendulum "
    "polars psycopg pyarrow pydantic pyspark pytz redis requests s3fs scipy seaborn sqlalchemy statsmodels tensorflow torch "
    "torchvision tqdm transformers xgboost").split())


def _how_to_install(name):
    if name in _PACKAGES:
        return " (not installed in this Python: %s -m pip install %s)" % (sys.executable, _PACKAGES[name])
    return (" (neither a module of the bundle nor installed in this Python; if it is a package's: %s -m pip install PACKAGE)"
            % sys.executable)


def _modules_of(place):
    """Return the bundle's files that are imported now, relative to its root."""
    out = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        inside = place.relative(path) if isinstance(path, str) else None
        if inside and inside.endswith(".py"):
            out.add(inside)
    return out


def _collect(module, place, result):
    from .dag import DAG
    from .template import warn_of_templates

    found = []
    for value in list(module.__dict__.values()) + context_stack.registered:
        if isinstance(value, DAG) and not any(value is one for one in found):
            found.append(value)
    for dag in found:
        dag.settle(place.path)
        first = result.dags.get(dag.dag_id)
        if first is not None:
            result.errors.append(_error(
                place, "two DAGs of this file have the id %r: line %d and line %d"
                % (dag.dag_id, min(first.lineno, dag.lineno), max(first.lineno, dag.lineno)), dag.lineno,
                dag_id=dag.dag_id))
            continue
        dag.bundle_path, dag.relative_file = place.root, place.file
        fault = _describe_fault(dag)
        if fault is not None:
            result.errors.append(_dag_error(fault, dag, place))
            continue
        _check_default_args(dag)
        warn_of_templates(dag)
        result.dags[dag.dag_id] = dag


def _check_default_args(dag):
    """Warn of a default argument that no task takes and that looks like one they do take."""
    from .baseoperator import BaseOperator, all_arguments

    classes = {task.operator_class for task in dag.tasks} | {BaseOperator}
    known = set().union(*map(all_arguments, classes)) | {"params", "start_date", "end_date"}
    for word in dag.default_args:
        hint = settings.nearest(word, known) if isinstance(word, str) and word not in known else ""
        if hint:
            settings.warn("default_args of DAG %r has %r, which none of its tasks takes%s" % (dag.dag_id, word, hint))


def _describe_fault(dag):
    from .serialize import describe

    try:
        dag._described = describe(dag)
    except Exception as fault:
        return fault
    return None


def _dag_error(fault, dag, place):
    from .trace import format_exception, one_line

    return _error(place, place.show(one_line(fault)), dag.lineno, place.show(format_exception(fault)), dag.dag_id)
