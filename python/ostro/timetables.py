"""Timetables: when runs come about. The classes only carry what the author wrote; the control plane does the arithmetic."""

import datetime
from collections import namedtuple

from . import dates, settings
from .assets import BaseAsset, as_condition
from .exceptions import AirflowTimetableInvalid

PRESETS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@midnight": "0 0 * * *",
}


class Timetable:
    """The base of all timetables. One of the author's own is asked in the DAG's process what comes next."""

    description = ""
    periodic = True
    can_be_scheduled = True
    run_ordering = ("data_interval_end", "logical_date")
    active_runs_limit = None
    asset_condition = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "wire" not in own and ("next_dagrun_info" in own or "infer_manual_data_interval" in own):
            cls.wire = Timetable.wire  # whatever it derives from, its dates are its author's

    def serialize(self):
        return {}

    @classmethod
    def deserialize(cls, data):
        return cls(**data)

    @property
    def summary(self):
        return type(self).__name__

    def validate(self):
        """Raise AirflowTimetableInvalid if the arguments make no sense."""

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        """Return the run after the last one as a DagRunInfo, None if there is none."""
        raise NotImplementedError("%s: the dates of Airflow's own timetables are computed by the server; a class that "
                                  "derives from one cannot ask it for them" % type(self).__name__)

    def infer_manual_data_interval(self, *, run_after):
        """Return the DataInterval of a run that a person triggers."""
        return DataInterval.exact(run_after)

    def wire(self):
        """Return the schedule as the control plane stores it."""
        if type(self).next_dagrun_info is Timetable.next_dagrun_info:
            raise AirflowTimetableInvalid("the timetable %s has no method next_dagrun_info" % type(self).__name__)
        self.validate()
        out = {"kind": "custom", "expression": self.summary, "custom_args": self.serialize(),
               "custom": "%s.%s" % (type(self).__module__, type(self).__qualname__)}
        if self.active_runs_limit:
            out["active_runs_limit"] = self.active_runs_limit
        if not self.periodic:
            out["not_periodic"] = True
        return out


class NullTimetable(Timetable):
    """Runs only come from outside."""

    can_be_scheduled = periodic = False
    summary = "None"

    def wire(self):
        return {"kind": "none"}


class OnceTimetable(Timetable):
    """One run, at start_date."""

    periodic = False
    summary = "@once"

    def wire(self):
        return {"kind": "once", "expression": "@once"}


class ContinuousTimetable(Timetable):
    """The next run starts when the last one has ended."""

    active_runs_limit = 1
    summary = "@continuous"

    def wire(self):
        return {"kind": "continuous", "expression": "@continuous"}


def _cron_text(cron):
    if not isinstance(cron, str):
        raise AirflowTimetableInvalid("a cron expression must be text, not %r" % (cron,))
    text = cron.strip()
    if text.startswith("@"):
        if text.lower() not in PRESETS:
            raise AirflowTimetableInvalid("unknown preset %r%s" % (cron, settings.nearest(
                text, list(PRESETS) + ["@once", "@continuous"])))
        return text.lower()
    if len(text.split()) not in (5, 6):
        raise AirflowTimetableInvalid("the cron expression %r has %d fields, want 5 (minute hour day month weekday) "
                                      "or 6 (with seconds at the end)" % (cron, len(text.split())))
    return text


def _seconds(delta):
    return delta.total_seconds()


def _is_relative(delta):
    return type(delta).__name__ == "relativedelta"


def _delta_fields(delta):
    if _is_relative(delta):
        names = ("years", "months", "days", "hours", "minutes", "seconds")
        return {"relativedelta": {name: int(getattr(delta, name)) for name in names if getattr(delta, name)},
                "expression": str(delta)}
    if not isinstance(delta, datetime.timedelta):
        raise AirflowTimetableInvalid("want a timedelta or relativedelta, not %r" % (delta,))
    if delta.total_seconds() <= 0:
        raise AirflowTimetableInvalid("schedule interval must be positive, not %s" % (delta,))
    return {"delta": _seconds(delta), "expression": str(delta)}


class _Cron(Timetable):
    kind = ""

    def __init__(self, cron, timezone):
        self._expressions = [_cron_text(cron)]
        self._timezone = timezone

    @property
    def summary(self):
        return ", ".join(self._expressions)

    def wire(self):
        out = {"kind": self.kind, "expression": self.summary, "cron": list(self._expressions)}
        if self._timezone is not None:
            out["timezone"] = self._timezone if isinstance(self._timezone, str) else dates.zone_name(self._timezone)
        return out


class CronDataIntervalTimetable(_Cron):
    """A run at the end of each interval between two ticks (Airflow 2's meaning of cron)."""

    kind = "cron_interval"

    def __init__(self, cron, timezone=None):
        super().__init__(cron, timezone)


class CronTriggerTimetable(_Cron):
    """A run at each tick."""

    kind = "cron_trigger"

    def __init__(self, cron, *, timezone=None, interval=datetime.timedelta(), run_immediately=False):
        super().__init__(cron, timezone)
        self._interval, self._run_immediately = interval, run_immediately

    def wire(self):
        out = super().wire()
        if self._interval:
            out["interval"] = _seconds(self._interval)
        if self._run_immediately:
            now = self._run_immediately
            out["run_immediately"] = _seconds(now) if isinstance(now, datetime.timedelta) else bool(now)
        return out


class MultipleCronTriggerTimetable(CronTriggerTimetable):
    """A run at each tick of several expressions."""

    def __init__(self, *crons, timezone=None, interval=datetime.timedelta(), run_immediately=False):
        if not crons:
            raise ValueError("cron expression required")
        super().__init__(crons[0], timezone=timezone, interval=interval, run_immediately=run_immediately)
        self._expressions = [_cron_text(cron) for cron in crons]


class DeltaDataIntervalTimetable(Timetable):
    """Intervals of one length, a run at the end of each."""

    kind = "delta_interval"

    def __init__(self, delta):
        self._delta = delta
        self._fields = _delta_fields(delta)

    @property
    def summary(self):
        return str(self._delta)

    def wire(self):
        return dict(self._fields, kind=self.kind)


class DeltaTriggerTimetable(DeltaDataIntervalTimetable):
    """A run every so often."""

    kind = "delta_trigger"

    def __init__(self, delta, *, interval=datetime.timedelta()):
        super().__init__(delta)
        self._interval = interval

    def wire(self):
        out = super().wire()
        if self._interval:
            out["interval"] = _seconds(self._interval)
        return out


class EventsTimetable(Timetable):
    """Runs at given moments."""

    def __init__(self, event_dates, restrict_to_events=False, presorted=False, description=None):
        moments = [dates.plain(when) for when in event_dates]
        self.event_dates = moments if presorted else sorted(moments)
        self.restrict_to_events = restrict_to_events
        self.description = description or "%d events" % len(self.event_dates)

    @property
    def summary(self):
        return self.description

    def wire(self):
        out = {"kind": "events", "expression": self.description, "events": [dates.wire(d) for d in self.event_dates]}
        if self.restrict_to_events:
            out["restrict_to_events"] = True
        return out


class AssetTriggeredTimetable(Timetable):
    """A run when assets have been updated."""

    def __init__(self, assets):
        self.asset_condition = as_condition(assets)

    summary = "Asset"

    def wire(self):
        return {"kind": "assets", "expression": "Asset", "assets": self.asset_condition.expr()}


class AssetOrTimeSchedule(Timetable):
    """A run at the timetable's moments and when assets have been updated."""

    def __init__(self, *, timetable, assets=None, datasets=None):
        self.timetable, self.asset_condition = timetable, as_condition(datasets if assets is None else assets)

    @property
    def summary(self):
        return "Asset or " + self.timetable.summary

    def wire(self):
        return {"kind": "asset_or_time", "expression": self.summary, "assets": self.asset_condition.expr(),
                "time": self.timetable.wire()}


DatasetOrTimeSchedule = AssetOrTimeSchedule


class DataInterval(namedtuple("DataInterval", "start end")):
    """A period of data: ``start`` to ``end``."""

    __slots__ = ()

    @classmethod
    def exact(cls, at):
        return cls(at, at)


class TimeRestriction(namedtuple("TimeRestriction", "earliest latest catchup", defaults=(None, None, False))):
    """What limits a timetable: earliest and latest moment and catch-up."""

    __slots__ = ()


class DagRunInfo(namedtuple("DagRunInfo", "run_after data_interval partition_date partition_key", defaults=(None, None))):
    """When a run comes about, and for which data."""

    __slots__ = ()

    @property
    def logical_date(self):
        return self.data_interval.start if self.data_interval else None

    @classmethod
    def exact(cls, at):
        return cls(at, DataInterval.exact(at))

    @classmethod
    def interval(cls, start, end):
        return cls(end, DataInterval(start, end))


def resolve(schedule):
    """Return the timetable that ``schedule=`` means under the current compatibility mode."""
    if schedule is None or schedule == "None":
        return NullTimetable()
    if isinstance(schedule, Timetable):
        return schedule
    if isinstance(schedule, BaseAsset):
        return AssetTriggeredTimetable(schedule)
    if isinstance(schedule, (list, tuple, set)) and schedule and all(isinstance(one, BaseAsset) for one in schedule):
        return AssetTriggeredTimetable(schedule)
    if isinstance(schedule, str):
        word = schedule.strip()
        if word == "@once":
            return OnceTimetable()
        if word == "@continuous":
            return ContinuousTimetable()
        intervals = settings.default("cron_data_intervals", settings.airflow2())
        return CronDataIntervalTimetable(word) if intervals else CronTriggerTimetable(word)
    if isinstance(schedule, datetime.timedelta) or _is_relative(schedule):
        intervals = settings.default("delta_data_intervals", settings.airflow2())
        return DeltaDataIntervalTimetable(schedule) if intervals else DeltaTriggerTimetable(schedule)
    raise ValueError("schedule must be None, a cron expression or preset, a timedelta, a timetable or assets, not %r"
                     % (schedule,))
