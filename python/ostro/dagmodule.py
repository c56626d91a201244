"""The module that a DAG file is: its name, and what another process needs to import it under that name.

A process that has imported a DAG file says in its environment which one, so that the programs its tasks start can import it
as well (see ``ostro_dag``). What the file was told by the server at its top level they are told again, from memory: they
have no channel to ask. Since that may be a password, it is not in the environment but in a file that has no name.
"""

import json
import os

VARIABLE = "OSTRO_DAG_FILE"
_READS = ("GetVariable", "GetConnection")

# The descriptor of the answers, which lives as long as the module, and which file it was.
_answers = None


def name_of(file):
    """Return a module name no other file of the bundle has, so that equal file names do not meet in sys.modules."""
    from zlib import crc32

    stem = "".join(ch if ch.isalnum() else "_" for ch in file.rpartition("/")[2].rpartition(".")[0])
    return "ostro_dag.%08x_%s" % (crc32(file.encode()), stem)


class Recorder:
    """Stands before the channel while a file is imported, and keeps what it answers."""

    def __init__(self, comms):
        self._comms, self.answers = comms, []

    def __getattr__(self, name):
        return getattr(self._comms, name)

    def request(self, message):
        """Ask, and keep the answer or the refusal."""
        kept = None if message.get("type") in _READS else []
        try:
            answer = self._comms.request(message)
        except Exception as fault:
            if kept is None and isinstance(getattr(fault, "code", None), str):
                self.answers.append([message, None, [fault.code, getattr(fault, "message", str(fault))]])
            raise
        if kept is None:
            self.answers.append([message, answer, None])
        return answer


class _Replay:
    """Stands where the channel would be while such a program imports the file."""

    takes_logs = False

    def __init__(self, answers):
        self._answers = {json.dumps(message, sort_keys=True): (answer, fault) for message, answer, fault in answers}

    def send(self, message):
        """Nothing: the process above has told it."""

    def request(self, message):
        """Answer as the process above was answered."""
        from .comms import RemoteError

        if message.get("type") == "MaskSecret":
            return {}
        answer, fault = self._answers.get(json.dumps(message, sort_keys=True)) or (None, [
            "NOT_SUPPORTED", "%s: process %d is a child of the task's; only the task can ask the server"
            % (message.get("type"), os.getpid())])
        if fault is not None:
            raise RemoteError(*fault)
        return answer


def publish(root, file, settings, answers):
    """Say in the environment where the module of ``file`` comes from, for the programs that this process starts."""
    global _answers
    from .comms import identity, out_of_reach

    place = {"root": root, "file": file, "path": os.path.join(root, *file.split("/")), "settings": settings}
    if _answers is not None:
        number, kept = _answers
        if identity(number) == kept:  # else the author's code has closed it, and may have a file of its own there
            os.close(number)
        _answers = None
    if answers:
        number = out_of_reach(os.memfd_create("ostro-answers", os.MFD_CLOEXEC))
        with open(number, "w", closefd=False) as out:
            json.dump(answers, out)
        _answers = number, identity(number)
        place["answers"], place["kept"] = "/proc/%d/fd/%d" % (os.getpid(), number), _answers[1]
    os.environ[VARIABLE] = json.dumps(place)


def place_of(name):
    """Return where the module of that name comes from, None if it is not that of the task above this process."""
    try:
        place = json.loads(os.environ.get(VARIABLE) or "{}")
    except ValueError:
        return None
    return place if place and name_of(place["file"]) == name else None


def execute(module, place):
    """Import the file as ``module`` in a program that a task has started."""
    from . import live, loader

    before = live.comms
    live.comms = before or _Replay(_answers_of(place))
    try:
        loader.execute(module, place["root"], place["file"], *place["settings"])
    finally:
        live.comms = before


def _answers_of(place):
    """Return what the process above was answered, as far as it can be read.

    It cannot by a program of another user, nor when that process is gone or has closed the file. Then whoever asks again
    is told that only the task can.
    """
    from .comms import identity

    if not place.get("answers"):
        return []
    try:
        fd = os.open(place["answers"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with open(fd, encoding="utf-8") as kept:
        if list(identity(fd)) != place.get("kept"):  # it is a file of the author's that has got the number
            return []
        return json.load(kept)
