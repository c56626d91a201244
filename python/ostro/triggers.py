"""The triggers of the standard provider.

The control plane waits for most of them by itself and never runs this code; it runs where a class of the user's derives
from one of these, or where its arguments are of a kind only Python knows.
"""

import asyncio
import datetime
import glob
import os

from . import dates, live
from .triggering import BaseEventTrigger, BaseTrigger, TaskSuccessEvent, TriggerEvent

_HOME = "airflow.providers.standard.triggers."


class _Trigger(BaseTrigger):
    module = ""
    names = ()

    def __init__(self, *positional, **given):
        values = dict.fromkeys(self.names)
        values.update(zip(self.names, positional))
        values.update(given)
        for word in values:
            if word not in self.names:
                from .settings import nearest

                raise TypeError("%s() got an unexpected argument %r%s"
                                % (type(self).__name__, word, nearest(word, self.names)))
        super().__init__()
        self.__dict__.update(values)
        self._given = [name for name in self.names if values[name] is not None]

    def serialize(self):
        return "%s%s.%s" % (_HOME, self.module, type(self).__name__), {name: getattr(self, name) for name in self._given}


class DateTimeTrigger(_Trigger):
    """Fires at a moment."""

    module, names = "temporal", ("moment", "end_from_trigger")

    def __init__(self, moment=None, *, target_time=None, end_from_trigger=False):
        if (moment is None) == (target_time is None):
            raise TypeError("DateTimeTrigger takes exactly one of moment= and target_time=")
        if moment is None or isinstance(moment, str):
            moment = dates.parse(str(target_time if moment is None else moment))
        if not isinstance(moment, datetime.datetime):
            raise TypeError("Expected datetime.datetime type for moment. Got %s" % type(moment))
        if moment.tzinfo is None:
            raise ValueError("You cannot pass naive datetimes")
        super().__init__(moment=dates.plain(moment), end_from_trigger=bool(end_from_trigger))

    async def run(self):
        while True:
            left = (self.moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
            if left <= 0:
                break
            await asyncio.sleep(min(left, 60))  # a clock that was set, a machine that slept: look again
        yield TaskSuccessEvent() if self.end_from_trigger else TriggerEvent(self.moment)


class TimeDeltaTrigger(DateTimeTrigger):
    """Fires after a while."""

    def __init__(self, delta, *, end_from_trigger=False):
        super().__init__(dates.now() + delta, end_from_trigger=end_from_trigger)

    def serialize(self):
        return _HOME + "temporal.DateTimeTrigger", {name: getattr(self, name) for name in self._given}


class FileTrigger(_Trigger):
    """Fires when a file is there."""

    module, names = "file", ("filepath", "recursive", "poke_interval")

    def __init__(self, filepath, recursive=False, poke_interval=5.0, **kwargs):
        super().__init__(filepath=filepath, recursive=recursive, poke_interval=poke_interval, **kwargs)

    async def run(self):
        while not await asyncio.get_running_loop().run_in_executor(None, self._there):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(True)

    def _there(self):
        for path in glob.glob(self.filepath, recursive=bool(self.recursive)):
            if os.path.isfile(path) or any(files for _, _, files in os.walk(path)):
                return True
        return False


class FileDeleteTrigger(_Trigger, BaseEventTrigger):
    """Fires when a file is there, and removes it."""

    module, names = "file", ("filepath", "poke_interval")

    def __init__(self, filepath, poke_interval=5.0, **kwargs):
        super().__init__(filepath=filepath, poke_interval=poke_interval, **kwargs)

    async def run(self):
        while not os.path.isfile(self.filepath):
            await asyncio.sleep(self.poke_interval)
        os.remove(self.filepath)
        yield TriggerEvent(True)


class DirectoryFileDeleteTrigger(_Trigger, BaseEventTrigger):
    """Fires when a file of a folder is there, and removes it."""

    module, names = "file", ("directory", "filename", "poke_interval")

    def __init__(self, directory, filename, poke_interval=5.0, **kwargs):
        super().__init__(directory=directory, filename=filename, poke_interval=poke_interval, **kwargs)

    async def run(self):
        path = os.path.join(self.directory, self.filename)
        while not os.path.isfile(path):
            await asyncio.sleep(self.poke_interval)
        os.remove(path)
        yield TriggerEvent(True)


class _RunStateTrigger(_Trigger):
    """Waits for states of other runs; the server tells when they are reached."""

    interval = "poke_interval"

    async def run(self):
        loop = asyncio.get_running_loop()
        while True:
            found = await loop.run_in_executor(None, await_runs, self, max(1.0, float(getattr(self, self.interval) or 2.0)))
            if found:
                yield TriggerEvent(found[0])
                return


def await_runs(trigger, seconds):
    """Wait until a trigger for other runs fires, at most so many seconds; return (payload,) or None."""
    from .xcom import decode, encode

    # The server knows the standard classes, not those that derive from them.
    answer = live.request({
        "type": "AwaitRuns", "classpath": "%s%s.%s" % (_HOME, trigger.module, trigger.known_as), "seconds": seconds,
        "trigger_kwargs": encode({name: getattr(trigger, name) for name in trigger._given}, "the trigger's arguments")})
    return (decode(answer.get("payload")),) if answer.get("fired") else None


class WorkflowTrigger(_RunStateTrigger):
    """Fires when tasks of another DAG have ended."""

    module, known_as = "external_task", "WorkflowTrigger"
    names = ("external_dag_id", "run_ids", "execution_dates", "logical_dates", "external_task_ids",
             "external_task_group_id", "failed_states", "skipped_states", "allowed_states", "poke_interval", "soft_fail")

    def __init__(self, external_dag_id, run_ids=None, execution_dates=None, **kwargs):
        for name in ("failed_states", "skipped_states", "allowed_states"):
            if kwargs.get(name) is not None:
                kwargs[name] = _words(kwargs[name])
        kwargs.setdefault("poke_interval", 2.0)
        kwargs.setdefault("soft_fail", False)
        super().__init__(external_dag_id=external_dag_id, run_ids=run_ids, execution_dates=execution_dates, **kwargs)


class DagStateTrigger(_RunStateTrigger):
    """Fires when runs of another DAG have ended."""

    module, interval, known_as = "external_task", "poll_interval", "DagStateTrigger"
    names = ("dag_id", "states", "run_ids", "execution_dates", "poll_interval")

    def __init__(self, dag_id, states, run_ids=None, execution_dates=None, poll_interval=5.0, **kwargs):
        super().__init__(dag_id=dag_id, states=_words(states), run_ids=run_ids, execution_dates=execution_dates,
                         poll_interval=poll_interval, **kwargs)


def _words(states):
    return [str(getattr(one, "value", one)) for one in states]


__all__ = ["BaseTrigger", "DagStateTrigger", "DateTimeTrigger", "DirectoryFileDeleteTrigger", "FileDeleteTrigger",
           "FileTrigger", "TimeDeltaTrigger", "WorkflowTrigger"]
