"""What templates find under ``macros``."""

import datetime as _module
import random  # noqa: F401
import time  # noqa: F401

datetime = _module.datetime
timedelta = _module.timedelta


def __getattr__(name):
    if name in ("uuid", "json"):
        return __import__(name)
    if name in ("dateutil", "yaml"):
        try:
            if name == "dateutil":
                import dateutil.parser
                import dateutil.relativedelta  # noqa: F401
            return __import__(name)
        except ImportError:
            package = {"dateutil": "python-dateutil", "yaml": "pyyaml"}[name]
            raise AttributeError("macros.%s needs a package that is not installed: pip install %s"
                                 % (name, package)) from None
    raise AttributeError("there is no macro %r" % name)


def ds_add(ds, days):
    """Add days to a YYYY-MM-DD date."""
    if not days:
        return str(ds)
    return (datetime.strptime(str(ds), "%Y-%m-%d") + timedelta(days)).strftime("%Y-%m-%d")


def ds_format(ds, input_format, output_format):
    """Read a date by one format and write it by another."""
    return datetime.strptime(str(ds), input_format).strftime(output_format)


def ds_format_locale(ds, input_format, output_format, locale=None):
    """Read a date by one format and write it by a Babel pattern."""
    try:
        from babel.dates import format_datetime
    except ImportError:
        raise AttributeError("macros.ds_format_locale needs a package that is not installed: pip install Babel") from None
    return format_datetime(datetime.strptime(str(ds), input_format), format=output_format, locale=locale or "en_US")


def datetime_diff_for_humans(dt, since=None):
    """Say how far a date is from now, or from ``since``."""
    from . import dates

    return dates.DateTime.of(dt).diff_for_humans(dates.DateTime.of(since) if since else None)
