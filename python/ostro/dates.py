"""Dates as tasks see them.

Airflow hands out pendulum dates. Where pendulum is installed, so do we; elsewhere :class:`DateTime`, a datetime with the
methods people call on them and the same ``str()``, because a date in an f-string makes a path.
"""

import datetime as _dt
import sys

utc = _dt.timezone.utc

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def zone(name):
    """Return the tzinfo for an IANA name, a tzinfo, or a UTC offset in hours; None is UTC."""
    if name is None:
        return utc
    if isinstance(name, _dt.tzinfo):
        return name
    if isinstance(name, (int, float)):
        return _dt.timezone(_dt.timedelta(hours=name))
    if name.upper() in ("UTC", "Z", "ETC/UTC"):
        return utc
    if name == "local":
        return _dt.datetime.now().astimezone().tzinfo
    if name[0] in "+-":
        hours, _, minutes = name[1:].partition(":")
        delta = _dt.timedelta(hours=int(hours[:2]), minutes=int(minutes or hours[2:] or 0))
        return _dt.timezone(-delta if name[0] == "-" else delta)
    import zoneinfo

    return zoneinfo.ZoneInfo(name)


def zone_name(tz):
    """Return the IANA name of a tzinfo, "UTC" for none; a fixed offset of whole hours becomes Etc/GMT∓h."""
    if tz is None or tz is utc:
        return "UTC"
    for attribute in ("key", "name", "zone"):
        name = getattr(tz, attribute, None)
        if isinstance(name, str) and name:
            return _fixed_name(tz) if name[0] in "+-" else name
    return _fixed_name(tz)


def _fixed_name(tz):
    offset = tz.utcoffset(None)
    if offset is None:
        return "UTC"
    seconds = int(offset.total_seconds())
    if seconds == 0:
        return "UTC"
    if seconds % 3600 == 0:
        return "Etc/GMT%+d" % (-seconds // 3600)
    return "UTC"


class Interval(_dt.timedelta):
    """The difference of two dates, with pendulum's counting methods."""

    def in_seconds(self):
        return int(self.total_seconds())

    def in_minutes(self):
        return int(self.total_seconds() // 60)

    def in_hours(self):
        return int(self.total_seconds() // 3600)

    def in_days(self):
        return self.days

    def in_weeks(self):
        return self.days // 7

    def total_minutes(self):
        return self.total_seconds() / 60

    def total_hours(self):
        return self.total_seconds() / 3600

    def total_days(self):
        return self.total_seconds() / 86400

    def in_words(self, locale=None):
        left, words = abs(self.in_seconds()), []
        for name, size in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
            count, left = divmod(left, size)
            if count:
                words.append("%d %s%s" % (count, name, "" if count == 1 else "s"))
        return " ".join(words) or "0 seconds"


class DateTime(_dt.datetime):
    """A datetime with pendulum's everyday methods; always aware, ``str()`` as pendulum writes it."""

    @classmethod
    def of(cls, when):
        """Make a DateTime of any datetime; a naive one is taken as UTC."""
        return cls(when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond,
                   tzinfo=when.tzinfo or utc, fold=when.fold)

    def __sub__(self, other):
        result = super().__sub__(other)
        if isinstance(result, _dt.timedelta) and not isinstance(result, Interval):
            return Interval(days=result.days, seconds=result.seconds, microseconds=result.microseconds)
        return result

    def __repr__(self):
        return "DateTime(%d, %d, %d, %d, %d, %d, %s)" % (
            self.year, self.month, self.day, self.hour, self.minute, self.second,
            ("%d, " % self.microsecond if self.microsecond else "") + "tzinfo=Timezone(%r)" % self.timezone_name)

    def __format__(self, spec):
        return self.strftime(spec) if "%" in spec else (self.format(spec) if spec else str(self))

    # pendulum says d.date() and d.time() like datetime, and adds these words.
    @property
    def timezone(self):
        return self.tzinfo

    tz = timezone

    @property
    def timezone_name(self):
        return zone_name(self.tzinfo)

    @property
    def offset(self):
        return int(self.utcoffset().total_seconds())

    @property
    def offset_hours(self):
        return self.offset / 3600

    @property
    def int_timestamp(self):
        return int(self.timestamp() // 1)

    @property
    def float_timestamp(self):
        return self.timestamp()

    @property
    def day_of_week(self):
        return self.weekday()

    @property
    def day_of_year(self):
        return self.timetuple().tm_yday

    @property
    def week_of_year(self):
        return self.isocalendar()[1]

    @property
    def days_in_month(self):
        return _days_in_month(self.year, self.month)

    @property
    def quarter(self):
        return (self.month + 2) // 3

    def in_timezone(self, tz):
        return DateTime.of(self.astimezone(zone(tz)))

    in_tz = in_timezone

    def set(self, tz=None, **fields):
        if tz is not None:
            fields["tzinfo"] = zone(tz)
        return self.replace(**fields)

    def on(self, year, month, day):
        return self.replace(year=year, month=month, day=day)

    def at(self, hour, minute=0, second=0, microsecond=0):
        return self.replace(hour=hour, minute=minute, second=second, microsecond=microsecond)

    def naive(self):
        return _dt.datetime(self.year, self.month, self.day, self.hour, self.minute, self.second, self.microsecond)

    def add(self, years=0, months=0, weeks=0, days=0, hours=0, minutes=0, seconds=0, microseconds=0):
        """Calendar units move the wall clock; hours and smaller move the instant, as in pendulum."""
        moved = self
        if years or months:
            total = self.year * 12 + self.month - 1 + years * 12 + months
            year, month = total // 12, total % 12 + 1
            moved = self.replace(year=year, month=month, day=min(self.day, _days_in_month(year, month)))
        if weeks or days:
            moved = moved + _dt.timedelta(weeks=weeks, days=days)
        if hours or minutes or seconds or microseconds:
            step = _dt.timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
            moved = (moved.astimezone(utc) + step).astimezone(moved.tzinfo)
        return DateTime.of(moved)

    def subtract(self, **units):
        return self.add(**{name: -count for name, count in units.items()})

    def start_of(self, unit):
        day = self.replace(hour=0, minute=0, second=0, microsecond=0)
        if unit == "week":
            return day.add(days=-self.weekday())
        starts = {
            "second": {"microsecond": 0}, "minute": {"second": 0, "microsecond": 0},
            "hour": {"minute": 0, "second": 0, "microsecond": 0}, "day": {}, "month": {"day": 1},
            "year": {"month": 1, "day": 1}, "decade": {"year": self.year - self.year % 10, "month": 1, "day": 1},
            "quarter": {"month": self.quarter * 3 - 2, "day": 1},
        }
        if unit not in starts:
            raise ValueError("invalid unit %r for start_of" % (unit,))
        base = self if unit in ("second", "minute", "hour") else day
        return DateTime.of(base.replace(**starts[unit]))

    def end_of(self, unit):
        months = {"month": 1, "quarter": 3, "year": 12, "decade": 120}
        start = self.start_of(unit)
        after = start.add(months=months[unit]) if unit in months else start.add(**{unit + "s": 1})
        return DateTime.of(after - _dt.timedelta(microseconds=1))

    def next(self, day_of_week=None):
        target = self.weekday() if day_of_week is None else int(day_of_week)
        return self.start_of("day").add(days=(target - self.weekday() - 1) % 7 + 1)

    def previous(self, day_of_week=None):
        target = self.weekday() if day_of_week is None else int(day_of_week)
        return self.start_of("day").add(days=-((self.weekday() - target - 1) % 7 + 1))

    def diff(self, other=None, absolute=True):
        delta = (other or now()) - self
        delta = abs(delta) if absolute else delta
        return Interval(seconds=delta.total_seconds())

    def diff_for_humans(self, other=None, absolute=False, locale=None):
        return humanize((other or now()) - self, absolute, other is not None)

    def is_future(self):
        return self > now()

    def is_past(self):
        return self < now()

    def is_leap_year(self):
        return _days_in_month(self.year, 2) == 29

    def is_utc(self):
        return self.offset == 0

    def to_date_string(self):
        return self.strftime("%Y-%m-%d")

    def to_time_string(self):
        return self.strftime("%H:%M:%S")

    def to_datetime_string(self):
        return self.strftime("%Y-%m-%d %H:%M:%S")

    def to_day_datetime_string(self):
        return self.format("ddd, MMM D, YYYY h:mm A")

    def to_iso8601_string(self):
        text = self.isoformat()
        return text[:-6] + "Z" if text.endswith("+00:00") and self.timezone_name == "UTC" else text

    def to_rfc3339_string(self):
        return self.isoformat()

    def to_atom_string(self):
        return self.format("YYYY-MM-DDTHH:mm:ssZ")

    def format(self, pattern, locale=None):
        """Write the date by pendulum's tokens: YYYY-MM-DD HH:mm:ss, [literal text] in brackets."""
        import re

        def token(match):
            word = match.group(0)
            if word[0] == "[":
                return word[1:-1]
            if word[0] == "\\":
                return word[1:]
            return str(self._token(word))

        return re.sub(r"\[[^\]]*\]|\\.|YYYY|YY|Y|MMMM|MMM|MM|M|DDDD|DDD|DD|Do|D|Qo|Q|dddd|ddd|dd|do|d|E|HH|H|hh|h|mm|m|"
                      r"ss|s|S{1,6}|ZZ|Z|zz|z|X|x|A", token, pattern)

    def _token(self, word):
        hour12 = self.hour % 12 or 12
        offset = self.strftime("%z")
        if word[0] == "S":
            return ("%06d" % self.microsecond)[:len(word)]
        return {
            "YYYY": "%04d" % self.year, "YY": "%02d" % (self.year % 100), "Y": self.year, "Q": self.quarter,
            "Qo": _ordinal(self.quarter), "MMMM": _MONTHS[self.month - 1], "MMM": _MONTHS[self.month - 1][:3],
            "MM": "%02d" % self.month, "M": self.month, "DDDD": "%03d" % self.day_of_year, "DDD": self.day_of_year,
            "DD": "%02d" % self.day, "Do": _ordinal(self.day), "D": self.day, "dddd": _DAYS[self.weekday()],
            "ddd": _DAYS[self.weekday()][:3], "dd": _DAYS[self.weekday()][:2], "d": (self.weekday() + 1) % 7,
            "do": _ordinal((self.weekday() + 1) % 7), "E": self.isoweekday(), "HH": "%02d" % self.hour, "H": self.hour,
            "hh": "%02d" % hour12, "h": hour12, "mm": "%02d" % self.minute, "m": self.minute,
            "ss": "%02d" % self.second, "s": self.second, "ZZ": offset, "Z": offset[:3] + ":" + offset[3:],
            "zz": self.timezone_name, "z": self.timezone_name, "X": self.int_timestamp,
            "x": int(self.timestamp() * 1000), "A": "AM" if self.hour < 12 else "PM",
        }[word]


def _ordinal(number):
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return "%d%s" % (number, suffix)


def _days_in_month(year, month):
    following = _dt.date(year + month // 12, month % 12 + 1, 1)
    return (following - _dt.date(year, month, 1)).days


def humanize(delta, absolute=False, relative_to_other=False):
    """Say a time difference in words, counting from the past: positive is "ago"."""
    seconds = delta.total_seconds()
    size, unit = abs(seconds), "second"
    count = int(size)
    for name, length in (("year", 31536000), ("month", 2628000), ("week", 604800), ("day", 86400), ("hour", 3600),
                         ("minute", 60)):
        if size >= length:
            unit, count = name, int(size // length)
            break
    text = "a few seconds" if unit == "second" and count < 11 else "%d %s%s" % (count, unit, "" if count == 1 else "s")
    if absolute:
        return text
    if relative_to_other:
        return text + (" before" if seconds > 0 else " after")
    return text + " ago" if seconds > 0 else "in " + text


_shown = None


def shown_class():
    """Return the function that makes a context date of a datetime: pendulum's when installed, else DateTime.of."""
    global _shown
    if _shown is None:
        _shown = DateTime.of
        if "pendulum" in sys.modules or _installed("pendulum"):
            try:
                import pendulum

                _shown = _pendulum_maker(pendulum)
            except ImportError:
                pass
    return _shown


def _pendulum_maker(pendulum):
    def make(when):
        if isinstance(when, pendulum.DateTime):
            return when
        return pendulum.instance(when if when.tzinfo else when.replace(tzinfo=utc))

    return make


def _installed(name):
    from importlib.machinery import PathFinder

    return PathFinder.find_spec(name) is not None


def shown(when):
    """Return ``when`` (datetime, RFC 3339 text or None) as tasks see dates."""
    if when is None:
        return None
    return shown_class()(parse(when) if isinstance(when, str) else when)


def parse(text, timezone=None, strict=False):
    """Read an ISO 8601 / RFC 3339 date; without an offset it is in ``timezone``, UTC by default."""
    if isinstance(text, _dt.datetime):
        return DateTime.of(text)
    return DateTime.of(_parse(text, zone(timezone)))


def _parse(text, tz):
    clean = text.strip()
    if clean[-1:] in "zZ":
        clean = clean[:-1] + "+00:00"
    head, sep, tail = clean.replace(" ", "T", 1).partition("T")
    if not sep:
        parts = head.split("-") if "-" in head else [head[:4], head[4:6], head[6:8]]
        numbers = [int(part) for part in parts if part] + [1, 1]
        return _dt.datetime(numbers[0], numbers[1], numbers[2], tzinfo=tz)
    # Python 3.9's fromisoformat wants exactly 3 or 6 digits of a second; Go writes up to nine.
    offset = ""
    for sign in "+-":
        position = tail.find(sign)
        if position >= 0:
            tail, offset = tail[:position], tail[position:]
            if len(offset) == 5:
                offset = offset[:3] + ":" + offset[3:]
            elif len(offset) == 3:
                offset += ":00"
            break
    clock, dot, fraction = tail.partition(".")
    if dot:
        clock += "." + (fraction + "000000")[:6]
    if clock.count(":") == 0:
        clock += ":00"
    try:
        when = _dt.datetime.fromisoformat(head + "T" + clock + offset)
    except ValueError:
        raise ValueError("cannot read %r as a date: want 2024-01-31, 2024-01-31T02:00:00 or 2024-01-31T02:00:00+01:00"
                         % (text,)) from None
    return when if when.tzinfo else when.replace(tzinfo=tz)


def plain(when):
    """Return text or any datetime as an ordinary aware datetime, for arithmetic and for the wire."""
    if when is None:
        return None
    if isinstance(when, str):
        return _parse(when, utc)
    return when if when.tzinfo else when.replace(tzinfo=utc)


def wire(when):
    """Return a datetime as RFC 3339 text with microseconds, None for None."""
    if when is None:
        return None
    text = plain(when).isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def now(tz=None):
    """Return the current instant as a DateTime in UTC or ``tz``."""
    return DateTime.of(_dt.datetime.now(utc if tz is None else zone(tz)))


def utcnow():
    """Return the current instant in UTC, as a context date."""
    return shown(_dt.datetime.now(utc))
