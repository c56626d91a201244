"""Frames on the wire, and many threads and a signal handler on one channel."""

import json
import os
import random
import signal
import socket
import struct
import threading

import pytest

from harness import Channel
from ostro import comms as wire

TESTDATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "protocol", "testdata")


def transcripts():
    return sorted(name for name in os.listdir(TESTDATA) if name.endswith(".jsonl"))


def lines(name):
    with open(os.path.join(TESTDATA, name), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pair():
    ours, theirs = socket.socketpair()

    def gone():
        raise EOFError("gone")

    return wire.Comms(ours, on_gone=gone), Channel(theirs)


@pytest.mark.parametrize("name", transcripts())
def test_every_frame_of_a_transcript_survives_encoding_and_decoding(name):
    decoder = wire.Decoder()
    for line in lines(name):
        frame = line["frame"]
        decoder.feed(wire.encode(frame.get("body"), id=frame["id"], error=frame.get("error")))
        assert decoder.next() == frame
        assert decoder.next() is None and decoder.pending() == 0


@pytest.mark.parametrize("name", [name for name in transcripts() if name.startswith("task_")])
def test_a_task_channel_replays_a_transcript(name):
    comms, worker = pair()
    script = [(line["dir"], line["frame"]) for line in lines(name)]
    answers = {frame["id"]: frame for direction, frame in script if direction == "worker>task" and frame["id"]}
    for direction, frame in script:
        if direction == "worker>task" and not frame["id"]:
            worker.send(frame["body"])
            assert comms.receive() == frame["body"]
        elif direction == "task>worker" and not frame["id"]:
            comms.send(frame["body"])
            assert worker.frame() == frame
        elif direction == "task>worker":
            answer = answers[frame["id"]]
            worker.send(answer.get("body"), id=frame["id"], error=answer.get("error"))
            if "error" in answer:
                with pytest.raises(wire.RemoteError) as caught:
                    comms.request(frame["body"])
                assert caught.value.code == answer["error"]["code"]
                assert caught.value.message == answer["error"]["message"]
                assert caught.value.detail == answer["error"].get("detail")
            else:
                assert comms.request(frame["body"]) == answer["body"]
            assert worker.frame() == frame


def test_frames_arrive_in_pieces_of_any_size():
    frames = [{"type": "A", "text": "é" * n} for n in (0, 1, 300)]
    data = b"".join(wire.encode(frame, id=7) for frame in frames)
    for size in (1, 2, 3, 5, 7, 1000):
        decoder, found = wire.Decoder(), []
        for start in range(0, len(data), size):
            decoder.feed(data[start : start + size])
            frame = decoder.next()
            while frame is not None:
                found.append(frame["body"])
                frame = decoder.next()
        assert found == frames


def test_a_large_frame_goes_through_a_small_socket_buffer():
    comms, worker = pair()
    comms._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    text = "x" * (30 << 20)
    sender = threading.Thread(target=comms.send, args=({"type": "Big", "text": text},))
    sender.start()
    assert worker.frame()["body"]["text"] == text
    sender.join()


def test_what_is_no_frame_is_said_in_words():
    decoder = wire.Decoder()
    decoder.feed(struct.pack(">I", wire.MAX_FRAME + 1))
    with pytest.raises(wire.ProtocolError, match="67108865 bytes; at most 67108864"):
        decoder.next()
    for text in (b"{", b"[]"):
        decoder = wire.Decoder()
        decoder.feed(struct.pack(">I", len(text)) + text)
        with pytest.raises(wire.ProtocolError):
            decoder.next()


def test_what_cannot_be_sent_is_said_in_words_and_harms_nothing():
    comms, worker = pair()
    with pytest.raises(ValueError, match="the message SetXCom has 67108.* bytes; at most 66060288"):
        comms.send({"type": "SetXCom", "value": "x" * wire.MAX_FRAME})
    with pytest.raises(ValueError):
        comms.send({"type": "SetXCom", "value": float("nan")})
    with pytest.raises(TypeError):
        comms.send({"type": "SetXCom", "value": object()})
    comms.send({"type": "Fine", "text": "\udcff"})
    assert worker.frame()["body"] == {"type": "Fine", "text": "\udcff"}


def test_many_threads_ask_at_once_and_each_gets_its_own_answer():
    comms, worker = pair()
    count, each = 16, 50

    def answer():
        held = []
        for _ in range(count * each):
            held.append(worker.frame())
            if len(held) == 3 or held[-1]["body"]["n"] % 5 == 0:
                for frame in reversed(held):  # out of order
                    worker.send({"type": "R", "n": frame["body"]["n"]}, id=frame["id"])
                held = []
        for frame in held:
            worker.send({"type": "R", "n": frame["body"]["n"]}, id=frame["id"])

    wrong = []

    def ask(base):
        for n in range(base, base + each):
            # n % 5 != 0 waits for somebody else's question; the multiple of five lets all go
            if comms.request({"type": "Q", "n": n * 5})["n"] != n * 5:
                wrong.append(n)

    server = threading.Thread(target=answer, daemon=True)
    server.start()
    threads = [threading.Thread(target=ask, args=(base * 1000,), daemon=True) for base in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads) and wrong == []


def test_a_slow_answer_does_not_hold_up_another_threads_fast_one():
    comms, worker = pair()
    results = []
    slow = threading.Thread(target=lambda: results.append(comms.request({"type": "Slow"})["type"]))
    slow.start()
    first = worker.frame()
    fast = threading.Thread(target=lambda: results.append(comms.request({"type": "Fast"})["type"]))
    fast.start()
    second = worker.frame()
    worker.send({"type": "FastAnswer"}, id=second["id"])
    fast.join(10)
    assert results == ["FastAnswer"]
    worker.send({"type": "SlowAnswer"}, id=first["id"])
    slow.join(10)
    assert results == ["FastAnswer", "SlowAnswer"]


def test_the_end_of_the_channel_ends_the_process():
    comms, worker = pair()
    worker.sock.close()
    with pytest.raises(EOFError):
        comms.request({"type": "Q"})
    pid = os.fork()
    if pid == 0:
        ours, theirs = socket.socketpair()
        lonely = wire.Comms(ours)
        theirs.close()
        lonely.receive()
        os._exit(0)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == wire.EXIT_GONE


def test_a_forked_child_may_log_but_not_ask(capfd):
    comms, worker = pair()
    pid = os.fork()
    if pid == 0:
        try:
            comms.send({"type": "LogRecord", "level": "info", "event": "from the child"})
            comms.request({"type": "GetVariable", "key": "k"})
        except wire.RemoteError as err:
            print(err, flush=True)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    out, err = capfd.readouterr()
    assert err == "INFO from the child\n" and "GetVariable can be used by the task's own process only" in out


class Interrupted(BaseException):
    pass


def test_a_signal_handler_that_raises_never_breaks_a_frame():
    comms, worker = pair()
    seen, armed = [], [False]

    def answer():
        while True:
            frame = worker.frame()
            if frame is None or frame["body"]["type"] == "Stop":
                return
            seen.append(frame["body"])
            if frame["id"]:
                worker.send({"type": "R", "n": frame["body"]["n"], "fill": "y" * 5000}, id=frame["id"])

    def act():
        if armed[0]:
            comms.send({"type": "FromHandler", "n": -1})
            raise Interrupted

    server = threading.Thread(target=answer, daemon=True)
    server.start()
    old = signal.signal(signal.SIGALRM, lambda *_: comms.interrupt(act))
    interrupted = answered = 0
    span = 0.0006  # grows when too few requests are answered and shrinks when too many are, on whatever machine
    for n in range(2000):
        signal.setitimer(signal.ITIMER_REAL, 0)  # one a turn: the last turn's may be on its way still
        try:
            armed[0] = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, span))
            assert comms.request({"type": "Q", "n": n, "fill": "x" * 50000})["n"] == n
            armed[0] = False
            answered += 1
            span = max(span / 1.1, 0.0001)
        except Interrupted:
            interrupted += 1
            span = min(span * 1.1, 0.1)
        armed[0] = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)
    assert comms.request({"type": "Q", "n": 12345})["n"] == 12345
    comms.send({"type": "Stop"})
    server.join(10)
    assert not server.is_alive() and interrupted > 20 and answered > 20
    assert all(body["type"] in ("Q", "FromHandler") for body in seen)
