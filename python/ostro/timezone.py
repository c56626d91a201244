"""``airflow.utils.timezone``: aware dates."""

import datetime as _dt

from . import dates
from .dates import utc, utcnow  # noqa: F401


def is_localized(value):
    """Say whether a date has a time zone."""
    return value.utcoffset() is not None


def is_naive(value):
    return value.utcoffset() is None


def make_aware(value, timezone=None):
    """Give a naive date a time zone, UTC by default."""
    if is_localized(value):
        raise ValueError("make_aware expects a naive datetime, got %s" % value)
    return value.replace(tzinfo=dates.zone(timezone))


def make_naive(value, timezone=None):
    """Drop the time zone, after moving to ``timezone``."""
    if is_naive(value):
        raise ValueError("make_naive() cannot be applied to a naive datetime")
    return value.astimezone(dates.zone(timezone)).replace(tzinfo=None)


def convert_to_utc(value):
    """Return a date in UTC; a naive one is taken as UTC."""
    if value is None:
        return None
    return dates.shown((value if value.tzinfo else value.replace(tzinfo=utc)).astimezone(utc))


def coerce_datetime(value, tz=None):
    """Return a date as tasks see dates; a naive one gets ``tz``, UTC by default."""
    if value is None:
        return None
    return dates.shown(value if value.tzinfo else value.replace(tzinfo=dates.zone(tz)))


def datetime(*args, **kwargs):
    """Make an aware date; UTC unless tzinfo is given."""
    kwargs.setdefault("tzinfo", utc)
    return dates.shown(_dt.datetime(*args, **kwargs))


def parse(string, timezone=None, *, strict=False):
    """Read a date."""
    return dates.shown(dates.parse(string, timezone))


def parse_timezone(name):
    return dates.zone(name)


def local_timezone():
    return dates.zone("local")


def from_timestamp(timestamp, tz=utc):
    return dates.shown(_dt.datetime.fromtimestamp(timestamp, dates.zone(tz)))


def td_format(td_object):
    """Write a timedelta in words, None for nothing."""
    if not td_object:
        return None
    return dates.Interval(seconds=td_object if isinstance(td_object, (int, float)) else td_object.total_seconds()
                          ).in_words()
