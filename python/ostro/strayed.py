"""A child that the author's code has forked and that comes back out of it: it is not the task, and ends as a program does."""

import os
import sys


class CameBack(Exception):
    """The author's function has returned in a child of the task's."""


def check(owner):
    """Raise CameBack in a process other than ``owner``, which the author's code was called in."""
    if os.getpid() != owner:
        raise CameBack("process %d, which the task has forked, came back from its function; it ends here. What it returned is of "
                       "no account: end it with os._exit(), or use multiprocessing" % os.getpid())


def end(fault):
    """End this process for what has left the author's code, and say of an error what Python says, without our frames."""
    from .trace import format_exception

    status, text = 1, ""
    if isinstance(fault, CameBack):
        status, text = 0, "ostro: %s" % fault
    elif not isinstance(fault, SystemExit):
        text = format_exception(fault)
    elif fault.code is None or isinstance(fault.code, int):
        status = (fault.code or 0) & 0xFF
    else:
        text = fault.code
    try:
        if text:
            print(text, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)
