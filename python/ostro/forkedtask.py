"""What a host keeps of a task process it has forked, and whose a process is that a dead task has left behind."""

import signal
import time

from ostro import mphelpers, proctree

MARK = "OSTRO_FORK_ID"
"""The environment variable that tells whose a process is that has left its task's session."""


class ForkedTask:
    """A forked process, and after its end the processes it left that are not gone yet."""

    def __init__(self, fork_id):
        self.fork_id = fork_id
        self.end = None  # the Exited message
        self.strays = set()
        self.held_until = 0.0
        self._trackers = set()  # strays that are let live until then
        self._trackers_until = 0.0

    def ended(self, pid, status, usage):
        """Note how the process ended."""
        self._trackers_until = time.monotonic() + mphelpers.TRACKER_PATIENCE
        self.end = {
            "type": "Exited",
            "fork_id": self.fork_id,
            "pid": pid,
            "status": status,
            "utime": usage.ru_utime,
            "stime": usage.ru_stime,
            "maxrss": usage.ru_maxrss * 1024,
        }

    def end_stray(self, pid):
        """Kill a process it has left behind with all below it; a resource tracker has work to do now, and a moment for it."""
        self.strays.add(pid)
        if time.monotonic() < self._trackers_until and mphelpers.is_tracker(pid):
            self._trackers.add(pid)
            self._kill(proctree.descendants(pid))
        else:
            self._kill([pid] + proctree.descendants(pid))

    def end_trackers(self):
        """Kill the trackers whose time is up."""
        if self._trackers and time.monotonic() >= self._trackers_until:
            late, self._trackers = self._trackers, set()
            for pid in late:
                self._kill([pid] + proctree.descendants(pid))

    def forget_stray(self, pid):
        """Note that one is gone."""
        self.strays.discard(pid)
        self._trackers.discard(pid)

    def next_moment(self):
        """When something is to be done about what it has left."""
        return self._trackers_until if self._trackers else self.held_until

    def _kill(self, tree):
        """Kill and count. Trackers below become children of the host, and then it is their turn."""
        if time.monotonic() < self._trackers_until:
            tree = [pid for pid in tree if not mphelpers.is_tracker(pid)]
        alive = sum(map(proctree.is_alive, tree))
        if alive:
            self.end["orphans"] = self.end.get("orphans", 0) + alive
        proctree.send(tree, signal.SIGKILL)


def owner_of(pid, facts, suspects):
    """Say which of the dead tasks a stray process belonged to, or None."""
    for one in suspects:
        if facts is not None and facts[2] == one.end["pid"]:
            return one
    for one in suspects:
        if proctree.environment_has(pid, "%s=%s" % (MARK, one.fork_id)):
            return one
    return suspects[0] if len(suspects) == 1 else None
