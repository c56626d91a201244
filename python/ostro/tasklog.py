"""Sends the task's logging records to the worker; what the task prints stays on stdout and stderr."""

import datetime
import logging

_LEVELS = ((logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"),
           (logging.INFO, "info"))


class CommsHandler(logging.Handler):
    """Turns records into LogRecord messages."""

    def __init__(self, comms):
        super().__init__()
        self.comms = comms
        self._busy = False

    def emit(self, record):
        if self._busy:
            return
        self._busy = True
        try:
            self.comms.send(message(record))
        except Exception:
            self.handleError(record)
        finally:
            self._busy = False


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


def install(comms, level="INFO"):
    """Make every logger's records LogRecord messages on ``comms``; replaces what was installed before."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, (CommsHandler, logging.StreamHandler)):
            root.removeHandler(handler)
    root.addHandler(CommsHandler(comms))
    root.setLevel(level)
    for name in ("airflow.task", "airflow.processor", "airflow"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)
    logging.captureWarnings(True)
