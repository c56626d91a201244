"""Standard output and error that know how much was written to them.

What a task prints and what it logs reach the worker over different pipes. A log record says how much the process had
printed when it was made, so that the worker can put it where it belongs.
"""

import _thread
import io
import os
import sys


class _Counted(io.FileIO):
    count = 0
    begun = False  # a line, and not ended it; or a write

    def write(self, data):
        self.begun = True
        size = super().write(data)
        if size:
            self.count += size
            try:
                self.begun = data[size - 1] != 10
            except (IndexError, TypeError):  # it is no bytes
                pass
        return size


_counted = []
_streams = []
_owner = 0


def prepare():
    """Make what is printed appear line by line, in UTF-8, and never fail for a character; and count it."""
    _counted.clear()
    _streams.clear()
    for fd, name in ((1, "stdout"), (2, "stderr")):
        try:
            raw = _Counted(fd, "w", closefd=False)
        except OSError:  # closed
            continue
        raw.name = "<%s>" % name
        stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)
        stream.mode = "w"
        before = getattr(sys, name)
        if before is not None:
            before.flush()
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)
        _counted.append(raw)
        _streams.append(stream)


def reset():
    """Begin to count: this process has pipes of its own now."""
    global _owner
    _owner = os.getpid()
    for raw in _counted:
        raw.count, raw.begun = 0, False


def stamp(record):
    """Add to a LogRecord how much this process has printed, if it has begun to count.

    The beginning of a line counts, so it is written.
    """
    if len(_counted) != 2 or os.getpid() != _owner:
        return
    for stream in _streams:
        try:
            stream.flush()
        except (OSError, RuntimeError, ValueError):  # called by a signal handler while it is written, or closed
            pass
    if _thread._count() == 0:
        record["alone"] = True
    out, err = _counted
    record["after"] = [out.count, err.count]
    if out.begun or err.begun:
        record["begun"] = [out.begun, err.begun]
