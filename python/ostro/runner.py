"""Runs one attempt of a task, or one callback, in the process that calls it."""


def run_task(startup, comms, dag):
    """Run the attempt that ``startup`` (StartupDetails) describes; report through ``comms``; never raises."""


def run_callback(startup, comms, dag):
    """Run the callback that ``startup["callback"]`` names; confirm with CallbacksDone; never raises."""
