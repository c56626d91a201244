"""What the installation decides for DAG files: the compatibility mode and values for arguments an author left out.

The loader sets these before it imports a file; one process serves one file, so they are plain module state.
"""

import datetime

AIRFLOW2, AIRFLOW3 = "airflow2", "airflow3"

compat = AIRFLOW3
defaults = {}
# Sentences about the file being loaded, shown beside its DAGs.
warnings = []
# What warn_once has already spoken of.
_told = set()


def configure(mode=None, values=None):
    """Set the compatibility mode and the defaults for the file that is loaded next, and forget old warnings."""
    global compat
    compat = mode or AIRFLOW3
    defaults.clear()
    defaults.update(values or {})
    del warnings[:]
    _told.clear()


def default(name, otherwise):
    """Return the installation's value for ``name``."""
    value = defaults.get(name)
    return otherwise if value is None else value


def retry_delay():
    return datetime.timedelta(seconds=float(default("default_retry_delay", 300)))


def airflow2():
    """Say whether Airflow 2's defaults apply."""
    return compat == AIRFLOW2


def warn(text, skip_files=()):
    """Note a sentence about the author's line that led here; said once."""
    import sys

    frame = sys._getframe(1)
    while frame is not None and _ours(frame.f_code.co_filename):
        frame = frame.f_back
    where = "%s:%d: " % (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ""
    line = where + text
    if line not in warnings:
        warnings.append(line)


def warn_once(subject, text):
    """Warn unless this subject has been warned of in this file."""
    if subject not in _told:
        _told.add(subject)
        warn(text)


_HERE = __file__.rpartition("/")[0] + "/"


def _ours(filename):
    return filename.startswith(_HERE) or filename.startswith("<frozen")


def nearest(word, known):
    """Return " (did you mean 'x'?)" for the closest known word, or ""."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return " (did you mean %r?)" % close[0] if close else ""
