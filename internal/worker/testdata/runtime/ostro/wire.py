"""The least a host and a task need of the protocol, for tests of the worker that bend the rules at will."""

import json
import os
import socket
import struct
import sys
import time


class Channel:
    def __init__(self, sock):
        self.sock, self.buffer, self.fds, self.last = sock, b"", [], 0

    def send(self, body, id=0, error=None):
        frame = {"id": id, "body": body}
        if error:
            frame["error"] = error
        data = json.dumps(frame).encode()
        self.sock.sendall(struct.pack(">I", len(data)) + data)

    def read(self):
        """Return the next frame, None at the end."""
        while True:
            if len(self.buffer) >= 4:
                (size,) = struct.unpack(">I", self.buffer[:4])
                if len(self.buffer) >= 4 + size:
                    data, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
                    return json.loads(data)
            data, control, _, _ = self.sock.recvmsg(1 << 16, socket.CMSG_SPACE(32))
            for _, _, payload in control:
                self.fds += struct.unpack("%di" % (len(payload) // 4), payload)
            if not data:
                return None
            self.buffer += data

    def whole(self):
        """Say whether read() has a frame without reading."""
        return len(self.buffer) >= 4 and len(self.buffer) >= 4 + struct.unpack(">I", self.buffer[:4])[0]

    def ask(self, body):
        self.last += 1
        self.send(body, id=self.last)
        return self.read()


class Task:
    """What a snippet sees as ``t``."""

    def __init__(self, channel, startup):
        self.channel, self.startup = channel, startup

    def send(self, type, **fields):
        self.channel.send(dict(fields, type=type))

    def ask(self, type, **fields):
        return self.channel.ask(dict(fields, type=type))

    def succeed(self, **fields):
        self.send("SucceedTask", end_date=now(), **fields)

    def log(self, text, level="info", error=""):
        self.send("LogRecord", time=now(), level=level, logger="test", event=text, error=error)


def now():
    t = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + ".%09dZ" % (int(t * 1e9) % 10**9)


def run(channel):
    """Run the snippet in the DAG run's conf and exit; without an end of its own it succeeds."""
    frame = channel.read()
    if frame is None:
        os._exit(75)
    startup = frame["body"]
    os.environ.update(startup.get("env") or {})
    task = Task(channel, startup)
    code = startup["ti_context"]["dag_run"]["conf"].get("code", "")
    scope = {"t": task, "os": os, "sys": sys, "time": time}
    try:
        exec(code, scope)
    except SystemExit as err:
        sys.stdout.flush()
        os._exit(err.code or 0)
    except BaseException as err:
        task.send("RetryTask", end_date=now(), reason="%s: %s" % (type(err).__name__, err))
    else:
        if not scope.get("silent"):
            task.succeed()
    sys.stdout.flush()
    os._exit(0)
