"""What a host keeps of a task process it has forked, and whose a process is that a dead task has left behind."""

from ostro import proctree


class ForkedTask:
    """A forked process, and after its end the processes it left that are not gone yet."""

    def __init__(self, attempt_id):
        self.attempt_id = attempt_id
        self.end = None  # the Exited message
        self.strays = set()
        self.held_until = 0.0


def owner_of(pid, facts, suspects):
    """Say which of the dead tasks a stray process belonged to, or None."""
    for one in suspects:
        if facts is not None and facts[2] == one.end["pid"]:
            return one
    for one in suspects:
        if proctree.environment_has(pid, "OSTRO_ATTEMPT_ID=" + one.attempt_id):
            return one
    return suspects[0] if len(suspects) == 1 else None
