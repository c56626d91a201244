"""Sends the task's logging records to the worker; what the task prints stays on stdout and stderr."""

import datetime
import logging
import threading

from .comms import FrameTooLarge, RemoteError
from .outputs import stamp

_LEVELS = ((logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"),
           (logging.INFO, "info"))

# How many records may be on their way in one thread: a signal handler logs while a record is made, and so may the text of
# what is logged. Who logs himself whenever he is shown comes to an end here.
_DEEPEST = 3

# What is left of a text that is too long for a message.
_SHORTENED = 1 << 16


class _Awaited(threading.local):
    """The error that this thread reports, whose record it waits for to be stored; None when it reports none."""

    fault = None


class CommsHandler(logging.Handler):
    """Turns records into LogRecord messages."""

    def __init__(self, comms):
        super().__init__()
        self.comms = comms  # None in a host, whose file logs to nobody once it is imported
        self._depth = 0
        self.awaited = _Awaited()

    def emit(self, record):
        depth = self._depth
        if depth == _DEEPEST or self.comms is None:
            return
        try:
            self._depth = depth + 1
            body = message(record)
            stamp(body)
            fault = self.awaited.fault
            self._send(body, fault is not None and record.exc_info is not None and record.exc_info[1] is fault)
        except Exception:
            self.handleError(record)
        finally:
            self._depth = depth

    def _send(self, body, waits):
        try:
            self._deliver(body, waits)
        except FrameTooLarge:
            for name in ("event", "error"):
                if len(body.get(name, "")) > _SHORTENED:
                    left_out = len(body[name]) - _SHORTENED
                    body[name] = "%s… (%d more characters, too many for one record)" % (body[name][:_SHORTENED], left_out)
            self._deliver(body, waits)

    def _deliver(self, body, waits):
        if waits and getattr(self.comms, "answers_records", False):
            try:
                self.comms.request(dict(body, behind=True))
                return
            except RemoteError:  # in a process that the task has forked
                pass
        self.comms.send(body)


def message(record):
    """Return one record as a LogRecord message."""
    when = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
    level = next((name for limit, name in _LEVELS if record.levelno >= limit), "debug")
    out = {"type": "LogRecord", "time": when.isoformat().replace("+00:00", "Z"), "level": level,
           "event": record.getMessage()}
    if record.name and record.name != "root":
        out["logger"] = record.name
    if record.exc_info and record.exc_info[1] is not None:
        from .trace import format_exception

        out["error"] = format_exception(record.exc_info[1])
    return out


_handler = CommsHandler(None)


def report(text, fault, level=logging.ERROR):
    """Log what the runtime has to say about the task, with an error's traceback, whatever the task has made of logging.

    What the task, its children and its libraries have printed stands before it, so this waits until it is stored.
    """
    before, _handler.awaited.fault = _handler.awaited.fault, fault  # a signal handler may report in between
    try:
        _say(logging.getLogger("airflow.task"), level, text, (), (type(fault), fault, fault.__traceback__))
    finally:
        _handler.awaited.fault = before


def tell(logger, text, *args):
    """Log, for information, what the runtime has to say about the task, whatever the task has made of logging."""
    _say(logger, logging.INFO, text, args, None)


def _say(logger, level, text, args, info):
    logger.log(level, text, *args, exc_info=info)
    if _handler.comms is not None and not _reaches(logger, level):
        _handler.handle(logger.makeRecord(logger.name, level, __file__, 0, text, args, info))


def _reaches(logger, level):
    """Whether a record of a logger comes to the worker."""
    if not logger.isEnabledFor(level):
        return False
    while logger is not None:
        if _handler in logger.handlers:
            return True
        logger = logger.parent if logger.propagate else None
    return False


def install(comms, level="INFO"):
    """Make every logger's records LogRecord messages on ``comms``; replaces what was installed before.

    In a fork of a host that has called ``prepare`` there is little left to do.
    """
    _handler.comms = comms
    if logging.getLogger().handlers != [_handler]:
        prepare(level)


def prepare(level="INFO"):
    """Take over logging as it is after the import of a DAG file."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, (CommsHandler, logging.StreamHandler)):
            root.removeHandler(handler)
    root.addHandler(_handler)
    root.setLevel(level)
    for name in ("airflow.task", "airflow.processor", "airflow"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)
    logging.captureWarnings(True)
