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
        started = time.time()
        if self.reschedule:
            first = context["ti"].get_first_reschedule_date(context)
            started = first.timestamp() if first is not None else started
        tries = 1 + (context["task_reschedule_count"] or 0 if self.reschedule else 0)
        while True:
            verdict = self._poke(context)
            if verdict:
                self.log.info("Success criteria met. Exiting.")
                return verdict.xcom_value if isinstance(verdict, PokeReturnValue) else None
            if time.time() - started > self.timeout:
                self._give_up("Sensor has timed out; run duration of %s seconds exceeds the specified timeout of %s."
                              % (round(time.time() - started, 1), self.timeout))
            pause = self._pause(tries)
            if self.reschedule:
                raise AirflowRescheduleException(dates.now() + datetime.timedelta(seconds=pause))
            time.sleep(pause)
            tries += 1

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


class TimeDeltaSensor(BaseSensorOperator):
    """Waits until ``delta`` after the end of the data interval."""

    template_fields = ("delta",)
    shown_module = _SHOWN + "time_delta"

    def __init__(self, *, delta, deferrable=False, **kwargs):
        super().__init__(**kwargs)
        self.delta, self.deferrable = delta, deferrable

    def poke(self, context):
        base = context.get("data_interval_end") or context["dag_run"].run_after
        return dates.now() > base + self.delta


class WaitSensor(BaseSensorOperator):
    """Waits a while from its own start."""

    shown_module = _SHOWN + "time_delta"

    def __init__(self, time_to_wait, deferrable=False, **kwargs):
        super().__init__(**kwargs)
        self.time_to_wait = (time_to_wait if isinstance(time_to_wait, datetime.timedelta)
                             else datetime.timedelta(minutes=time_to_wait))

    def poke(self, context):
        return dates.now() > context["ti"].get_first_reschedule_date(context) + self.time_to_wait


class TimeSensor(BaseSensorOperator):
    """Waits until a time of the day."""

    shown_module = _SHOWN + "time"

    def __init__(self, *, target_time, deferrable=False, **kwargs):
        super().__init__(**kwargs)
        self.target_time = target_time

    def poke(self, context):
        now = dates.now(self.dag.timezone)
        return now.timetz().replace(tzinfo=None) > self.target_time


class DateTimeSensor(BaseSensorOperator):
    """Waits until a date."""

    template_fields = ("target_time",)
    shown_module = _SHOWN + "date_time"

    def __init__(self, *, target_time, **kwargs):
        super().__init__(**kwargs)
        self.target_time = target_time.isoformat() if isinstance(target_time, datetime.datetime) else str(target_time)

    def poke(self, context):
        return dates.now() > dates.parse(self.target_time)


class FileSensor(BaseSensorOperator):
    """Waits until a file, or a folder with a file in it, is there; globs work."""

    template_fields = ("filepath",)
    shown_module = _SHOWN + "filesystem"

    def __init__(self, *, filepath, fs_conn_id="fs_default", recursive=False, deferrable=False, **kwargs):
        super().__init__(**kwargs)
        self.filepath, self.fs_conn_id, self.recursive = filepath, fs_conn_id, recursive

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
                self.log.info("Found File %s", path)
                return True
            for _, _, files in os.walk(path):
                if files:
                    return True
        return False


class ExternalTaskSensor(BaseSensorOperator):
    """Waits for a task, a group or the whole run of another DAG, for the same logical date or a shifted one."""

    template_fields = ("external_dag_id", "external_task_id", "external_task_ids", "external_task_group_id")
    shown_module = _SHOWN + "external_task"

    def __init__(self, *, external_dag_id, external_task_id=None, external_task_ids=None, external_task_group_id=None,
                 allowed_states=None, skipped_states=None, failed_states=None, execution_delta=None,
                 execution_date_fn=None, check_existence=False, poll_interval=2.0, deferrable=False, **kwargs):
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
        self.check_existence, self.poll_interval, self.deferrable = check_existence, poll_interval, deferrable

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
        ask = {"dag_id": self.external_dag_id, "logical_dates": [dates.wire(one) for one in moments], "states": states}
        if self.external_task_ids:
            answer = live.request(dict(ask, type="GetTICount", task_ids=list(self.external_task_ids)))
            return answer["count"] / len(self.external_task_ids)
        return live.request(dict(ask, type="GetDRCount"))["count"]

    def poke(self, context):
        if self.external_task_group_id is not None:
            raise AirflowFailException("external_task_group_id= of task %r cannot be waited for here: the tasks of the "
                                       "group must be named by external_task_ids=" % self.task_id)
        moments = self._dates(context)
        if self.check_existence:
            live.request({"type": "GetDag", "dag_id": self.external_dag_id})
        what = "DAG %s%s" % (self.external_dag_id, "".join(", task " + one for one in self.external_task_ids or ()))
        if self.failed_states and self._count(moments, self.failed_states) > 0:
            if self.soft_fail:
                raise AirflowSkipException("%s failed. Skipping due to soft_fail." % what)
            raise AirflowException("the external %s failed" % what)
        if self.skipped_states and self._count(moments, self.skipped_states) > 0:
            raise AirflowSkipException("the external %s reached a state in the states-to-skip-on list" % what)
        self.log.info("Poking for %s on %s ...", what, ", ".join(map(str, moments)))
        return self._count(moments, self.allowed_states) >= len(moments)


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
