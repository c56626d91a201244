"""What a DAG file may ask while it is imported, over the host's own channel."""

import os
import socket
import threading

import pytest

from harness import Channel
from ostro import comms as wire
from ostro.importcomms import ImportComms


class Gone(Exception):
    pass


def gone():
    raise Gone


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ImportComms(ours, wire.Decoder(), [], [], gone), Channel(theirs)


def serve(channel, *answers):
    """Answer requests in their order from a thread; an answer is a body or a function of the frame."""

    def run():
        for answer in answers:
            frame = channel.frame()
            answer(frame) if callable(answer) else channel.send(answer, id=frame["id"])

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_question_is_answered_and_its_name_remembered(ends):
    comms, worker = ends
    thread = serve(worker, {"type": "VariableResult", "value": "1"}, {"type": "ConnectionResult", "host": "h"})
    assert comms.request({"type": "GetVariable", "key": "a"})["value"] == "1"
    assert comms.request({"type": "GetConnection", "conn_id": "c"})["host"] == "h"
    thread.join()
    assert comms.names == {"GetVariable": {"a"}, "GetConnection": {"c"}}


def test_a_refusal_keeps_its_code(ends):
    comms, worker = ends
    thread = serve(worker, lambda frame: worker.send(None, id=frame["id"], error={"code": "VARIABLE_NOT_FOUND", "message": "no"}))
    with pytest.raises(wire.RemoteError) as refused:
        comms.request({"type": "GetVariable", "key": "a"})
    thread.join()
    assert refused.value.code == "VARIABLE_NOT_FOUND" and comms.names["GetVariable"] == {"a"}


def test_orders_that_come_meanwhile_wait_for_the_host(ends):
    comms, worker = ends

    def answer(frame):
        worker.send({"type": "Shutdown", "grace": 1})
        worker.send({"type": "VariableResult", "value": "late"}, id=99)  # nobody waits for it any more
        worker.send({"type": "Describe"}, id=frame["id"])
        worker.send({"type": "VariableResult", "value": "1"}, id=frame["id"])

    thread = serve(worker, answer)
    assert comms.request({"type": "GetVariable", "key": "a"})["value"] == "1"
    thread.join()
    assert [frame["body"]["type"] for frame in comms._later] == ["Shutdown", "Describe"]


def test_threads_get_their_own_answers_in_whatever_order_they_come(ends):
    comms, worker = ends
    got, frames = {}, []

    def answer_all(frame):
        frames.append(frame)
        if len(frames) == 8:
            for one in reversed(frames):
                worker.send({"type": "VariableResult", "value": one["body"]["key"]}, id=one["id"])

    server = serve(worker, *[answer_all] * 8)

    def ask(key):
        got[key] = comms.request({"type": "GetVariable", "key": key})["value"]

    threads = [threading.Thread(target=ask, args=("k%d" % i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads + [server]:
        thread.join(10)
    assert got == {"k%d" % i: "k%d" % i for i in range(8)}


def test_only_reading_is_allowed(ends):
    with pytest.raises(wire.RemoteError, match="PutVariable needs a running task: while a DAG file is imported"):
        ends[0].request({"type": "PutVariable", "key": "a", "value": "b"})


def test_a_child_of_the_import_must_not_use_the_channel(ends):
    comms, _ = ends
    comms._owner = os.getpid() + 1
    with pytest.raises(wire.RemoteError, match="is a child of the one that imports"):
        comms.request({"type": "GetVariable", "key": "a"})


def test_after_the_import_a_thread_it_left_is_refused_also_one_that_waits(ends):
    comms, worker = ends
    failed = []

    def ask():
        try:
            comms.request({"type": "GetVariable", "key": "a"})
        except wire.RemoteError as err:
            failed.append(err.code)

    thread = threading.Thread(target=ask)
    thread.start()
    assert worker.frame()["body"]["key"] == "a"
    comms.close()
    thread.join(10)
    ask()
    assert failed == ["UNAVAILABLE", "UNAVAILABLE"]


def test_secrets_are_told_and_nothing_else(ends):
    comms, worker = ends
    comms.send({"type": "AddNotice", "text": "lost"})
    told = []
    thread = serve(worker, lambda frame: (told.append(frame["body"]), worker.send({"type": "OKResponse"}, id=frame["id"])))
    comms.request({"type": "MaskSecret", "value": "s3cret"})
    thread.join()
    assert told == [{"type": "MaskSecret", "value": "s3cret"}]


def test_a_worker_that_is_gone_ends_the_import(ends):
    comms, worker = ends
    thread = serve(worker, lambda frame: worker.sock.close())
    with pytest.raises(Gone):
        comms.request({"type": "GetVariable", "key": "a"})
    thread.join()
