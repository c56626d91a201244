"""What triggers are made of: their base, what they fire, and how a task begins with one."""

import dataclasses
import datetime
import logging
from typing import Any, Dict, Optional


class BaseTrigger:
    """What a deferred task waits for. ``serialize`` says how to make it again; ``run`` yields a TriggerEvent."""

    supports_triggerer_queue = True

    def __init__(self, **kwargs):
        self.task_instance = None
        self.trigger_id = None
        self.task_id = None
        self.template_fields = ()
        self.template_ext = ()

    @property
    def log(self):
        return logging.getLogger(type(self).__module__ + "." + type(self).__name__)

    @property
    def task(self):
        return getattr(getattr(self, "task_instance", None), "task", None)

    def serialize(self):
        """Return the class's path and the arguments that make this trigger again."""
        raise NotImplementedError("Triggers must implement serialize()")

    async def run(self):
        """Wait, and yield what is to be told to the task."""
        raise NotImplementedError("Triggers must implement run()")
        yield  # makes it an asynchronous generator

    async def cleanup(self):
        """Runs whenever the trigger stops running here."""

    async def on_kill(self):
        """Runs when somebody has cleared or marked the task while it was deferred."""

    @staticmethod
    def repr(classpath, kwargs):
        return "<%s %s>" % (classpath, ", ".join("%s=%s" % pair for pair in kwargs.items()))

    def __repr__(self):
        return self.repr(*self.serialize())


class BaseEventTrigger(BaseTrigger):
    """A trigger whose events come from outside; an AssetWatcher has them update an asset."""

    supports_triggerer_queue = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.asset_state_store = None

    def shared_stream_key(self):
        """Name what this trigger could share with others of its kind; None: it has its events from ``run``."""
        return None

    @classmethod
    async def open_shared_stream(cls, kwargs):
        """Yield what there is to see, for ``filter_shared_stream``."""
        raise NotImplementedError("%s has shared_stream_key() and no open_shared_stream()" % cls.__name__)
        yield  # makes it an asynchronous generator

    @classmethod
    def create_shared_stream_producer(cls, kwargs):
        """Make what acknowledges the events of a shared stream."""
        raise NotImplementedError("%s has no create_shared_stream_producer()" % cls.__name__)

    async def filter_shared_stream(self, shared_stream):
        """Yield the TriggerEvents of this trigger among what ``open_shared_stream`` yields."""
        raise NotImplementedError("%s has shared_stream_key() and no filter_shared_stream()" % type(self).__name__)
        yield  # makes it an asynchronous generator


class TriggerEvent:
    """What a trigger fires: the task goes on with ``payload`` as its event."""

    def __init__(self, payload, **kwargs):
        self.payload = payload

    def __eq__(self, other):
        return isinstance(other, TriggerEvent) and self.payload == other.payload

    __hash__ = None

    def __repr__(self):
        return "TriggerEvent<%r>" % (self.payload,)


class BaseTaskEndEvent(TriggerEvent):
    """What a trigger fires to end the task without another process."""

    task_instance_state = None

    def __init__(self, *, xcoms=None, **kwargs):
        super().__init__(payload=str(self.task_instance_state))
        self.xcoms = xcoms


class TaskSuccessEvent(BaseTaskEndEvent):
    """The task has succeeded."""

    task_instance_state = "success"


class TaskFailedEvent(BaseTaskEndEvent):
    """The task has failed."""

    task_instance_state = "failed"


class TaskSkippedEvent(BaseTaskEndEvent):
    """The task is skipped."""

    task_instance_state = "skipped"


@dataclasses.dataclass
class StartTriggerArgs:
    """The trigger a task with ``start_from_trigger`` begins with, in place of ``execute``."""

    trigger_cls: str
    next_method: str
    trigger_kwargs: Optional[Dict[str, Any]] = None
    next_kwargs: Optional[Dict[str, Any]] = None
    timeout: Optional[datetime.timedelta] = None
