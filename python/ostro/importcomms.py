"""What a DAG file may ask while a host imports it: variables and connections, over the host's control channel.

The host is busy with the import and answers nobody; so whoever asks reads the channel itself, keeps what is not an answer
for the host, and goes on when its own answer is there. A file may ask from threads of its own. What was asked for is
remembered: when one of those values changes, the file is imported again.
"""

import os
import select
import threading

from ostro import comms as wire

_READS = {"GetVariable": "key", "GetConnection": "conn_id"}
_PATIENCE = 100  # milliseconds between two looks at what another thread has read


class ImportComms:
    """Stands where a task process has its channel, for the time of one import.

    ``decoder`` and ``later`` are the host's: frames that are none of ours are appended to ``later``, file descriptors to
    ``fds``. ``on_gone`` is called when the worker is gone; it must not return.
    """

    takes_logs = False

    def __init__(self, sock, decoder, later, fds, on_gone):
        self._sock, self._decoder, self._later, self._fds, self._on_gone = sock, decoder, later, fds, on_gone
        self._owner = os.getpid()
        self._guard = threading.RLock()
        self._last_id, self._waiting, self._answers = 0, set(), {}
        self._closed = False
        self.names = {"GetVariable": set(), "GetConnection": set()}

    def send(self, body):
        """Nothing: what a task would tell has no place during an import."""

    def request(self, body):
        """Ask the server, or have a value masked, and return the answer. Raises RemoteError when it is refused."""
        kind = body.get("type")
        if kind not in _READS and kind != "MaskSecret":
            raise wire.RemoteError("NOT_SUPPORTED", "%s needs a running task: while a DAG file is imported it can only "
                                   "read variables and connections" % kind)
        if os.getpid() != self._owner:
            raise wire.RemoteError("NOT_SUPPORTED", "%s: process %d is a child of the one that imports the DAG file; only "
                                   "that one can ask the server" % (kind, os.getpid()))
        with self._guard:
            self._check()
            if kind in _READS:
                self.names[kind].add(body[_READS[kind]])
            self._last_id += 1
            rid = self._last_id
            self._waiting.add(rid)
            self._sock.sendall(wire.encode(body, id=rid))
        try:
            frame = self._await(rid)
        finally:
            self._waiting.discard(rid)
        error = frame.get("error")
        if error is not None:
            raise wire.RemoteError(error.get("code", "GENERIC_ERROR"), error.get("message", ""), error.get("detail"))
        return frame.get("body") or {}

    def close(self):
        """End the time of questions. A thread the file has left behind must not read the host's channel."""
        with self._guard:
            self._closed = True

    def _check(self):
        if self._closed:
            raise wire.RemoteError("UNAVAILABLE", "the import of the DAG file has ended; what it left running cannot ask "
                                   "the server")

    def _await(self, rid):
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        while True:
            with self._guard:
                self._check()
                if rid in self._answers:
                    return self._answers.pop(rid)
                if poll.poll(0):
                    self._read()
                    continue
            poll.poll(_PATIENCE)

    def _read(self):
        try:
            data, fds = wire.receive_with_fds(self._sock)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self._on_gone()
            raise EOFError("the worker is gone")
        self._fds.extend(fds)
        self._decoder.feed(data)
        frame = self._decoder.next()
        while frame is not None:
            rid = frame.get("id", 0)
            kind = (frame.get("body") or {}).get("type")
            if frame.get("error") is None and kind in ("Fork", "Describe", "Shutdown", "Welcome"):
                self._later.append(frame)
            elif rid in self._waiting:
                self._answers[rid] = frame
            frame = self._decoder.next()
