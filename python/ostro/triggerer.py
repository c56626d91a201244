"""The triggerer: one process that runs the triggers of many deferred tasks in one event loop.

It asks the control plane what to run and is told of every change; what a trigger fires goes back the same way. It keeps
nothing: when it dies, another is told the same triggers again. While it lives a trigger runs once: also a server that has
started again, and has not heard yet what fired, does not make it run anew.

All triggers share one thread. One that blocks it (``time.sleep``, a synchronous client) keeps all others from their
turn, so a second thread watches the loop. After ``WARN_AFTER`` seconds it says which trigger it is, and where; after
``GIVE_UP_AFTER`` it asks that this trigger be given a process of its own and ends this one, so that the others go on in
the next.
"""

import asyncio
import collections
import contextvars
import functools
import heapq
import importlib
import itertools
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback

from . import kernel, live, tasklog, watching
from .comms import RemoteError
from .trace import TRACEBACK_CHARACTERS, excerpt, format_exception, one_line
from .triggering import BaseTaskEndEvent, TriggerEvent
from .xcom import decode, encode, map_length

WARN_AFTER = float(os.environ.get("OSTRO_TRIGGER_WARN_AFTER") or 2)
GIVE_UP_AFTER = float(os.environ.get("OSTRO_TRIGGER_GIVE_UP_AFTER") or 10)
ORPHANED_AFTER = 600.0
EXIT_BLOCKED = 70
STOP_PAUSE = 0.2  # between two questions when there is nothing left to run but cleanups
RETRY_FIRST, RETRY_MOST = 0.1, 5.0  # seconds before a report that was refused is sent again; each time twice as many
_REMEMBERED = 10000  # triggers that have reported

log = logging.getLogger("ostro.triggerer")

# The id of the trigger that the running code belongs to, in its tasks and in those they start.
_current = contextvars.ContextVar("ostro_trigger", default=None)


def run(startup, comms):
    """Run triggers until there are none; return the exit status."""
    kernel.set_title("ostro triggerer")
    live.comms = comms
    if getattr(comms, "takes_logs", True):
        tasklog.install(comms)
    _find_modules(startup)
    triggerer = Triggerer(comms, startup.get("bundle_info") or {}, startup)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # what runs here is run again elsewhere
    return asyncio.run(triggerer.main())


def _find_modules(startup):
    """Let trigger classes be imported from where DAG files import their helpers."""
    from . import finder, settings

    finder.install()
    settings.configure(startup.get("compat") or "airflow3", startup.get("defaults") or {})
    path = (startup.get("bundle_info") or {}).get("path") or ""
    for folder in (os.path.join(path, "plugins"), path):
        if path and os.path.isdir(folder) and folder not in sys.path:
            sys.path.insert(0, folder)


class Triggerer:
    """The loop, the thread that asks for work, the thread that tells, and the thread that watches."""

    def __init__(self, comms, bundle, startup):
        self.comms, self.bundle, self.startup = comms, bundle, startup
        self.wanted = {}  # by id: what the control plane wants to run; the asking thread's
        self.tasks = {}
        self.reported = collections.OrderedDict()  # ids of triggers that have fired or failed; the oldest are forgotten
        self.stopping = False
        self.reports = queue.Queue()
        self.plainly = set()  # ids of those of which only could be said that what they report cannot
        self.loop = self.stopped = None
        self.beat = self.heard = time.monotonic()
        self.waiting_for_loop = False
        self.loaded = {}

    async def main(self):
        self.loop = asyncio.get_running_loop()
        self.loop.set_task_factory(_make_task)
        self.stopped = asyncio.Event()
        for body in (self._ask, self._tell, self._watch):
            threading.Thread(target=body, name="ostro-" + body.__name__, daemon=True).start()
        self._pulse()
        await self.stopped.wait()
        return 0

    # ---- work ----

    def _ask(self):
        token = ""
        while True:
            try:
                work = self.comms.request({"type": "GetTriggers", "token": token})
            except RemoteError as fault:
                if fault.code in ("NOT_FOUND", "PERMISSION_DENIED"):
                    log.info("Another triggerer has taken over")
                    os._exit(0)
                log.warning("Cannot ask for triggers: %s", fault)
                time.sleep(1)
                continue
            self.heard = time.monotonic()
            token = work.get("token", "")
            self._note(work)
            try:
                self.loop.call_soon_threadsafe(self._take, work)
            except RuntimeError:  # the loop has ended, and with it this process
                return
            if work.get("stop"):
                time.sleep(STOP_PAUSE)  # the answer comes at once now

    def _note(self, work):
        """Remember what is wanted, also while the loop is blocked and does not take it."""
        wanted = {} if work.get("full") else dict(self.wanted)
        wanted.update((order["id"], order) for order in work.get("add") or ())
        for one in work.get("cancel") or ():
            wanted.pop(one["id"], None)
        self.wanted = wanted

    def _take(self, work):
        wanted = {order["id"]: order for order in work.get("add") or ()}
        if work.get("full"):
            for wait_id in [one for one in self.tasks if one not in wanted]:
                self._cancel(wait_id, False)
        for wait_id, order in wanted.items():
            if wait_id not in self.tasks and wait_id not in self.reported:
                self._begin(order)
        for one in work.get("cancel") or ():
            self._cancel(one["id"], one.get("killed", False))
        self.stopping = work.get("stop", False)
        self._end_if_done()

    def _begin(self, order):
        self.tasks[order["id"]] = task = self.loop.create_task(self._run(order))
        task.add_done_callback(lambda _, gone=order["id"]: self._gone(gone))

    def _end_if_done(self):
        if self.stopping and not self.tasks:
            self.stopped.set()

    def _cancel(self, wait_id, killed):
        """Cancel a trigger, once; one that has reported is cleaning up already."""
        task = self.tasks.get(wait_id)
        if task is not None and wait_id not in self.reported and not hasattr(task, "ostro_killed"):
            task.ostro_killed = killed
            task.cancel()

    # ---- one trigger ----

    async def _run(self, order):
        wait_id = order["id"]
        _current.set(wait_id)
        task = asyncio.current_task()
        task.ostro_trigger = wait_id
        trigger = report = None
        if order.get("asset"):
            await watching.Watcher(order, self._make, functools.partial(self._taken, wait_id)).run()
            return
        try:
            trigger = self._make(order)
            report = await self._first_event(order, trigger)
        except asyncio.CancelledError as fault:
            if not hasattr(task, "ostro_killed"):
                log.error("Trigger %s was cancelled from within", _name(order),
                          exc_info=(type(fault), fault, fault.__traceback__))
                report = {"type": "TriggerFailed", "traceback": excerpt(format_exception(fault), TRACEBACK_CHARACTERS), "error":
                          "trigger %s was cancelled from within: something that it awaits was cancelled (asyncio.CancelledError)"
                          % order["classpath"]}
            elif trigger is not None and task.ostro_killed:
                await _quietly(trigger.on_kill)
        except BaseException as fault:  # of the author's; SystemExit of one trigger must not end the others
            log.error("Trigger %s failed", _name(order), exc_info=(type(fault), fault, fault.__traceback__))
            report = {"type": "TriggerFailed", "error": "trigger %s failed: %s" % (order["classpath"], one_line(fault)),
                      "traceback": excerpt(format_exception(fault), TRACEBACK_CHARACTERS)}
        if report is not None:  # the task goes on while the trigger cleans up, as in Airflow
            self._report(wait_id, report)
        if trigger is not None:
            await _quietly(trigger.cleanup)

    def _gone(self, wait_id):
        """Forget a trigger that has ended, or was cancelled before it began."""
        self.tasks.pop(wait_id, None)
        order = self.wanted.get(wait_id)
        if order is not None and order.get("asset"):  # a watcher that was stopped and has come back meanwhile
            self._begin(order)
        self._end_if_done()

    async def _taken(self, wait_id, report):
        """Report for a watcher, and return once that is the end of it."""
        taken = asyncio.Event()
        self.reports.put(_Awaited(report, wait_id, lambda: self.loop.call_soon_threadsafe(taken.set)))
        await taken.wait()

    def _report(self, wait_id, report):
        self.reported[wait_id] = True
        while len(self.reported) > _REMEMBERED:
            self.reported.popitem(last=False)
        self.reports.put(dict(report, wait_id=wait_id))

    def _make(self, order):
        kwargs = decode(order.get("kwargs") or {})
        trigger = self._class(order)(**kwargs)
        for name, value in (("trigger_id", order["id"]), ("task_id", order["task_id"])):
            try:
                setattr(trigger, name, value)
            except AttributeError:
                pass
        return trigger

    def _class(self, order):
        module_name, _, name = order["classpath"].rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as fault:
            if fault.name is None or not (module_name + ".").startswith(fault.name + "."):
                raise
            module = self._dag_file(module_name, order)
            if module is None:
                raise
        return getattr(module, name)

    def _dag_file(self, module_name, order):
        """Return the DAG's own file, when that is where the class is, imported as for its tasks."""
        from . import dagmodule, loader

        file = order.get("file") or ""
        name = dagmodule.name_of(file)
        stem = file.rpartition("/")[2].rpartition(".")[0]
        if module_name not in (name, name.replace(".", "_"), stem):
            return None
        if name not in sys.modules:
            loader.load_file(self.bundle["path"], file, self.bundle.get("shown_path") or self.bundle["path"],
                             self.startup.get("compat") or "airflow3", self.startup.get("defaults") or {})
        return sys.modules.get(name)

    async def _first_event(self, order, trigger):
        log.info("Trigger %s starts", _name(order))
        events = trigger.run()
        try:
            async for event in events:
                return self._report_of(order, event)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await _quietly(close)
        return {"type": "TriggerFailed", "error": "trigger %s ended without an event" % order["classpath"]}

    def _report_of(self, order, event):
        if not isinstance(event, TriggerEvent):
            raise TypeError("the trigger yielded %r, which is no TriggerEvent" % (event,))
        log.info("Trigger %s fired", _name(order))
        if isinstance(event, BaseTaskEndEvent):
            return {"type": "TriggerFired", "state": str(getattr(event.task_instance_state, "value", event.task_instance_state)),
                    "xcoms": [{"key": key, "value": encode(value, "the XCom %r" % key), "map_length": map_length(value)}
                              for key, value in (event.xcoms or {}).items()]}
        return {"type": "TriggerFired", "payload": encode(event.payload, "what the trigger fired")}

    # ---- telling ----

    def _tell(self):
        """Send every report until it is taken; one that waits for its next turn does not hold up the others."""
        waiting = []  # (when it is due, a number, the pause after that, the report), the first due first
        for number in itertools.count():
            report, pause = self._next_report(waiting)
            if not self._told(report, pause == RETRY_FIRST):
                heapq.heappush(waiting, (time.monotonic() + pause, number, min(2 * pause, RETRY_MOST), report))
            elif isinstance(report, _Awaited):
                report.done()

    def _next_report(self, waiting):
        """Return the report whose turn it is, and how long to pause when it is refused."""
        while True:
            left = waiting[0][0] - time.monotonic() if waiting else None
            if left is not None and left <= 0:
                _, _, pause, report = heapq.heappop(waiting)
                return report, pause
            try:
                return self.reports.get(timeout=left), RETRY_FIRST
            except queue.Empty:
                continue

    def _told(self, report, first=True):
        """Send a report; return whether that is the end of it. What may be taken another time is to be sent again."""
        try:
            self.comms.request(report)
        except RemoteError as fault:
            if fault.code in ("NOT_FOUND", "PERMISSION_DENIED"):
                log.info("What a trigger reported concerns nobody any more: %s", fault)
            elif fault.code in ("INVALID_REQUEST", "NOT_SUPPORTED"):
                self._cannot_be_told(report, "was refused: %s" % fault)
            else:
                if first and fault.code != "UNAVAILABLE":
                    log.warning("What a trigger reported was refused and is sent again until it is taken: %s", fault)
                return False
        except ValueError as fault:  # too large, or not JSON
            self._cannot_be_told(report, "cannot be told: %s" % fault)
        except Exception as fault:  # this thread must live on: without it no trigger of this process ends its task
            if first:
                log.warning("What a trigger reported is sent again until it is taken: %s", one_line(fault))
            return False
        return True

    def _cannot_be_told(self, report, why):
        """Have the task fail for a report that will never be taken; if it is that which cannot be said, give up."""
        log.error("What a trigger reported %s", why)
        plain = "what the trigger fired " if report["type"] == "TriggerFired" else "how the trigger failed "
        if report["wait_id"] not in self.plainly:
            self.plainly.add(report["wait_id"])
            self.reports.put({"type": "TriggerFailed", "wait_id": report["wait_id"], "error": plain + why[:1000]})

    # ---- watching ----

    def _pulse(self):
        self.beat = time.monotonic()
        self.loop.call_later(0.25, self._pulse)

    def _watch(self):
        warned = False
        while not self.stopped.is_set():
            time.sleep(min(0.5, WARN_AFTER / 4))
            now = time.monotonic()
            if now - self.heard > ORPHANED_AFTER:
                os._exit(0)
            late = now - self.beat
            if late < WARN_AFTER or self.stopped.is_set():
                warned = False
            elif late >= GIVE_UP_AFTER:
                self._give_up(late)
            elif not warned:
                warned = True
                self._say_blocked(late, False)

    def _say_blocked(self, late, alone):
        """Say which trigger holds up the loop; return whether it is known."""
        frame = sys._current_frames().get(threading.main_thread().ident)
        where = "".join(traceback.format_stack(frame)[-4:]) if frame is not None else ""
        order = self.wanted.get(_blocking(self.loop))
        text = "it has blocked the triggerer for %.0f s: run() must await, and not wait or work by itself" % late
        log.error("Trigger %s: %s. It is at:\n%s", _name(order) if order else "(unknown)", text, where)
        if order is not None:
            try:
                self.comms.request({"type": "TriggerBlocks", "wait_id": order["id"], "text": text, "alone": alone})
            except Exception as fault:
                log.warning("It could not be told: %s", fault)
        return order is not None

    def _give_up(self, late):
        """End this process so that the other triggers go on in another; one that is alone here holds up nobody."""
        if len(self.wanted) > 1:
            self._say_blocked(late, True)
            os._exit(EXIT_BLOCKED)


class _Awaited(dict):
    """A report whose sender waits until it is taken."""

    def __init__(self, report, wait_id, done):
        super().__init__(report, wait_id=wait_id)
        self.done = done


def fire(deferral):
    """Run the trigger of a DeferTask message here; return how the task goes on.

    That is (method, arguments), or (None, state) when the trigger has ended the task.
    """
    module, _, name = deferral["classpath"].rpartition(".")
    following = dict(deferral.get("next_kwargs") or {})
    try:
        trigger = getattr(importlib.import_module(module), name)(**decode(deferral.get("trigger_kwargs") or {}))
        event = asyncio.run(asyncio.wait_for(_first(trigger), deferral.get("trigger_timeout")))
    except asyncio.TimeoutError:
        return "__fail__", {"error": "Trigger timeout"}
    except (Exception, asyncio.CancelledError) as fault:
        return "__fail__", {"error": "trigger %s failed: %s" % (deferral["classpath"], one_line(fault)),
                            "traceback": excerpt(format_exception(fault), TRACEBACK_CHARACTERS)}
    if event is None:
        return "__fail__", {"error": "trigger %s ended without an event" % deferral["classpath"]}
    if isinstance(event, BaseTaskEndEvent):
        return None, str(getattr(event.task_instance_state, "value", event.task_instance_state))
    following["event"] = encode(event.payload, "what the trigger fired")
    return deferral["next_method"], following


async def _first(trigger):
    try:
        async for event in trigger.run():
            return event
    finally:
        await _quietly(trigger.cleanup)


def _make_task(loop, coroutine, **kwargs):
    task = asyncio.Task(coroutine, loop=loop, **kwargs)
    try:
        task.ostro_trigger = _current.get()
    except AttributeError:
        pass
    return task


def _blocking(loop):
    """Return the id of the trigger whose code the loop is in, None when it is none's."""
    try:
        return getattr(asyncio.current_task(loop), "ostro_trigger", None)
    except Exception:
        return None


def _name(order):
    if order.get("asset"):
        return "%s of asset %s" % (order["classpath"], order["asset"])
    return "%s of %s.%s (run %s)" % (order["classpath"], order["dag_id"], order["task_id"], order["run_id"])


async def _quietly(function):
    try:
        await asyncio.wait_for(_awaited(function), 30)
    except asyncio.CancelledError:
        pass
    except Exception as fault:
        log.warning("%s of a trigger failed: %s", getattr(function, "__name__", "cleanup"), one_line(fault))


async def _awaited(function):
    result = function()
    if hasattr(result, "__await__"):
        await result
