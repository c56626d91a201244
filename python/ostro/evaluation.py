"""Asks the timetable of a DAG, one its author has written, what comes next.

The question runs in a fork of the DAG file's host, like a task: the host itself runs no code of the file after the import.
"""

import json
import os
import select
import signal
import time
import traceback

from . import dates
from .trace import TRACEBACK_CHARACTERS, excerpt

LIMIT = 10  # seconds for one question


def ask(dag, question, become_child):
    """Fork, have the child ask ``dag.timetable``, and return the answer; what goes wrong is told in it."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            become_child()
            _write(theirs, json.dumps(answer(dag, question)).encode())
        except BaseException as fault:
            _write(theirs, json.dumps(_failed(fault)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    try:
        data = _read(ours, time.monotonic() + LIMIT)
    finally:
        os.close(ours)
    if data is None:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if data is None:
        return _told("it did not answer within %d seconds" % LIMIT)
    if not data:
        return _told("its process ended without an answer")
    return json.loads(data.decode())


def _write(fd, data):
    while data:
        data = data[os.write(fd, data):]


def _read(fd, deadline):
    """Read to the end; None when that does not come in time."""
    chunks = []
    while True:
        ready = select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _told(text, trace=""):
    return {"type": "TimetableAnswer", "error": text, "traceback": trace}


def _failed(fault):
    return _told(excerpt("%s: %s" % (type(fault).__name__, fault)), excerpt(traceback.format_exc(), TRACEBACK_CHARACTERS))


def answer(dag, question):
    """Return up to ``limit`` slots after the last run, or the interval of a run by hand."""
    timetable = getattr(dag.timetable, "timetable", dag.timetable)  # the time part of a schedule by assets or time
    if question.get("manual"):
        interval = timetable.infer_manual_data_interval(run_after=dates.shown(question["manual"]))
        return {"type": "TimetableAnswer", "manual": _interval(interval)}
    try:
        slots, complete = _slots(timetable, question)
    except Exception as fault:
        return _failed(fault)
    return {"type": "TimetableAnswer", "slots": slots, "complete": complete}


def _slots(timetable, question):
    from .timetables import DataInterval, TimeRestriction

    last = question.get("after")
    if last is not None:
        last = DataInterval(dates.shown(last["start"]), dates.shown(last["end"]))
    restriction = TimeRestriction(dates.shown(question.get("earliest")), dates.shown(question.get("latest")),
                                  bool(question.get("catchup")))
    slots = []
    while len(slots) < question.get("limit", 1):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        if info is None:
            return slots, True
        interval = _interval(info.data_interval)
        if last is not None and not info.data_interval.start > last.start:
            raise ValueError("next_dagrun_info does not go on: after the run of %s it gives the one of %s"
                             % (last.start, info.data_interval.start))
        slots.append(dict(interval, run_after=dates.wire(info.run_after)))
        last = DataInterval(*map(dates.shown, (interval["start"], interval["end"])))
    return slots, False


def _interval(interval):
    for word in ("start", "end"):
        if getattr(interval, word).tzinfo is None:
            raise ValueError("the %s of a data interval needs a time zone: %s" % (word, getattr(interval, word)))
    return {"start": dates.wire(interval.start), "end": dates.wire(interval.end)}
