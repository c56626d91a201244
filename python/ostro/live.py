"""What a task process is doing now: its channel to the worker and the context of the task it runs."""

comms = None
contexts = []


def current_context():
    """Return the running task's context, None outside a task."""
    return contexts[-1] if contexts else None


def get_current_context():
    """Return the running task's context; raise outside a task."""
    if not contexts:
        raise RuntimeError("there is no context here: get_current_context works only while a task is running")
    return contexts[-1]


def request(message):
    """Ask the control plane; raise when this process has no channel to it."""
    if comms is None:
        from .exceptions import CommsError

        raise CommsError("UNAVAILABLE", "%s needs a running task: nothing here is connected to the server"
                         % message.get("type", "this"))
    try:
        return comms.request(message)
    except Exception as fault:
        from .exceptions import CommsError, error_for

        if isinstance(fault, CommsError) or not isinstance(getattr(fault, "code", None), str):
            raise
        text = getattr(fault, "message", None) or str(fault)
        raise error_for(fault.code, text, getattr(fault, "detail", None)) from None


def send(message):
    """Tell the worker something, if there is one."""
    if comms is not None:
        comms.send(message)
