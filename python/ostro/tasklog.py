"""Sends the task's logging records to the worker."""


def install(comms, level="INFO"):
    """Make every logger's records LogRecord messages on ``comms``."""
