"""The wire between a DAG host, a task process and the worker: frames, and a channel many threads may ask through.

A frame is four bytes, big endian, the length of what follows, then that many bytes of JSON: an object
``{"id": N, "body": {"type": ...}, "error": {"code": ..., "message": ...}}``. A request has an id above zero and is
answered under the same id; id 0 is a notification. The Go half is package ``protocol``; both replay the transcripts in
``protocol/testdata``.

Nothing here knows what the messages mean. What it does know is that a signal handler may run between any two
bytecodes of the main thread: a frame is never left half sent or half read by an exception that a handler raises (see
``Comms.interrupt``).
"""

import fcntl
import json
import os
import select
import socket
import struct
import sys
import threading

MAX_FRAME = 64 << 20
"""The largest frame either side accepts, in bytes. Larger values travel by reference."""

MAX_SEND = MAX_FRAME - (1 << 20)
"""The largest frame a task sends: on its way to the server it is wrapped into another."""

PROTOCOL = 2
"""The protocol version; both sides must have the same."""

EXIT_GONE = 75
"""The status a task process ends with when its worker is gone."""

EXIT_CLOSED = 176
"""The status of one whose code has closed the channel; package protocol has the same number."""

_FAR = 512
"""Where channels are, out of reach of code that closes the first hundreds of descriptors to become a daemon."""

_SMALL_READ, _LARGE_READ = 1 << 14, 1 << 20  # a small buffer first: a fresh fork pays for every page it touches
_HEADER = struct.Struct(">I")
_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_parse = json.JSONDecoder().decode
_MSG_CMSG_CLOEXEC, _MSG_CTRUNC = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)  # as enums they are slow
_dump_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class ProtocolError(Exception):
    """The other side sent what no version of the protocol allows."""


class RemoteError(Exception):
    """The other side refused a request. ``code`` is one of the protocol's codes (XCOM_NOT_FOUND, UNAVAILABLE, ...)."""

    def __init__(self, code, message, detail=None):
        super().__init__("%s: %s" % (code, message))
        self.code, self.message, self.detail = code, message, detail


class FrameTooLarge(ValueError):
    """A message is larger than the protocol allows; nothing of it was sent. ``size`` is its length in bytes."""

    def __init__(self, body, size, limit):
        kind = body.get("type", "?") if isinstance(body, dict) else "?"
        super().__init__("the message %s has %d bytes; at most %d are allowed" % (kind, size, limit))
        self.size = size


def encode(body=None, id=0, error=None, limit=MAX_FRAME):
    """Return one frame as bytes. Raises ValueError for what JSON cannot hold (NaN included) and for too large a frame."""
    frame = {"id": id}
    if body is not None:
        frame["body"] = body
    if error is not None:
        frame["error"] = error
    data = text_of(frame)
    if len(data) > limit:
        raise FrameTooLarge(body, len(data), limit)
    return _HEADER.pack(len(data)) + data


def text_of(value):
    """Return a value as JSON, in bytes. Raises ValueError for what JSON cannot hold."""
    try:
        return _dump(value).encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8
        return _dump_ascii(value).encode("ascii")


def out_of_reach(fd):
    """Move a descriptor to where code that closes "all" descriptors seldom comes; return its new number."""
    try:
        far = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FAR)
    except OSError:  # so many are not allowed here
        return fd
    os.close(fd)
    return far


class Decoder:
    """Cuts a byte stream, in pieces of any size, into frames."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Add what was read."""
        self._buffer += data

    def next(self):
        """Return the next complete frame as a dict, or None when more bytes are needed."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        (size,) = _HEADER.unpack_from(buffer)
        if size > MAX_FRAME:
            raise ProtocolError("frame of %d bytes; at most %d are allowed" % (size, MAX_FRAME))
        if len(buffer) < 4 + size:
            return None
        data = bytes(memoryview(buffer)[4 : 4 + size])
        del buffer[: 4 + size]
        try:
            frame = _parse(str(data, "utf-8"))
        except ValueError as err:
            raise ProtocolError("frame is not JSON: %s" % err)
        if not isinstance(frame, dict):
            raise ProtocolError("frame is not an object")
        return frame

    def pending(self):
        """Return how many bytes of an incomplete frame are held."""
        return len(self._buffer)


class Comms:
    """The task's end of its channel to the worker. Every method may be called from any thread.

    ``channel`` is a connected stream socket or its descriptor; a host makes the object before it forks and attaches the
    channel in the child. ``on_gone`` is called when the worker is gone; it must not return. By default the process ends
    at once: its result can no longer be delivered, and a replacement may be about to start. It also ends when the task's
    code has closed the channel: the number may be that of one of its own files by now, which must not be written to.
    """

    by_file = True  # large values need not go through it
    answers_records = True  # a LogRecord may be a request

    def __init__(self, channel=None, on_gone=None):
        self._channel = self._fd = self._identity = self._stderr = None
        self._owner = 0
        self._on_gone = on_gone or (lambda: os._exit(EXIT_GONE))
        self._decoder = Decoder()
        self._send_lock = threading.Lock()
        self._last_id = 0
        self._lock = threading.RLock()  # guards what follows; re-entrant, for signal handlers
        self._cond = threading.Condition(self._lock)
        self._sleepers = 0  # threads that wait for another one to read
        self._waiting = set()
        self._answers = {}
        self._notes = []
        self.heard = False  # anything whole from the worker
        self._reader = None  # the thread that reads the socket for all
        self._main = threading.get_ident()
        self._critical = 0  # of the main thread: above zero, signal handlers must wait
        self._deferred = []
        if channel is not None:
            self.attach(channel)

    def attach(self, channel):
        """Make ``channel`` the one this process talks through, from now on and from this thread."""
        self._channel = channel  # keeps a socket object, and so its descriptor, alive
        self._fd = channel if isinstance(channel, int) else channel.fileno()
        os.set_blocking(self._fd, True)
        self._identity, self._stderr = identity(self._fd), identity(2)
        self._owner = os.getpid()
        self._main = threading.get_ident()

    def fileno(self):
        """Return the channel's descriptor."""
        return self._fd

    # ---- sending ----

    def send(self, body):
        """Send a notification."""
        if os.getpid() != self._owner:
            return self._send_from_child(body)
        self._transmit(encode(body, limit=MAX_SEND))

    def request(self, body):
        """Send a request and return the body of its answer. Raises RemoteError when it is refused."""
        if os.getpid() != self._owner:
            raise self._not_ours(body)
        rid = self._register()
        try:
            self._transmit(encode(body, id=rid, limit=MAX_SEND))
            frame = self._await(rid)
        finally:
            self._waiting.discard(rid)
            self._answers.pop(rid, None)
        error = frame.get("error")
        if error is not None:
            raise RemoteError(error.get("code", "GENERIC_ERROR"), error.get("message", ""), error.get("detail"))
        return frame.get("body") or {}

    def receive(self):
        """Wait for the next notification from the worker and return its body."""
        return self._await(None).get("body") or {}

    def _register(self):
        self._enter()
        try:
            with self._lock:
                self._last_id += 1
                self._waiting.add(self._last_id)
                return self._last_id
        finally:
            self._leave()

    def _transmit(self, data):
        self._enter()
        try:
            with self._send_lock:
                if identity(self._fd) != self._identity:
                    self._end_without_channel()
                sent = os.write(self._fd, data)
                while sent < len(data):
                    sent += os.write(self._fd, memoryview(data)[sent:])
        except OSError:
            if identity(self._fd) != self._identity:
                self._end_without_channel()
            self._on_gone()
            raise
        finally:
            self._leave()

    # ---- receiving: whoever waits first reads for all ----

    def _await(self, rid):
        """Return the answer to request ``rid``, or the next notification for None."""
        me, leading = threading.get_ident(), False
        try:
            while True:
                self._enter()
                try:
                    with self._lock:
                        frame = self._take(rid)
                        if frame is not None:
                            return frame
                        leading = self._reader is None or self._reader == me
                        if leading:
                            self._reader = me
                finally:
                    self._leave()
                if leading:
                    self._read_some()
                    continue
                with self._lock:
                    if self._reader is not None and rid not in self._answers:
                        self._sleepers += 1
                        try:
                            self._cond.wait()
                        finally:
                            self._sleepers -= 1
        finally:
            if leading:
                self._hand_over()

    def _take(self, rid):
        if rid is not None:
            return self._answers.pop(rid, None)
        return self._notes.pop(0) if self._notes else None

    def _hand_over(self):
        self._enter()
        try:
            with self._lock:
                self._reader = None
                if self._sleepers:
                    self._cond.notify_all()
        finally:
            self._leave()

    def _read_some(self):
        """Wait for bytes (interruptible), then read and distribute what is there (not interruptible)."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll()
        self._enter()
        try:
            if identity(self._fd) != self._identity:
                self._end_without_channel()
            try:
                data = os.read(self._fd, _LARGE_READ if self._decoder.pending() else _SMALL_READ)
            except OSError:
                data = b""
            if not data:
                self._on_gone()
                raise EOFError("the worker is gone")
            self._decoder.feed(data)
            with self._lock:
                frame = self._decoder.next()
                while frame is not None:
                    self._distribute(frame)
                    frame = self._decoder.next()
                if self._sleepers:
                    self._cond.notify_all()
        finally:
            self._leave()

    def _distribute(self, frame):
        self.heard = True
        rid = frame.get("id", 0)
        if not rid:
            self._notes.append(frame)
        elif rid in self._waiting:
            self._answers[rid] = frame
        # An answer nobody waits for any more belongs to a request that a signal interrupted.

    def _end_without_channel(self):
        """End a task that has closed its channel: what it has done cannot be told to anybody.

        The worker knows the status and says so. Here it is said as well if standard error is the one there was: a task that
        has closed that too may have a file of its own there.
        """
        text = "ostro: the task has closed file descriptors that are not its own, the channel to Ostro among them; it ends here"
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        if self._stderr is not None and identity(2) == self._stderr:
            try:
                os.write(2, text.encode() + b"\n")
            except OSError:
                pass
        os._exit(EXIT_CLOSED)

    # ---- signals ----

    def interrupt(self, handler):
        """Call ``handler`` now, or, when the main thread is inside a frame, as soon as it has finished it.

        For signal handlers that raise, or that use this channel themselves.
        """
        if self._critical and threading.get_ident() == self._main:
            self._deferred.append(handler)
        else:
            handler()

    def _enter(self):
        if threading.get_ident() == self._main:
            self._critical += 1

    def _leave(self):
        if threading.get_ident() != self._main:
            return
        self._critical -= 1
        if self._deferred and not self._critical:
            handlers, self._deferred = self._deferred, []
            for handler in handlers:
                handler()

    # ---- processes the task has forked itself ----

    def _send_from_child(self, body):
        """Two processes must not write frames to one stream: a child's log lines go to its stderr, all else is refused."""
        if body.get("type") != "LogRecord":
            raise self._not_ours(body)
        text = "%s %s" % (body.get("level", "info").upper(), body.get("event", ""))
        if body.get("error"):
            text += "\n" + body["error"]
        print(text, file=sys.stderr, flush=True)

    def _not_ours(self, body):
        return RemoteError(
            "NOT_SUPPORTED",
            "%s can be used by the task's own process only; process %d is a child of it"
            % (body.get("type", "this request"), os.getpid()),
        )


def identity(fd):
    """Return what tells an open file from another one that has got its number; None when there is none."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def receive_with_fds(sock, size=1 << 16):
    """Read once from ``sock``; return the bytes and the file descriptors that came with them (close-on-exec)."""
    data, control, flags, _ = sock.recvmsg(size, socket.CMSG_SPACE(16 * 4), _MSG_CMSG_CLOEXEC)
    fds = []
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(payload) // 4
            fds.extend(struct.unpack("%di" % count, payload[: count * 4]))
    if flags & _MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise ProtocolError("file descriptors were lost on the way")
    return data, fds
