"""Large XCom values travel as files: the task writes one into its folder, and reads another where the control plane keeps it.

So no message becomes large, and neither do the processes it passes through. Where this cannot be (no folder, a control plane
that does not know of it, a full disk) a value goes into a message like any other.
"""

import itertools
import json
import os

from . import live
from .comms import MAX_SEND, text_of
from .exceptions import CommsError

ABOVE = 256 << 10
"""The most bytes, as JSON, of a value that goes into a message."""

_MOST_BYTES = 6  # of one character
_numbers = itertools.count()


def store(message):
    """Do what the SetXCom request asks for with a file, if the value is large; return whether it is done."""
    context = live.current_context()
    folder = context["ti"].startup.get("scratch") if context is not None else None
    if not folder or not getattr(live.comms, "by_file", False) or _is_small(message["value"]):
        return False
    data = text_of(message["value"])
    if not ABOVE < len(data) <= MAX_SEND:
        return False
    name = "xcom-%d.json" % next(_numbers)
    path = os.path.join(folder, name)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        with open(path, "wb") as out:
            out.write(data)
        del data
        ask = {key: value for key, value in message.items() if key != "value"}
        live.request(dict(ask, type="SetXComFile", file=name))
    except OSError:
        return False
    except CommsError as fault:
        if fault.code != "NOT_SUPPORTED":
            raise
        return False
    finally:
        _remove(path)
    return True


def _is_small(value):
    if isinstance(value, str):
        return len(value) * _MOST_BYTES <= ABOVE
    return not isinstance(value, (list, dict))


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def fetch(ask):
    """Ask for a value with a GetXCom request and return the answer with the value in it."""
    if not getattr(live.comms, "by_file", False):
        return live.request(ask)
    answer = live.request(dict(ask, files=True))
    if not answer.get("file"):
        return answer
    try:
        return dict(answer, value=_read(answer["file"]))
    except (OSError, ValueError):  # it is another value by now, or was changed, as the answer will say
        return live.request(ask)


def _read(path):
    import hashlib

    with open(path, "rb") as kept:
        data = kept.read()
    folder, name = path.split(os.sep)[-2:]
    if hashlib.sha256(data).hexdigest() != folder + name:
        raise ValueError("the file was changed")
    return json.loads(data)
