"""The task instances of a DAG run, as ``dag_run.get_task_instances()`` gives them: Airflow 2's way to look at a run.

They are what the control plane knows at the time of the question, for reading. Airflow 2 gave rows of its database.
"""

from . import dates, live
from .ti import Named

_PAGE = 500  # of them in one answer
_NO_STATE = "null"


def of_run(run, states=None, task_ids=None):
    """Return the instances of ``run`` (a DagRunView), in the DAG's order, in one of ``states`` unless that is None."""
    ask = {"type": "GetTaskInstances", "dag_id": run.dag_id, "run_id": run.run_id, "limit": _PAGE}
    if states is not None:
        several = [states] if isinstance(states, str) else list(states)
        ask["states"] = [_NO_STATE if one is None else str(getattr(one, "value", one)) for one in several]
        if not several:
            return []
    if task_ids is not None:
        ask["task_ids"] = list(task_ids)
    found, where = [], {"place": 0}
    while True:
        answer = live.request(dict(ask, **where))
        page = answer.get("task_instances") or []
        found += [InstanceOfRun(one, run) for one in page]
        if "next" in answer:  # a place, so that nothing is told twice or left out while states change between two answers
            where = {"place": answer["next"]}
            more = bool(answer["next"])
        else:  # a control plane that does not know of places
            where = {"offset": len(found)}
            more = bool(page) and len(found) < answer.get("total", 0)
        if not more:
            return found


class InstanceOfRun(Named):
    """A task instance of a DAG run."""

    def __init__(self, fields, run):
        self.dag_run, self.dag_id, self.run_id = run, run.dag_id, run.run_id
        self.task_id, self.map_index = fields["task_id"], fields.get("map_index", -1)
        self.state = fields.get("state") or None
        self.try_number, self.max_tries = fields.get("try_number", 0), fields.get("max_tries", 0)
        self.start_date, self.end_date, self.queued_dttm = (
            dates.shown(fields.get(name)) for name in ("start_date", "end_date", "queued_at"))
        self.hostname, self.note = fields.get("hostname", ""), fields.get("note") or None
        self._take_in_what_this_task_knows()

    def _take_in_what_this_task_knows(self):
        """What the task that asks says of itself is newer than what the control plane has stored."""
        context = live.current_context()
        mine = context["ti"] if context is not None else None
        if mine is not None and mine.key == self.key and self.state in ("queued", "running"):
            self.state, self.start_date = mine.state, self.start_date or mine.start_date

    @property
    def task(self):
        """The task itself, None if the DAG is another one than that of the task that asks, or has it no more."""
        return self.dag_run.dag.task_dict.get(self.task_id) if self.dag_run.dag is not None else None

    @property
    def operator(self):
        return self.task.task_type if self.task is not None else None

    @property
    def logical_date(self):
        return self.dag_run.logical_date

    execution_date = logical_date

    @property
    def duration(self):
        """Seconds; None until it has ended."""
        if self.start_date is None or self.end_date is None:
            return None
        return (self.end_date - self.start_date).total_seconds()

    @property
    def log_url(self):
        from .ti import log_url

        context = live.current_context()
        base = context["ti"].startup.get("base_url") if context is not None else None
        return log_url(base, *self.key)

    def current_state(self, session=None):
        """Ask again for the state."""
        found = self.dag_run.get_task_instance(self.task_id, map_index=self.map_index)
        return found.state if found is not None else None

    def xcom_pull(self, task_ids=None, **kwargs):
        """Return what a task of this run has stored, by default what this one has."""
        kwargs.setdefault("run_id", self.run_id)
        kwargs.setdefault("dag_id", self.dag_id)
        return live.get_current_context()["ti"].xcom_pull(task_ids=self.task_id if task_ids is None else task_ids, **kwargs)
