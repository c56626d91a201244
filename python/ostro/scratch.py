"""Where a task has its temporary folders: in its attempt's place, which the worker removes after the attempt whatever happens."""

import os

from . import live


def place(startup=None):
    """Return the attempt's folder, made if need be; None (the system's folder for such things) where there is none.

    ``startup`` is what the attempt was started with; without it, that of the task that runs in this process.
    """
    if startup is None:
        startup = getattr(live.contexts[-1].get("ti"), "startup", None) if live.contexts else None
    attempt = (startup or {}).get("scratch")
    if not attempt:
        return None
    os.makedirs(attempt, mode=0o700, exist_ok=True)
    return attempt
