"""How a watcher's trigger runs: its events in order, each taken before the next, and again after its end."""

import asyncio

import pytest

from ostro import watching
from ostro.triggering import BaseEventTrigger, TriggerEvent

ORDER = {"id": "w", "classpath": "my.Queue", "asset": "q"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(watching, "AGAIN", 0)
    monkeypatch.setattr(watching, "RETRY_FIRST", 0)


def watched(triggers, count):
    """Run triggers one after the other; return the first so many reports."""
    told, left = [], iter(triggers)

    async def main():
        enough = asyncio.Event()

        async def tell(report):
            told.append(report)
            if len(told) == count:
                enough.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(watching.Watcher(ORDER, lambda order: next(left), tell).run())
        await asyncio.wait_for(enough.wait(), 10)
        task.ostro_killed = False
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    return told


class Queue(BaseEventTrigger):
    def __init__(self, *payloads):
        super().__init__()
        self.payloads, self.cleaned = payloads, False

    async def run(self):
        for payload in self.payloads:
            if isinstance(payload, BaseException):
                raise payload
            yield TriggerEvent(payload)

    async def cleanup(self):
        self.cleaned = True


def test_every_event_counts_and_a_trigger_that_has_ended_runs_again():
    first, second = Queue({"n": (1, 2)}, "two"), Queue("three")
    told = watched([first, second], 3)
    assert [one["payload"] for one in told] == [{"n": [1, 2]}, "two", "three"]
    assert first.cleaned and second.cleaned


def test_a_trigger_that_fails_or_never_fires_is_reported_and_runs_again():
    told = watched([Queue("one", RuntimeError("no queue")), Queue(), Queue("two")], 4)
    assert [one.get("payload", one.get("error")) for one in told] == [
        "one", "it failed: RuntimeError: no queue", "it ended without an event", "two"]
    assert "Traceback" in told[1]["traceback"]


class Shared(BaseEventTrigger):
    def shared_stream_key(self):
        return ("folder", "/in")

    def serialize(self):
        return "my.Shared", {"numbers": 4}

    @classmethod
    async def open_shared_stream(cls, kwargs):
        for number in range(kwargs["numbers"]):
            yield number

    async def filter_shared_stream(self, shared_stream):
        async for number in shared_stream:
            if number % 2:
                yield TriggerEvent(number)


def test_a_trigger_of_a_shared_stream_has_its_events_from_its_filter():
    assert [one["payload"] for one in watched([Shared()], 2)] == [1, 3]


def test_acknowledging_through_a_shared_stream_is_refused_by_name():
    class Acknowledged(Shared):
        @classmethod
        def create_shared_stream_producer(cls, kwargs):
            return object()

    assert "create_shared_stream_producer" in watched([Acknowledged()], 1)[0]["error"]


def test_the_store_for_an_assets_state_is_refused_by_name():
    class Remembers(BaseEventTrigger):
        async def run(self):
            yield TriggerEvent(self.asset_state_store.get("offset"))

    assert "asset_state_store" in watched([Remembers()], 1)[0]["error"]
