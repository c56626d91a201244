"""Standard output and error that know how much was written to them.

What a task prints and what it logs reach the worker over different pipes. A log record says how much the process had
printed when it was made, so that the worker can put it where it belongs.
"""

import io
import sys


class _Counted(io.FileIO):
    count = 0

    def write(self, data):
        size = super().write(data)
        if size:
            self.count += size
        return size


_counted = []


def prepare():
    """Make what is printed appear line by line, in UTF-8, and never fail for a character; and count it."""
    _counted.clear()
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


def reset():
    """Begin to count: this process has pipes of its own now."""
    for raw in _counted:
        raw.count = 0


def written():
    """Return how many bytes this process has written to stdout and stderr, None when it does not know."""
    return [raw.count for raw in _counted] if len(_counted) == 2 else None
