"""Partitioned schedules: declared as in Airflow and described with the DAG; the control plane cannot compute them."""

from .serialize import shown
from .timetables import AssetTriggeredTimetable, CronTriggerTimetable, Timetable


class _Declared:
    """Keeps what it was given."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def __repr__(self):
        words = [repr(one) for one in self.args] + ["%s=%r" % pair for pair in sorted(self.kwargs.items())]
        return "%s(%s)" % (type(self).__name__, ", ".join(words))


class PartitionMapper(_Declared):
    """Says which partition of a DAG a partition of an asset belongs to."""


class Window(_Declared):
    """Says which partitions make one of the next size."""

    class Direction:
        FORWARD, BACKWARD = "forward", "backward"


class WaitPolicy(_Declared):
    """Says how many partitions of a window are enough."""


def _kinds(base, names):
    return {name: type(name, (base,), {"__module__": __name__, "__doc__": "See %s." % base.__name__})
            for name in names.split()}


globals().update(_kinds(PartitionMapper, "AllowedKeyMapper ChainMapper FanOutMapper FixedKeyMapper IdentityMapper "
                                         "ProductMapper RollupMapper StartOfHourMapper StartOfDayMapper "
                                         "StartOfWeekMapper StartOfMonthMapper StartOfQuarterMapper StartOfYearMapper"))
globals().update(_kinds(Window, "HourWindow DayWindow WeekWindow MonthWindow QuarterWindow YearWindow SegmentWindow"))
globals().update(_kinds(WaitPolicy, "WaitForAll MinimumCount"))


class _Partitioned(Timetable):
    def wire(self):
        return {"kind": "custom", "expression": self.summary, "custom": "airflow.sdk." + type(self).__name__,
                "custom_args": {name: value for name, value in self.serialize().items() if value}}


class CronPartitionTimetable(_Partitioned, CronTriggerTimetable):
    """A run, with a partition key, at each tick."""

    def __init__(self, cron, *, timezone=None, run_offset=None, run_immediately=False,
                 key_format="%Y-%m-%dT%H:%M:%S"):
        super().__init__(cron, timezone=timezone, run_immediately=run_immediately)
        self.run_offset, self.key_format = run_offset, key_format

    def serialize(self):
        return {"cron": self.summary, "run_offset": shown(self.run_offset), "key_format": self.key_format}


class PartitionedAssetTimetable(_Partitioned, AssetTriggeredTimetable):
    """A run for each partition that the assets have in common."""

    summary = "Partitioned asset"

    def __init__(self, assets, partition_mapper_config=None, default_partition_mapper=None):
        super().__init__(assets)
        self.partition_mapper_config = dict(partition_mapper_config or {})
        self.default_partition_mapper = default_partition_mapper

    def serialize(self):
        return {"assets": self.asset_condition.expr(), "default_partition_mapper": shown(self.default_partition_mapper),
                "partition_mapper_config": {repr(asset): shown(mapper)
                                            for asset, mapper in self.partition_mapper_config.items()}}


class PartitionedAtRuntime(_Partitioned):
    """Runs only come from outside; their tasks name the partitions."""

    can_be_scheduled = periodic = False
    summary = "Partitioned at runtime"

    def wire(self):
        return {"kind": "none", "expression": self.summary}
