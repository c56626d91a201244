"""Watchers of assets: triggers that no task waits for.

A watcher runs as long as the control plane wants it to. Its trigger goes on only once what it has fired is stored: what it
takes from a queue, it takes when the event before has updated the asset. A trigger that ends has it made anew and runs it
again, as Airflow does; one that fails does so later and later.
"""

import asyncio
import json
import logging

from .context import _NoState
from .trace import TRACEBACK_CHARACTERS, excerpt, format_exception, one_line
from .triggering import BaseEventTrigger, TriggerEvent
from .xcom import encode

AGAIN = 1.0  # seconds before a trigger that has ended runs again
RETRY_FIRST, RETRY_MOST = 1.0, 60.0  # seconds before one that has failed does; each time twice as many

log = logging.getLogger("ostro.triggerer")


class Watcher:
    """Runs the trigger of one order again and again; ``tell`` sends a report and returns once it is taken."""

    def __init__(self, order, make, tell):
        self.order, self.make, self.tell = order, make, tell
        self.name = "%s of asset %r" % (order["classpath"], order["asset"])

    async def run(self):
        pause = RETRY_FIRST
        while True:
            problem = await self._once()
            if problem is None:
                pause = RETRY_FIRST
                await asyncio.sleep(AGAIN)
                continue
            log.error("Watcher %s: %s. It runs again in %.0f s", self.name, problem["error"], pause)
            await self.tell(dict(problem, type="TriggerFailed"))
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MOST)

    async def _once(self):
        """Run the trigger until it ends; return what was wrong, None when nothing was."""
        trigger = None
        fired = False
        try:
            trigger = self.make(self.order)
            trigger.asset_state_store = _NoState("asset_state_store")
            log.info("Watcher %s starts", self.name)
            stream = _events(trigger)
            try:
                async for event in stream:
                    await self.tell({"type": "TriggerFired", "payload": self._payload(event)})
                    fired = True
            finally:
                await _quietly(getattr(stream, "aclose", None))
        except asyncio.CancelledError as fault:
            if hasattr(asyncio.current_task(), "ostro_killed"):
                raise
            return _problem("it was cancelled from within", fault)
        except BaseException as fault:  # of the author's; SystemExit of one trigger must not end the others
            return _problem("it failed: %s" % one_line(fault), fault)
        finally:
            await _quietly(getattr(trigger, "cleanup", None))
        return None if fired else {"error": "it ended without an event"}

    def _payload(self, event):
        if not isinstance(event, TriggerEvent):
            raise TypeError("the trigger yielded %r, which is no TriggerEvent" % (event,))
        log.info("Watcher %s fired", self.name)
        try:  # it becomes the extra of an asset event, which is plain JSON
            return json.loads(json.dumps(event.payload, allow_nan=False))
        except (TypeError, ValueError):
            return encode(event.payload, "what the trigger fired")


def _events(trigger):
    """Return the trigger's events. Triggers that share a stream in Airflow have one each here."""
    key = getattr(trigger, "shared_stream_key", None)
    if key is None or key() is None:
        return trigger.run()
    kind = type(trigger)
    if kind.create_shared_stream_producer.__func__ is not BaseEventTrigger.create_shared_stream_producer.__func__:
        raise NotImplementedError("%s has create_shared_stream_producer(): acknowledging by a shared stream is not built"
                                  % kind.__name__)
    return trigger.filter_shared_stream(kind.open_shared_stream(trigger.serialize()[1]))


def _problem(text, fault):
    return {"error": text, "traceback": excerpt(format_exception(fault), TRACEBACK_CHARACTERS)}


async def _quietly(function):
    """Await what an author wrote to clean up; it must not hold up or end anything."""
    if function is None:
        return
    try:
        await asyncio.wait_for(function(), 30)
    except Exception as fault:
        log.warning("Cleaning up after a watcher failed: %s", one_line(fault))
