"""DeadlineAlert and what it refers to; kept with the DAG for the server to watch."""

from .exceptions import AirflowException


class DeadlineReference:
    """The moment a deadline counts from."""

    class _Named:
        def __init__(self, name, value=None):
            self.name, self.value = name, value

        def wire(self):
            from . import dates
            from .serialize import shown

            out = {"reference": self.name}
            if self.value is not None:
                out["value"] = dates.wire(self.value) if hasattr(self.value, "year") else shown(self.value)
            return out

    DAGRUN_LOGICAL_DATE = _Named("DAGRUN_LOGICAL_DATE")
    DAGRUN_QUEUED_AT = _Named("DAGRUN_QUEUED_AT")

    @classmethod
    def FIXED_DATETIME(cls, when):
        return cls._Named("FIXED_DATETIME", when)

    @classmethod
    def AVERAGE_RUNTIME(cls, max_runs=10, min_runs=None):
        return cls._Named("AVERAGE_RUNTIME", {"max_runs": max_runs, "min_runs": min_runs or max_runs})


class _Callback:
    def __init__(self, callback_callable, kwargs=None, **_):
        self.callable, self.kwargs = callback_callable, kwargs or {}

    def wire(self):
        from .serialize import shown

        name = self.callable if isinstance(self.callable, str) else "%s.%s" % (
            self.callable.__module__, getattr(self.callable, "__qualname__", type(self.callable).__name__))
        return {"kind": type(self).__name__, "callable": name, "kwargs": shown(self.kwargs)}


class AsyncCallback(_Callback):
    """Runs in the server's own loop."""


class SyncCallback(_Callback):
    """Runs in a process."""


class DeadlineAlert:
    """Call back when a run has not ended ``interval`` after ``reference``."""

    def __init__(self, reference, interval, callback, name=None, description=None):
        if not hasattr(interval, "total_seconds"):
            raise AirflowException("the interval of a DeadlineAlert must be a timedelta, not %r" % (interval,))
        self.reference, self.interval, self.callback = reference, interval, callback
        self.name, self.description = name, description

    def wire(self):
        out = dict(self.reference.wire(), interval=self.interval.total_seconds(), callback=self.callback.wire())
        if self.name:
            out["name"] = self.name
        return out
