"""Sensors: tasks that wait for something, in a process (poke) or by looking again later (reschedule)."""

import datetime
import os
import time

from . import dates, live
from .baseoperator import BaseOperator
from .exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    CommsError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from .operators.python import PythonOperator
from .operators.simple import EmptyOperator
from .operators.skipping import SkipMixin

_SHOWN = "airflow.providers.standard.sensors."


class PokeReturnValue:
    """What ``poke`` may return: whether it is done, and the XCom."""

    def __init__(self, is_done, xcom_value=None):
        self.is_done, self.xcom_value = is_done, xcom_value

    def __bool__(self):
        return bool(self.is_done)


def _seconds(value, name):
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise AirflowException("%s must be a number of seconds or a timedelta, not negative: %r" % (name, value))
    return value


def _deferrable(given):
    """Say whether a sensor defers: as told, or else as ``default_deferrable`` of section ``operators`` says."""
    if given is None:
        from .configuration import conf

        return conf.getboolean("operators", "default_deferrable", fallback=False)
    return bool(given)


class BaseSensorOperator(BaseOperator, SkipMixin):
    """Subclasses implement ``poke(context)``, which says whether what they wait for is there."""

    ui_color = "#e6f1f2"
    valid_modes = ("poke", "reschedule")
    inherits_from_skipmixin = True

    def __init__(self, *, poke_interval=60, timeout=604800, soft_fail=False, mode="poke", exponential_backoff=False,
                 max_wait=None, silent_fail=False, never_fail=False, **kwargs):
        super().__init__(**kwargs)
        self.poke_interval, self.timeout = _seconds(poke_interval, "poke_interval"), _seconds(timeout, "timeout")
        if mode not in self.valid_modes:
            raise AirflowException("the mode of sensor %r must be poke or reschedule, not %r" % (self.task_id, mode))
        if soft_fail and never_fail:
            raise ValueError("soft_fail and never_fail are mutually exclusive")
        self.mode, self.soft_fail, self.never_fail, self.silent_fail = mode, soft_fail, never_fail, silent_fail
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else _seconds(max_wait, "max_wait")

    @property
    def reschedule(self):
        return self.mode == "reschedule"

    def poke(self, context):
        raise AirflowException("sensor %s has no poke method" % type(self).__name__)

    def execute(self, context):
        begun, before = time.monotonic(), 0.0  # the clock on the wall may be set meanwhile
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        if first is not None:
            before = max(0.0, time.time() - first.timestamp())
        tries = 1 + (context["task_reschedule_count"] or 0 if self.reschedule else 0)
        while True:
            verdict = self._poke(context)
            if verdict:
                self._tell("Success criteria met. Exiting.")
                return verdict.xcom_value if isinstance(verdict, PokeReturnValue) else None
            took = before + time.monotonic() - begun
            if took > self.timeout:
                self._give_up("Sensor has timed out; run duration of %s seconds exceeds the specified timeout of %s."
                              % (round(took, 1), self.timeout))
            pause = self._pause(tries)
            if self.reschedule:
                raise AirflowRescheduleException(dates.now() + datetime.timedelta(seconds=pause))
            self.wait_between_pokes(pause, context)
            tries += 1

    def resume_execution(self, next_method, next_kwargs, context):
        """Go on after a deferral; a timeout of the trigger is the sensor's own."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as fault:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(fault)) from fault
            raise AirflowSensorTimeout(*fault.args) from fault
        except (AirflowException, TaskDeferralError) as fault:
            if (self.soft_fail or self.never_fail) and not isinstance(fault, AirflowSkipException):
                raise AirflowSkipException(str(fault)) from fault
            raise

    def wait_between_pokes(self, seconds, context):
        """Wait until the next poke; sooner where something else says that it is worth a look."""
        time.sleep(seconds)

    def _poke(self, context):
        try:
            return self.poke(context)
        except (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException) as fault:
            if self.soft_fail:
                raise AirflowSkipException("Skipping due to soft_fail is set to True.") from fault
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from fault
            raise
        except AirflowSkipException:
            raise
        except Exception as fault:
            if self.silent_fail:
                self.log.error("Sensor poke failed", exc_info=(type(fault), fault, fault.__traceback__))
                return False
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from fault
            raise

    def _give_up(self, text):
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(text)
        raise AirflowSensorTimeout(text)

    def _pause(self, tries):
        if not self.exponential_backoff:
            return self.poke_interval
        import hashlib

        base = max(1, int(self.poke_interval * 2 ** min(tries - 2, 30)))
        spread = int(hashlib.sha1(("%s#%s#%d" % (self.dag_id, self.task_id, tries)).encode()).hexdigest(), 16) % base
        pause = min(base + spread, self.timeout)
        return pause if self.max_wait is None else min(pause, self.max_wait)


def poke_mode_only(cls):
    """Mark a sensor that cannot be rescheduled."""
    before = cls.__init__

    def __init__(self, *args, **kwargs):
        if kwargs.get("mode", "poke") != "poke":
            raise ValueError("%s can only run in poke mode" % cls.__name__)
        before(self, *args, **kwargs)

    cls.__init__ = __init__
    return cls


class PythonSensor(BaseSensorOperator):
    """Waits until a function returns something truthy."""

    template_fields = ("templates_dict", "op_args", "op_kwargs")
    shown_module = _SHOWN + "python"
    shown_fields = ("python_callable",)

    def __init__(self, *, python_callable, op_args=None, op_kwargs=None, templates_dict=None, **kwargs):
        super().__init__(**kwargs)
        from .callables import require_callable

        require_callable(python_callable, self.task_id)
        self.python_callable, self.templates_dict = python_callable, templates_dict
        self.op_args, self.op_kwargs = op_args or (), op_kwargs or {}

    def poke(self, context):
        if self.templates_dict:
            context["templates_dict"] = self.templates_dict
        return PythonOperator.call(self, context)


class DecoratedSensorOperator(PythonSensor):
    """@task.sensor"""

    custom_operator_name = "@task.sensor"

    def __init__(self, *, python_callable, task_id=None, multiple_outputs=None, **kwargs):
        super().__init__(python_callable=python_callable, task_id=task_id or python_callable.__name__, **kwargs)


class BashSensor(BaseSensorOperator):
    """Waits until a command returns 0."""

    template_fields = ("bash_command", "env")
    shown_module = _SHOWN + "bash"

    def __init__(self, *, bash_command, env=None, output_encoding="utf-8", retry_exit_code=None, **kwargs):
        super().__init__(**kwargs)
        self.bash_command, self.env = bash_command, env
        self.output_encoding, self.retry_exit_code = output_encoding, retry_exit_code
        self._child = None

    def poke(self, context):
        from .operators.process import run_streaming

        env = dict(os.environ) if self.env is None else dict(self.env)
        run_streaming(["bash", "-c", self.bash_command], self, env=env, encoding=self.output_encoding)
        code, _ = self._child.wait()
        if code and self.retry_exit_code is not None and code != self.retry_exit_code:
            raise AirflowFailException("Command exited with return code %d" % code)
        return code == 0

    def on_kill(self):
        if self._child is not None:
            self._child.kill_tree()


def _delta(value):
    return value if isinstance(value, datetime.timedelta) else datetime.timedelta(minutes=int(value))


class TimeDeltaSensor(BaseSensorOperator):
    """Waits until ``delta`` after the end of the data interval."""

    template_fields = ("delta",)
    shown_module = _SHOWN + "time_delta"

    def __init__(self, *, delta, deferrable=None, end_from_trigger=False, **kwargs):
        super().__init__(**kwargs)
        self.delta, self.deferrable, self.end_from_trigger = delta, _deferrable(deferrable), end_from_trigger

    def _target(self, context):
        return (context.get("data_interval_end") or context["dag_run"].run_after) + _delta(self.delta)

    def poke(self, context):
        return dates.now() > self._target(context)

    def execute(self, context):
        target = self._target(context)
        if not self.deferrable:
            return super().execute(context)
        if dates.now() > target:
            return True
        from .triggers import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=target, end_from_trigger=self.end_from_trigger),
                   method_name="execute_complete", timeout=datetime.timedelta(seconds=self.timeout))

    def execute_complete(self, context, event=None):
        """The time has come."""


class TimeDeltaSensorAsync(TimeDeltaSensor):
    """TimeDeltaSensor that always defers."""

    def __init__(self, **kwargs):
        super().__init__(**dict(kwargs, deferrable=True))


class WaitSensor(BaseSensorOperator):
    """Waits a while from its own start."""

    template_fields = ("time_to_wait",)
    shown_module = _SHOWN + "time_delta"

    def __init__(self, time_to_wait, deferrable=None, **kwargs):
        super().__init__(**kwargs)
        self.time_to_wait, self.deferrable = time_to_wait, _deferrable(deferrable)

    def execute(self, context):
        wait = _delta(self.time_to_wait)
        if not self.deferrable:
            time.sleep(int(wait.total_seconds()))
            return
        from .triggers import TimeDeltaTrigger

        self.defer(trigger=TimeDeltaTrigger(wait, end_from_trigger=True), method_name="execute_complete")

    def execute_complete(self, context, event=None):
        """The time is over."""


class TimeSensor(BaseSensorOperator):
    """Waits until a time of the day."""

    shown_module = _SHOWN + "time"

    def __init__(self, *, target_time, deferrable=None, start_from_trigger=False, end_from_trigger=False,
                 trigger_kwargs=None, **kwargs):
        super().__init__(**kwargs)
        self.target_time, self.deferrable = target_time, _deferrable(deferrable)
        self.start_from_trigger, self.end_from_trigger = start_from_trigger, end_from_trigger

    @property
    def target_datetime(self):
        zone = self.dag.timezone
        today = dates.now(zone)
        return dates.plain(datetime.datetime.combine(today.date(), self.target_time, tzinfo=zone))

    def poke(self, context):
        return dates.now() > self.target_datetime

    def execute(self, context):
        if not self.deferrable:
            return super().execute(context)
        from .triggers import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=self.target_datetime, end_from_trigger=self.end_from_trigger),
                   method_name="execute_complete")

    def execute_complete(self, context, event=None):
        """The time has come."""


class TimeSensorAsync(TimeSensor):
    """TimeSensor that always defers."""

    def __init__(self, **kwargs):
        super().__init__(**dict(kwargs, deferrable=True))


class DateTimeSensor(BaseSensorOperator):
    """Waits until a date."""

    template_fields = ("target_time",)
    shown_module = _SHOWN + "date_time"

    def __init__(self, *, target_time, **kwargs):
        super().__init__(**kwargs)
        self.target_time = target_time.isoformat() if isinstance(target_time, datetime.datetime) else str(target_time)

    @property
    def moment(self):
        return dates.parse(self.target_time)

    def poke(self, context):
        return dates.now() > self.moment


class DateTimeSensorAsync(DateTimeSensor):
    """DateTimeSensor that always defers."""

    def __init__(self, *, start_from_trigger=False, end_from_trigger=False, trigger_kwargs=None, **kwargs):
        super().__init__(**kwargs)
        self.start_from_trigger, self.end_from_trigger = start_from_trigger, end_from_trigger

    def execute(self, context):
        from .triggers import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=self.moment, end_from_trigger=self.end_from_trigger),
                   method_name="execute_complete")

    def execute_complete(self, context, event=None):
        """The time has come."""


class FileSensor(BaseSensorOperator):
    """Waits until a file, or a folder with a file in it, is there; globs work."""

    template_fields = ("filepath", "fs_conn_id")
    shown_module = _SHOWN + "filesystem"

    def __init__(self, *, filepath, fs_conn_id="fs_default", recursive=False, deferrable=None, start_from_trigger=False,
                 trigger_kwargs=None, **kwargs):
        super().__init__(**kwargs)
        self.filepath, self.fs_conn_id, self.recursive = filepath, fs_conn_id, recursive
        self.deferrable, self.start_from_trigger = _deferrable(deferrable), start_from_trigger

    @property
    def path(self):
        base = ""
        if not os.path.isabs(self.filepath):
            from .connection import Connection
            from .exceptions import AirflowNotFoundException

            try:
                base = Connection.get(self.fs_conn_id).extra_dejson.get("path", "")
            except AirflowNotFoundException:
                base = ""
        return os.path.join(base, self.filepath)

    def poke(self, context):
        import glob

        for path in glob.glob(self.path, recursive=self.recursive):
            if os.path.isfile(path):
                self._tell("Found File %s", path)
                return True
            for _, _, files in os.walk(path):
                if files:
                    return True
        return False

    def execute(self, context):
        if not self.deferrable:
            return super().execute(context)
        if self.poke(context):
            return None
        from .triggers import FileTrigger

        # Elsewhere another folder is the current one.
        self.defer(trigger=FileTrigger(filepath=os.path.abspath(self.path), recursive=self.recursive,
                                       poke_interval=self.poke_interval),
                   method_name="execute_complete", timeout=datetime.timedelta(seconds=self.timeout))

    def execute_complete(self, context, event=None):
        if not event:
            raise AirflowException("%s task failed as %s not found." % (self.task_id, self.filepath))
        self._tell("%s completed successfully as %s found.", self.task_id, self.filepath)


class ExternalTaskSensor(BaseSensorOperator):
    """Waits for a task, a group or the whole run of another DAG, for the same logical date or a shifted one."""

    template_fields = ("external_dag_id", "external_task_id", "external_task_ids", "external_task_group_id")
    shown_module = _SHOWN + "external_task"

    def __init__(self, *, external_dag_id, external_task_id=None, external_task_ids=None, external_task_group_id=None,
                 allowed_states=None, skipped_states=None, failed_states=None, execution_delta=None,
                 execution_date_fn=None, check_existence=False, poll_interval=None, deferrable=None, **kwargs):
        if poll_interval is not None:
            kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(**kwargs)
        if external_task_id is not None and external_task_ids is not None:
            raise ValueError("only one of `external_task_id` or `external_task_ids` may be given to ExternalTaskSensor")
        if external_task_group_id is not None and self.external_ids(external_task_id, external_task_ids):
            raise ValueError("only one of `external_task_group_id` and `external_task_id(s)` may be given to "
                             "ExternalTaskSensor")
        if execution_delta is not None and execution_date_fn is not None:
            raise ValueError("only one of `execution_delta` or `execution_date_fn` may be given to ExternalTaskSensor")
        self.external_dag_id, self.external_task_group_id = external_dag_id, external_task_group_id
        self.external_task_id = external_task_id
        self.external_task_ids = self.external_ids(external_task_id, external_task_ids)
        self.allowed_states = _words(allowed_states or ["success"])
        self.skipped_states, self.failed_states = _words(skipped_states or []), _words(failed_states or [])
        overlap = set(self.allowed_states) & set(self.failed_states + self.skipped_states)
        if overlap:
            raise AirflowException("duplicate values in allowed, failed and skipped states: %s" % ", ".join(overlap))
        self.execution_delta, self.execution_date_fn = execution_delta, execution_date_fn
        self.check_existence, self.deferrable = check_existence, _deferrable(deferrable)

    @property
    def poll_interval(self):
        return self.poke_interval

    @staticmethod
    def external_ids(one, several):
        return [one] if one is not None else several

    def _dates(self, context):
        logical = context["logical_date"]
        if self.execution_delta is not None:
            return [logical - self.execution_delta]
        if self.execution_date_fn is not None:
            from .callables import call_with_context

            found = call_with_context(self.execution_date_fn, (logical,), {}, context)
            return list(found) if isinstance(found, (list, tuple)) else [found]
        return [logical]

    def _count(self, moments, states):
        """Return in how many runs the states are reached; for tasks, the share of each run counts."""
        ask = {"dag_id": self.external_dag_id, "logical_dates": [dates.wire(one) for one in moments], "states": states}
        if self.external_task_ids:
            answer = live.request(dict(ask, type="GetTICount", task_ids=list(self.external_task_ids)))
            return answer["count"] / len(self.external_task_ids)
        if self.external_task_group_id is not None:
            del ask["states"]
            ask.update(type="GetTaskStates", task_group_id=self.external_task_group_id)
            runs = live.request(ask).get("task_states") or {}
            return sum(1 for found in runs.values() if found and all(one in states for one in found.values()))
        return live.request(dict(ask, type="GetDRCount"))["count"]

    def _any(self, moments, states):
        if self.external_task_group_id is None:
            return self._count(moments, states) > 0
        runs = live.request({"type": "GetTaskStates", "dag_id": self.external_dag_id,
                             "task_group_id": self.external_task_group_id,
                             "logical_dates": [dates.wire(one) for one in moments]}).get("task_states") or {}
        return any(one in states for found in runs.values() for one in found.values())

    def _what(self):
        if self.external_task_group_id is not None:
            return "DAG %s, task group %s" % (self.external_dag_id, self.external_task_group_id)
        return "DAG %s%s" % (self.external_dag_id, "".join(", task " + one for one in self.external_task_ids or ()))

    def poke(self, context):
        moments, what = self._dates(context), self._what()
        if self.check_existence:
            live.request({"type": "GetDag", "dag_id": self.external_dag_id})
        if self.failed_states and self._any(moments, self.failed_states):
            self._failed(what)
        if self.skipped_states and self._any(moments, self.skipped_states):
            raise AirflowSkipException("the external %s reached a state in the states-to-skip-on list" % what)
        self.log.info("Poking for %s on %s ...", what, ", ".join(map(str, moments)))
        return self._count(moments, self.allowed_states) >= len(moments)

    def _failed(self, what):
        if self.soft_fail:
            raise AirflowSkipException("%s failed. Skipping due to soft_fail." % what)
        raise AirflowException("the external %s failed" % what)

    def _trigger(self, context):
        from .triggers import WorkflowTrigger

        return WorkflowTrigger(
            external_dag_id=self.external_dag_id, external_task_ids=self.external_task_ids,
            external_task_group_id=self.external_task_group_id, logical_dates=self._dates(context),
            allowed_states=self.allowed_states, failed_states=self.failed_states, skipped_states=self.skipped_states,
            poke_interval=self.poke_interval, soft_fail=self.soft_fail)

    def execute(self, context):
        if not self.deferrable:
            return super().execute(context)
        if self.check_existence:
            live.request({"type": "GetDag", "dag_id": self.external_dag_id})
        self.defer(trigger=self._trigger(context), method_name="execute_complete",
                   timeout=datetime.timedelta(seconds=self.timeout) if self.timeout else None)

    def execute_complete(self, context, event=None):
        status = event.get("status") if isinstance(event, dict) else None
        if status == "success":
            self._tell("External %s has executed successfully.", self._what())
        elif status == "skipped":
            raise AirflowSkipException("the external %s reached a state in the states-to-skip-on list" % self._what())
        elif status == "failed":
            self._failed(self._what())
        else:
            raise AirflowException("Error occurred while trying to retrieve task status. Please, check the name of "
                                   "executed task and Dag.")

    def wait_between_pokes(self, seconds, context):
        """Wait until the states change; the server says so."""
        from .triggers import await_runs

        try:
            await_runs(self._trigger(context), seconds)
        except CommsError as fault:
            if fault.code != "NOT_SUPPORTED":
                raise
            time.sleep(seconds)


def _words(states):
    return [str(getattr(one, "value", one)) for one in states]


class ExternalTaskMarker(EmptyOperator):
    """Says that a task of another DAG waits for this one; nothing runs."""

    template_fields = ("external_dag_id", "external_task_id", "logical_date")
    shown_module = _SHOWN + "external_task"

    def __init__(self, *, external_dag_id, external_task_id, logical_date="{{ logical_date.isoformat() }}",
                 execution_date=None, recursion_depth=10, **kwargs):
        super().__init__(**kwargs)
        self.external_dag_id, self.external_task_id = external_dag_id, external_task_id
        self.logical_date, self.recursion_depth = execution_date or logical_date, recursion_depth
