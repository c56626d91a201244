"""The process that runs triggers, on a control plane in memory."""

import asyncio
import queue
import sys
import threading

import pytest

from airflow.triggers.base import BaseTrigger, TriggerEvent
from ostro import triggerer as process
from ostro.comms import RemoteError

TOLD = []


class Probe(BaseTrigger):
    """Fires as it is told to, and tells what happens to it."""

    def __init__(self, how="fires"):
        super().__init__()
        self.how = how

    def serialize(self):
        return __name__ + ".Probe", {"how": self.how}

    async def run(self):
        TOLD.append("run")
        if self.how == "cancels":
            inner = asyncio.ensure_future(asyncio.sleep(1000))
            asyncio.get_running_loop().call_soon(inner.cancel)
            await inner
        if self.how == "waits":
            await asyncio.sleep(1000)
        if self.how == "fails":
            raise RuntimeError("no luck")
        yield TriggerEvent("done")

    async def cleanup(self):
        TOLD.append("cleanup begins")
        await asyncio.sleep(0.05)
        TOLD.append("cleanup ends")

    async def on_kill(self):
        TOLD.append("on_kill")


class ControlPlane:
    """Answers GetTriggers from a queue, and keeps what is reported."""

    takes_logs = False

    def __init__(self):
        self.work, self.reports, self.asked = queue.Queue(), [], 0
        self.reachable = threading.Event()
        self.reachable.set()
        self.on_report = lambda body: None
        self.refuse, self.tried = lambda body: None, []  # the code a report is refused with; all that came

    def stop(self, _=None):
        self.work.put({"token": "9", "stop": True})

    def request(self, body):
        if body["type"] == "GetTriggers":
            self.asked += 1
            found = self.work.get()
            if found.get("stop"):
                self.work.put(found)
            return found
        if not self.reachable.is_set():
            raise RemoteError("UNAVAILABLE", "no server")
        self.tried.append((body["type"], body["wait_id"]))
        code = self.refuse(body)
        if code:
            raise RemoteError(code, "the server is not well")
        TOLD.append(body["type"])
        self.reports.append(body)
        self.on_report(body)
        return {"type": "OKResponse", "ok": True}


def order(how, wait_id="w"):
    return {"id": wait_id, "classpath": __name__ + ".Probe", "kwargs": {"how": how}, "dag_id": "d", "run_id": "r", "task_id": "t"}


def run(plane):
    """Run a triggerer until it stops by itself."""
    one = process.Triggerer(plane, {}, {})
    assert asyncio.run(asyncio.wait_for(one.main(), 20)) == 0


@pytest.fixture
def plane():
    TOLD.clear()
    return ControlPlane()


def full(*orders, **more):
    return dict({"full": True, "token": "1", "add": list(orders)}, **more)


def test_what_fires_is_told_before_the_cleanup_which_is_not_cut_short(plane):
    def told(body):
        plane.work.put({"token": "2", "cancel": [{"id": "w"}]})
        plane.work.put({"token": "3", "stop": True})

    plane.on_report = told
    plane.work.put(full(order("fires")))
    run(plane)
    assert TOLD[0] == "run" and TOLD[-1] == "cleanup ends" and set(TOLD[1:3]) == {"TriggerFired", "cleanup begins"}
    assert [one["payload"] for one in plane.reports] == ["done"]


def test_a_server_that_starts_again_does_not_make_a_trigger_run_twice(plane):
    plane.reachable.clear()
    plane.on_report = lambda body: plane.work.put({"token": "3", "stop": True})
    plane.work.put(full(order("fires")))
    plane.work.put(full(order("fires")))  # the next server, which has not heard what fired
    release = threading.Timer(0.3, lambda: (plane.work.put(full(order("fires"))), plane.reachable.set()))
    release.start()
    run(plane)
    release.join()
    assert TOLD.count("run") == 1 and len(plane.reports) == 1


def refusals(*codes):
    """Refuse the first reports with these codes, one after the other, and take those that follow."""
    left = list(codes)
    return lambda body: left.pop(0) if left else None


@pytest.mark.parametrize("how, kind", [("fires", "TriggerFired"), ("fails", "TriggerFailed")])
@pytest.mark.parametrize("code", ["GENERIC_ERROR", "UNAVAILABLE", "A_CODE_OF_TOMORROW"])
def test_a_report_that_is_refused_for_now_is_sent_again_until_it_is_taken(plane, how, kind, code):
    plane.refuse, plane.on_report = refusals(code, code), plane.stop
    plane.work.put(full(order(how)))
    run(plane)
    assert plane.tried == [(kind, "w")] * 3 and [one["type"] for one in plane.reports] == [kind]


@pytest.mark.parametrize("how", ["fires", "fails"])
@pytest.mark.parametrize("code", ["NOT_FOUND", "PERMISSION_DENIED"])
def test_a_report_that_concerns_nobody_any_more_is_dropped(plane, how, code):
    plane.refuse = lambda body: code if body["wait_id"] == "w" else None
    plane.on_report = plane.stop
    plane.work.put(full(order(how)))
    plane.work.put({"token": "2", "add": [order("fires", "other")]})
    run(plane)
    assert [wait_id for _, wait_id in plane.tried] == ["w", "other"] and len(plane.reports) == 1


def test_a_report_that_is_refused_does_not_hold_up_those_of_other_triggers(plane):
    taken = threading.Event()
    plane.refuse = lambda body: "GENERIC_ERROR" if body["wait_id"] == "w" and not taken.is_set() else None

    def told(body):
        taken.set()
        if len(plane.reports) == 2:
            plane.stop()

    plane.on_report = told
    plane.work.put(full(order("fires")))
    plane.work.put({"token": "2", "add": [order("fires", "other")]})
    run(plane)
    assert [one["wait_id"] for one in plane.reports] == ["other", "w"]


def test_what_can_never_be_taken_fails_the_task_with_the_reason(plane):
    plane.refuse, plane.on_report = refusals("INVALID_REQUEST"), plane.stop
    plane.work.put(full(order("fires")))
    run(plane)
    assert [one["type"] for one in plane.reports] == ["TriggerFailed"]
    assert plane.reports[0]["error"].startswith("what the trigger fired was refused: ")


def test_a_failure_that_can_never_be_taken_is_told_without_its_words(plane):
    plane.refuse, plane.on_report = refusals("INVALID_REQUEST"), plane.stop
    plane.work.put(full(order("fails")))
    run(plane)
    assert plane.reports == [{"type": "TriggerFailed", "wait_id": "w", "error": plane.reports[0]["error"]}]
    assert plane.reports[0]["error"].startswith("how the trigger failed was refused: ")


def test_a_trigger_that_is_cancelled_from_within_fails_its_task(plane):
    plane.on_report = lambda body: plane.work.put({"token": "2", "stop": True})
    plane.work.put(full(order("cancels")))
    run(plane)
    assert plane.reports[0]["type"] == "TriggerFailed" and "was cancelled from within" in plane.reports[0]["error"]
    assert "cleanup ends" in TOLD and "on_kill" not in TOLD


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("how", ["waits", "never begins"])
def test_a_trigger_that_is_not_wanted_any_more_reports_nothing(plane, killed, how, monkeypatch):
    def cancel():
        plane.work.put({"token": "2", "cancel": [{"id": "w", "killed": killed}]})
        plane.work.put({"token": "3", "stop": True})

    if how == "waits":
        class Told(list):
            def append(self, what):
                super().append(what)
                if what == "run":
                    cancel()

        monkeypatch.setattr(sys.modules[__name__], "TOLD", Told())
        plane.work.put(full(order("waits")))
    else:
        plane.work.put(full(order("waits"), cancel=[{"id": "w", "killed": killed}], stop=True))
    run(plane)
    assert plane.reports == []
    want = [] if how == "never begins" else ["run", *(["on_kill"] if killed else []), "cleanup begins", "cleanup ends"]
    assert list(TOLD) == want


def test_a_triggerer_that_is_to_stop_does_not_ask_in_a_hurry(plane):
    plane.work.put(full(order("fires"), stop=True))  # only the cleanup is left
    run(plane)
    assert plane.asked < 10 and "cleanup ends" in TOLD


def test_a_trigger_cancelled_from_within_fails_a_local_run_too():
    method, following = process.fire({"classpath": __name__ + ".Probe", "trigger_kwargs": {"how": "cancels"},
                                      "next_method": "m"})
    assert method == "__fail__" and "CancelledError" in following["error"]
