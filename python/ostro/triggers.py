"""The triggers of the standard provider: declared and written down; what waits for them is the control plane."""

from . import dates
from .sdk_extras import BaseTrigger


class _Trigger(BaseTrigger):
    module = ""
    names = ()

    def __init__(self, *positional, **given):
        values = dict(zip(self.names, positional), **given)
        for word in values:
            if word not in self.names:
                from .settings import nearest

                raise TypeError("%s() got an unexpected argument %r%s"
                                % (type(self).__name__, word, nearest(word, self.names)))
        super().__init__()
        self.__dict__.update(values)
        self._given = values

    def serialize(self):
        return "airflow.providers.standard.triggers.%s.%s" % (self.module, type(self).__name__), dict(self._given)


class DateTimeTrigger(_Trigger):
    """Fires at a moment."""

    module, names = "temporal", ("moment", "end_from_trigger", "target_time")

    def __init__(self, moment=None, *, target_time=None, end_from_trigger=False):
        if (moment is None) == (target_time is None):
            raise TypeError("DateTimeTrigger takes exactly one of moment= and target_time=")
        super().__init__(moment=dates.plain(moment or dates.parse(str(target_time))), end_from_trigger=end_from_trigger)


class TimeDeltaTrigger(DateTimeTrigger):
    """Fires after a while."""

    def __init__(self, delta, *, end_from_trigger=False):
        super().__init__(dates.now() + delta, end_from_trigger=end_from_trigger)

    def serialize(self):
        return "airflow.providers.standard.triggers.temporal.DateTimeTrigger", dict(self._given)


class FileTrigger(_Trigger):
    """Fires when a file is there."""

    module, names = "file", ("filepath", "recursive", "poke_interval")


class FileDeleteTrigger(_Trigger):
    """Fires when a file is there, and removes it."""

    module, names = "file", ("filepath", "poke_interval")


class DirectoryFileDeleteTrigger(_Trigger):
    """Fires when a file of a folder is there, and removes it."""

    module, names = "file", ("directory", "filename", "poke_interval")


class WorkflowTrigger(_Trigger):
    """Fires when tasks of another DAG have ended."""

    module = "external_task"
    names = ("external_dag_id", "run_ids", "execution_dates", "logical_dates", "external_task_ids",
             "external_task_group_id", "failed_states", "skipped_states", "allowed_states", "poke_interval", "soft_fail")


class DagStateTrigger(_Trigger):
    """Fires when runs of another DAG have ended."""

    module, names = "external_task", ("dag_id", "states", "run_ids", "execution_dates", "poll_interval")


__all__ = ["BaseTrigger", "DagStateTrigger", "DateTimeTrigger", "DirectoryFileDeleteTrigger", "FileDeleteTrigger",
           "FileTrigger", "TimeDeltaTrigger", "WorkflowTrigger"]
