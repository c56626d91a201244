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
# Of what warn_of_task speaks: (subject, DAG) → (index in ``warnings``, the first task's place, the tasks).
_gathered = {}


def configure(mode=None, values=None):
    """Set the compatibility mode and the defaults for the file that is loaded next, and forget old warnings."""
    global compat
    compat = mode or AIRFLOW3
    defaults.clear()
    defaults.update(values or {})
    del warnings[:]
    _told.clear()
    _gathered.clear()


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
    return where


def warn_once(subject, text):
    """Warn unless this subject has been warned of in this file."""
    if subject not in _told:
        _told.add(subject)
        warn(text)


_MOST_TASKS = 3


def warn_of_task(subject, text, task_id, dag_id):
    """Warn of what is the same in many tasks of a DAG once, at the first; ``text`` has a %s where the tasks are named."""
    of_dag = "" if dag_id is None else " of DAG %r" % dag_id
    known = _gathered.get((subject, dag_id))
    if known is None:
        before = len(warnings)
        where = warn(text % ("task %r%s" % (task_id, of_dag)))
        if len(warnings) > before:
            _gathered[subject, dag_id] = before, where, [task_id]
        return
    at, where, tasks = known
    if task_id in tasks or at >= len(warnings):
        return
    tasks.append(task_id)
    names = ", ".join("%r" % one for one in tasks[:_MOST_TASKS])
    more = " and %d more" % (len(tasks) - _MOST_TASKS) if len(tasks) > _MOST_TASKS else ""
    warnings[at] = where + text % ("tasks %s%s%s" % (names, more, of_dag))


_HERE = __file__.rpartition("/")[0] + "/"


def _ours(filename):
    return filename.startswith(_HERE) or filename.startswith("<frozen")


def nearest(word, known):
    """Return " (did you mean 'x'?)" for the closest known word, or ""."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return " (did you mean %r?)" % close[0] if close else ""
