"""Process trees, read from /proc: who descends from whom, and how to end them all.

A process that is a subreaper (see ``ostro.kernel``) is handed every descendant whose own parent dies, daemonised ones
too, so what this module finds below it is all there is.
"""

import os
import signal
import time


def children(pid):
    """Return the ids of the living and dead (not yet reaped) direct children of ``pid``."""
    found = []
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return found
    for thread in threads:
        try:
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as file:
                found.extend(int(word) for word in file.read().split())
        except FileNotFoundError:
            if os.path.exists("/proc/%d/task/%s" % (pid, thread)):
                return _children_by_scan(pid)  # a kernel without CONFIG_PROC_CHILDREN
        except OSError:
            continue
    return found


def descendants(pid):
    """Return the ids of all processes below ``pid``, parents before their children."""
    found, queue = [], children(pid)
    while queue:
        one = queue.pop(0)
        if one not in found:
            found.append(one)
            queue.extend(children(one))
    return found


def stat(pid):
    """Return (state, parent, session) of a process, or None when it does not exist."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[3])


def is_alive(pid):
    """Tell whether a process exists and has not ended."""
    return (stat(pid) or "Z")[0] not in "ZX"


def environment_has(pid, entry):
    """Tell whether process ``pid`` was executed with ``entry`` ("NAME=value") in its environment."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return entry.encode() in file.read().split(b"\0")
    except OSError:
        return False


def send(pids, signum):
    """Send a signal to each process, ignoring those that are gone."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except OSError:
            pass


def reap():
    """Collect every child that has ended, without waiting. Return False when there is no child at all."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def end_all(grace, patience=2.0, spared=None):
    """End everything below this process: TERM, ``grace`` seconds, KILL until nothing is left or ``patience`` is over.

    Return how many processes had to be ended. This process must be a subreaper. Processes for which ``spared(pid)`` is true
    are let live; what is below them is not.
    """
    if not reap():
        return 0
    me, ended = os.getpid(), set()
    deadline = time.monotonic() + grace
    pause = 0.001
    while True:
        alive = [pid for pid in descendants(me) if is_alive(pid)]
        if spared is not None:
            alive = [pid for pid in alive if not spared(pid)]
            if not alive:
                return len(ended)
        now = time.monotonic()
        signum = signal.SIGTERM if now < deadline else signal.SIGKILL
        send([pid for pid in alive if signum == signal.SIGKILL or pid not in ended], signum)
        ended.update(alive)
        if not reap() or now > deadline + patience:
            return len(ended)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _children_by_scan(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            facts = stat(int(name))
            if facts and facts[1] == pid:
                found.append(int(name))
    return found
