"""The helper processes that multiprocessing, and loky, start beside a program: resource trackers and fork servers.

A tracker removes the shared memory and semaphores its program has not removed, once nobody holds its pipe open any more; a
fork server ends in the same way. Both are deaf to SIGTERM or of no use when they are killed, so at the end of a task they
are left to do their work, after everything else that may hold their pipes is gone. Where a task is ended by force only
trackers are spared, and for a moment: everybody can make a process look like one.
"""

import os
import sys
import time

from ostro import proctree

PATIENCE = 5.0
"""Seconds that helpers get to end once their pipes are closed; one that has only just been started has to come up first."""

TRACKER_PATIENCE = 2.0
"""Seconds that trackers get for their work when everything else of a task has been killed."""

_OURS = (  # module, its holder of the helper, the attributes with the process id and with our end of the pipe
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", "_fd"),
    ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_pid", "_fd"),
    ("loky.backend.resource_tracker", "_resource_tracker", "_pid", "_fd"),
)
_COMMANDS = tuple(b"from %s import main;" % name.encode() for name, *_ in _OURS)
_TRACKERS = _COMMANDS[1:]


def end_all(grace):
    """End everything below this process, which must be a subreaper; return how many processes had to be ended by force.

    Helpers are not among them if they end by themselves.
    """
    if not proctree.reap():
        return 0
    found = set(_started_here())
    count = proctree.end_all(grace, spared=lambda pid: pid in found or _is_helper(pid, found))
    if found:
        close_pipes()
        _wait_for(found)
    return count + proctree.end_all(grace)


def is_tracker(pid):
    """Whether a process looks like a resource tracker, which removes what its program has left in shared memory."""
    facts = _runs_helper(pid, _TRACKERS) and proctree.stat(pid)
    return bool(facts) and not _runs_helper(facts[1], _TRACKERS)


def _started_here():
    """Return the ids of the helpers this process has started itself, not those it has inherited from a host."""
    return [getattr(holder, pid) for holder, pid, _ in _holders()]


def _is_helper(pid, found):
    """Whether ``pid``, which a program below this one may have started, is a helper; note it in ``found`` if so."""
    if not _runs_helper(pid):
        return False
    facts = proctree.stat(pid)
    if facts is None or _runs_helper(facts[1]):  # a worker that a fork server has forked looks like it
        return False
    found.add(pid)
    return True


def _runs_helper(pid, commands=_COMMANDS):
    """Whether the program of a process is that of a helper."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(commands) for word in words)


def close_pipes():
    """Close our ends of the pipes, so that a helper nobody else needs ends."""
    for holder, pid, pipe in _holders():
        fd = getattr(holder, pipe, None)
        if fd is None:
            continue
        setattr(holder, pipe, None)
        setattr(holder, pid, None)
        try:
            os.close(fd)
        except OSError:
            pass  # the task's code has closed it


def _holders():
    """Yield what holds a helper that is a child of this process, with the names of the attributes."""
    ours = proctree.children(os.getpid())
    for module, holder, pid, pipe in _OURS:
        found = getattr(sys.modules.get(module), holder, None)
        if getattr(found, pid, None) in ours:
            yield found, pid, pipe


def _wait_for(pids):
    deadline, pause = time.monotonic() + PATIENCE, 0.001
    while proctree.reap() and time.monotonic() < deadline:
        if not any(proctree.is_alive(pid) for pid in pids):
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
