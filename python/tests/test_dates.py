"""DateTime writes and computes as pendulum does; each case is asked of both."""

import datetime

import pendulum
import pytest

from ostro import dates

MOMENTS = [
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=datetime.timezone.utc),
    datetime.datetime(2023, 12, 31, 12, 5, 9, tzinfo=datetime.timezone.utc),
]
SHOWN = [
    str, lambda d: f"{d}", lambda d: d.isoformat(), lambda d: d.to_date_string(), lambda d: d.to_datetime_string(),
    lambda d: d.to_time_string(), lambda d: d.to_iso8601_string(), lambda d: d.to_rfc3339_string(),
    lambda d: d.to_atom_string(), lambda d: d.to_day_datetime_string(), lambda d: d.int_timestamp,
    lambda d: d.float_timestamp, lambda d: d.day_of_year, lambda d: d.week_of_year, lambda d: d.quarter,
    lambda d: d.days_in_month, lambda d: d.timezone_name, lambda d: d.offset, lambda d: d.is_leap_year(),
    lambda d: d.strftime("%Y%m%dT%H%M%S"), lambda d: str(d.date()), lambda d: str(d.naive()),
    lambda d: str(d.add(months=1)), lambda d: str(d.add(days=40, hours=3)), lambda d: str(d.subtract(years=1, weeks=1)),
    lambda d: str(d.subtract(months=3)), lambda d: str(d + datetime.timedelta(days=1)),
    lambda d: str(d - datetime.timedelta(hours=1)), lambda d: (d - d.subtract(days=3)).in_days(),
    lambda d: (d.add(hours=5) - d).in_hours(), lambda d: (d.add(hours=5) - d).total_seconds(),
    lambda d: str(d.in_timezone("Europe/Amsterdam")), lambda d: str(d.in_tz("America/New_York").add(months=6)),
    lambda d: str(d.replace(hour=3)), lambda d: str(d.set(day=2)), lambda d: str(d.at(4, 5)),
    lambda d: str(d.next()), lambda d: str(d.previous()),
    lambda d: d.diff_for_humans(d.add(days=3)), lambda d: d.diff_for_humans(d.subtract(hours=2)),
] + [lambda d, unit=unit: str(d.start_of(unit)) for unit in ("hour", "day", "week", "month", "quarter", "year", "decade")
     if unit != "quarter"] + [
    lambda d, unit=unit: str(d.end_of(unit)) for unit in ("minute", "hour", "day", "week", "month", "year")]
PATTERNS = ["YYYY-MM-DD", "YYYY-MM-DD HH:mm:ss", "dddd Do [of] MMMM YYYY", "ddd D MMM YY, h:mm A", "DDDD DDD Q E d",
            "YYYY-MM-DD[T]HH:mm:ss.SSSSSSZ", "X", "x", "H:m:s SSS ZZ z"]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_it_shows_what_pendulum_shows(moment, number):
    show = SHOWN[number]
    assert show(dates.DateTime.of(moment)) == show(pendulum.instance(moment))


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_formats_as_pendulum_formats(moment, pattern):
    assert dates.DateTime.of(moment).format(pattern) == pendulum.instance(moment).format(pattern)


def test_daylight_saving_moves_hours_on_the_instant_and_days_on_the_wall_clock():
    ours = dates.DateTime(2024, 3, 30, 12, tzinfo=dates.zone("Europe/Amsterdam"))
    theirs = pendulum.datetime(2024, 3, 30, 12, tz="Europe/Amsterdam")
    assert str(ours.add(days=1)) == str(theirs.add(days=1))
    assert str(ours.add(hours=24)) == str(theirs.add(hours=24))


def test_context_dates_are_pendulums_where_it_is_installed_and_ours_elsewhere(monkeypatch):
    monkeypatch.setattr(dates, "_shown", None)
    assert isinstance(dates.shown("2024-01-01T00:00:00Z"), pendulum.DateTime)
    monkeypatch.setattr(dates, "_shown", None)
    monkeypatch.setattr(dates, "_installed", lambda name: False)
    monkeypatch.delitem(__import__("sys").modules, "pendulum")
    assert type(dates.shown("2024-01-01T00:00:00Z")) is dates.DateTime


@pytest.mark.parametrize("text, want", [
    ("2024-01-31", "2024-01-31 00:00:00+00:00"), ("2024-01-31T02:03", "2024-01-31 02:03:00+00:00"),
    ("2024-01-31 02:03:04", "2024-01-31 02:03:04+00:00"), ("2024-01-31T02:03:04Z", "2024-01-31 02:03:04+00:00"),
    ("2024-01-31T02:03:04.5+01:00", "2024-01-31 02:03:04.500000+01:00"),
    ("2024-01-31T02:03:04.123456789Z", "2024-01-31 02:03:04.123456+00:00"),
    ("2024-01-31T02:03:04-0500", "2024-01-31 02:03:04-05:00"), ("20240131", "2024-01-31 00:00:00+00:00"),
])
def test_dates_are_read(text, want):
    assert str(dates.parse(text)) == want


def test_a_wrong_date_is_told():
    with pytest.raises(ValueError, match="cannot read '2024-01-01T99:00' as a date"):
        dates.parse("2024-01-01T99:00")


@pytest.mark.parametrize("tz, name", [
    (datetime.timezone.utc, "UTC"), (None, "UTC"), (datetime.timezone(datetime.timedelta(hours=2)), "Etc/GMT-2"),
    (dates.zone("Europe/Amsterdam"), "Europe/Amsterdam"), (pendulum.timezone("Asia/Tokyo"), "Asia/Tokyo"),
])
def test_zones_have_iana_names(tz, name):
    assert dates.zone_name(tz) == name
