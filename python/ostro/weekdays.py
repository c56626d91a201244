"""Days of the week and times of the day: the enum, the operators that branch on them, the sensor that waits for one."""

import datetime
from enum import IntEnum

from . import dates
from .exceptions import AirflowException
from .operators.python import BaseBranchOperator
from .sensors import BaseSensorOperator
from .settings import nearest


class WeekDay(IntEnum):
    """The days as ISO numbers them."""

    MONDAY = 1
    TUESDAY = 2
    WEDNESDAY = 3
    THURSDAY = 4
    FRIDAY = 5
    SATURDAY = 6
    SUNDAY = 7

    @classmethod
    def get_weekday_number(cls, week_day_str):
        """Return the number of a day by its English name."""
        word = str(week_day_str).upper()
        if word not in cls.__members__:
            raise AttributeError("there is no day of the week %r%s" % (week_day_str, nearest(word, cls.__members__)))
        return cls[word]

    @classmethod
    def convert(cls, day):
        return cls(day) if isinstance(day, int) else cls.get_weekday_number(day)

    @classmethod
    def validate_week_day(cls, week_day):
        """Return the numbers of one day or of several, given as names or members."""
        if not week_day and week_day != 0:
            raise ValueError("week_day must name a day of the week, not %r" % (week_day,))
        if isinstance(week_day, (str, WeekDay)):
            return {cls.convert(week_day)}
        if isinstance(week_day, (set, list, tuple, frozenset, dict)):
            return {cls.convert(day) for day in week_day}
        raise TypeError("week_day must be a day of the week or a set of them, not %r" % (week_day,))


def _moment(operator, context):
    """Return the date a branch looks at, in the DAG's time zone."""
    when = None
    if operator.use_task_logical_date:
        when = context.get("logical_date") or context["dag_run"].run_after
    zone = operator.dag.timezone if operator.dag is not None else dates.utc
    return dates.plain(when or dates.now()).astimezone(zone)


def _old_names(kwargs):
    """Take Airflow 2's names for use_task_logical_date out of the arguments; return their value."""
    values = [kwargs.pop(word, False) for word in ("use_task_execution_date", "use_task_execution_day")]
    return any(values)


class BranchDateTimeOperator(BaseBranchOperator):
    """Follows one side between two dates or times of the day, the other side otherwise."""

    shown_module = "airflow.providers.standard.operators.datetime"

    def __init__(self, *, follow_task_ids_if_true, follow_task_ids_if_false, target_lower, target_upper,
                 use_task_logical_date=False, **kwargs):
        use_task_logical_date = _old_names(kwargs) or use_task_logical_date
        super().__init__(**kwargs)
        if target_lower is None and target_upper is None:
            raise AirflowException("%r needs target_lower or target_upper" % self.task_id)
        self.target_lower, self.target_upper = target_lower, target_upper
        self.follow_task_ids_if_true, self.follow_task_ids_if_false = follow_task_ids_if_true, follow_task_ids_if_false
        self.use_task_logical_date = use_task_logical_date

    def choose_branch(self, context):
        now = _moment(self, context)

        def bound(target):
            if isinstance(target, datetime.time):
                target = datetime.datetime.combine(now.date(), target)
            if target is not None and target.tzinfo is None:
                target = target.replace(tzinfo=now.tzinfo)
            return target

        lower, upper = bound(self.target_lower), bound(self.target_upper)
        times = isinstance(self.target_lower, datetime.time) or isinstance(self.target_upper, datetime.time)
        if lower is not None and upper is not None and upper < lower and times:
            upper += datetime.timedelta(days=1)
        inside = (upper is None or now <= upper) and (lower is None or now >= lower)
        return self.follow_task_ids_if_true if inside else self.follow_task_ids_if_false


class BranchDayOfWeekOperator(BaseBranchOperator):
    """Follows one side on given days of the week, the other side on the rest."""

    shown_module = "airflow.providers.standard.operators.weekday"

    def __init__(self, *, follow_task_ids_if_true, follow_task_ids_if_false, week_day, use_task_logical_date=False,
                 **kwargs):
        use_task_logical_date = _old_names(kwargs) or use_task_logical_date
        super().__init__(**kwargs)
        self.follow_task_ids_if_true, self.follow_task_ids_if_false = follow_task_ids_if_true, follow_task_ids_if_false
        self.week_day, self.use_task_logical_date = week_day, use_task_logical_date
        self._week_day_num = WeekDay.validate_week_day(week_day)

    def choose_branch(self, context):
        if _moment(self, context).isoweekday() in self._week_day_num:
            return self.follow_task_ids_if_true
        return self.follow_task_ids_if_false


class DayOfWeekSensor(BaseSensorOperator):
    """Waits until it is a given day of the week."""

    shown_module = "airflow.providers.standard.sensors.weekday"

    def __init__(self, *, week_day, use_task_logical_date=False, **kwargs):
        use_task_logical_date = _old_names(kwargs) or use_task_logical_date
        super().__init__(**kwargs)
        self.week_day, self.use_task_logical_date = week_day, use_task_logical_date
        self._week_day_num = WeekDay.validate_week_day(week_day)

    def poke(self, context):
        return _moment(self, context).isoweekday() in self._week_day_num
