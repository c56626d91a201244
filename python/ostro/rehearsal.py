"""Runs a task that does nothing, so that a fork waiting for its real one has touched the memory every task touches.

A fork shares its parent's pages until it writes, and in Python reading counts references, which writes. The first task of
a fork spends most of its time copying those pages; a second one takes a tenth. So the first should not be the author's.
"""

import collections.abc
import logging

from . import context_stack, runner, settings, tasklog
from .dag import DAG
from .operators.python import PythonOperator

_WHEN = "2024-01-01T00:00:00Z"
_STARTUP = {
    "type": "StartupDetails", "kind": "task", "start_date": _WHEN,
    "ti": {"id": "", "attempt_id": "", "dag_id": "rehearsal", "run_id": "rehearsal", "task_id": "t", "map_index": -1,
           "try_number": 1},
    "ti_context": {"dag_run": {
        "dag_id": "rehearsal", "run_id": "rehearsal", "run_type": "manual", "state": "running", "logical_date": _WHEN,
        "data_interval_start": _WHEN, "data_interval_end": _WHEN, "run_after": _WHEN, "conf": {}}},
}


class _Silent:
    """A channel that leads nowhere."""

    def send(self, message):
        """Nothing."""

    def request(self, message):
        return {"found": False}


def _nothing(ds, ti):
    return [ds, ti.task_id]


def _make():
    warnings = settings.warnings[:]
    dag = DAG("rehearsal", schedule=None)
    before = context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:]
    context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:] = [], [], []
    try:
        PythonOperator(task_id="t", python_callable=_nothing, op_kwargs={"ds": "2024-01-01"}, dag=dag)
    finally:
        context_stack.dags[:], context_stack.groups[:], context_stack.scopes[:] = before
        settings.warnings[:] = warnings
    return dag


_dag = None


def prepare():
    """Make what ``run`` needs; call it in the host, after the DAG file's import."""
    global _dag
    if _dag is None:
        _dag = _make()
    for one in (0, 0.0, True, "", b"", None, [], (), set()):  # asked of the first argument of each record; a negative answer
        isinstance(one, collections.abc.Mapping)  # is found slowly, and then remembered by type


def run():
    """Run the task that does nothing, once ``prepare`` was called; leaves logging as it was."""
    loggers = [logging.getLogger(name) for name in (None, "airflow", "airflow.task")]
    kept = [(logger.handlers[:], logger.filters[:]) for logger in loggers]
    for logger in loggers:  # the author's are not for this
        logger.handlers[:] = [one for one in logger.handlers if isinstance(one, tasklog.CommsHandler)]
        logger.filters[:] = []
    try:
        runner.run_task(_STARTUP, _Silent(), _dag)
    finally:
        for logger, (handlers, filters) in zip(loggers, kept):
            logger.handlers[:], logger.filters[:] = handlers, filters
