"""Tracebacks for people: the author's frames only, with the paths they know."""

import os
import sys

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SURFACE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "airflow") + os.sep


def is_ours(filename):
    """Say whether a file is part of this runtime (or of Python's import machinery)."""
    return filename.startswith((_OURS, _SURFACE, "<frozen ")) or filename == "<string>"


def _kept(tb):
    """Return the first frame that is the author's; the runtime's own frames above it are left out."""
    while tb is not None and is_ours(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


# Pairs of folders: where the bundle's snapshot is, and where people know its files to be.
shown_paths = []


def format_exception(fault, replace=None):
    """Return the traceback as text, cut to the author's frames; ``replace`` is pairs of path prefixes."""
    import traceback

    report = traceback.TracebackException(type(fault), fault, fault.__traceback__)
    seen = set()
    _trim(report, seen)
    text = "".join(report.format())
    for old, new in shown_paths if replace is None else replace:
        if old and new and old != new:
            text = text.replace(old.rstrip(os.sep) + os.sep, new.rstrip(os.sep) + os.sep)
    return text.rstrip("\n")


def _trim(report, seen):
    if report is None or id(report) in seen:
        return
    seen.add(id(report))
    mine = [frame for frame in report.stack if not is_ours(frame.filename)]
    if mine:
        report.stack[:] = mine
    else:
        # Nothing of the author's: the innermost of ours says at least where.
        report.stack[:] = report.stack[-1:]
    _trim(report.__cause__, seen)
    _trim(report.__context__, seen)


# What is kept of the message and the traceback of an exception; internal/core/excerpt bounds what it is told once more,
# after secrets are masked, and knows the words.
MESSAGE_LINES = 20
MESSAGE_CHARACTERS = 4000
TRACEBACK_CHARACTERS = 60000
_LOGGED, _ENDING = "; the log has them", " characters in all"
_WORDS = 64  # which the words take at most


def excerpt(text, limit=MESSAGE_CHARACTERS, lines=None, where=""):
    """Return the text, or of one that is longer its beginning and how long it is. What was cut once is not cut again."""
    kept = text if lines is None else "\n".join(text.split("\n", lines)[:lines])
    if len(kept) == len(text) <= limit or len(text) <= limit + _WORDS and _ENDING in text[-_WORDS:]:
        return text
    kept = kept[:limit].rstrip()
    length = f"{len(text):,}".replace(",", " ")
    return "%s%s… (%s%s%s)" % (kept, "\n" if "\n" in kept else "", length, _ENDING, where)


def logged(text):
    """Return what ``excerpt`` does for a text that is whole in the task's log."""
    return excerpt(text, where=_LOGGED)


def one_line(fault):
    """Return "ValueError: Model quality too low" for an exception."""
    return excerpt(_whole(fault).split("\n", 1)[0])


def message(fault):
    """Return what ``one_line`` does, and the further lines of the exception's message: they often say what to do."""
    return excerpt(_whole(fault), lines=MESSAGE_LINES, where=_LOGGED)


def _whole(fault):
    from .exceptions import AirflowTaskTerminated, AirflowTaskTimeout

    name = type(fault).__name__
    try:
        text = str(fault)
    except (AirflowTaskTerminated, AirflowTaskTimeout):  # of a signal
        raise
    except BaseException:
        text = "<its message cannot be written>"
    lines = text.strip().splitlines()
    return "%s: %s" % (name, "\n".join(lines)) if lines else name


def last_line(fault, inside=None):
    """Return (file, line) of the innermost frame that is the author's, or inside ``inside``; (None, 0) if none."""
    where, tb = (None, 0), fault.__traceback__
    while tb is not None:
        filename = tb.tb_frame.f_code.co_filename
        if (filename.startswith(inside) if inside else not is_ours(filename)):
            where = (filename, tb.tb_lineno)
        tb = tb.tb_next
    return where


def hook(kind, fault, tb):
    """A sys.excepthook that prints what format_exception returns."""
    sys.stderr.write(format_exception(fault.with_traceback(_kept(tb) or tb)) + "\n")
