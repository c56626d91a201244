"""Plays the worker for real host and task processes."""

import array
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from ostro import comms as wire

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON_ROOT = os.path.dirname(os.path.dirname(HERE))
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEADLINE = 30.0


def wait_until(condition, what, seconds=DEADLINE):
    """Poll until ``condition()`` is true and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("%s did not come true within %g s" % (what, seconds))


def alive(pid):
    """Tell whether a process exists and is not a zombie."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment(**extra):
    """Return the environment of a host."""
    env = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    env["PYTHONPATH"] = PYTHON_ROOT
    env.update(extra)
    return {name: value for name, value in env.items() if value is not None}


class Channel:
    """One end of a framed connection."""

    def __init__(self, sock):
        sock.settimeout(DEADLINE)
        self.sock = sock
        self._decoder = wire.Decoder()
        self._last = 0
        self.notes = []

    def frame(self):
        """Return the next frame, or None at the end of the stream."""
        while True:
            frame = self._decoder.next()
            if frame is not None:
                return frame
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._decoder.feed(data)

    def send(self, body, id=0, error=None):
        self.sock.sendall(wire.encode(body, id=id, error=error))

    def reply(self, frame, answer=None):
        """Answer a request with what ``answer`` makes of it; it may raise RemoteError."""
        try:
            reply, error = answer(frame["body"]) if answer else {"type": "OKResponse", "ok": True}, None
        except wire.RemoteError as fault:
            reply, error = None, {"code": fault.code, "message": fault.message}
        self.send(reply, id=frame["id"], error=error)

    def request(self, body, fds=()):
        """Send a request, with descriptors, and return the frame of its answer; notifications in between are kept."""
        self._last += 1
        data = wire.encode(body, id=self._last)
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.sock.sendmsg([data], ancillary)
            data = data[sent:]
        self.sock.sendall(data)
        return self.until(lambda frame: frame["id"] == self._last)

    def until(self, wanted):
        while True:
            frame = self.frame()
            assert frame is not None, "the other side closed the channel"
            if wanted(frame):
                return frame
            self.notes.append(frame)

    def note(self, kind, **fields):
        """Return the body of the next notification of this type (also one that came before) with these values."""

        def wanted(frame):
            body = frame.get("body") or {}
            return body.get("type") == kind and all(body.get(name) == value for name, value in fields.items())

        for frame in self.notes:
            if wanted(frame):
                self.notes.remove(frame)
                return frame["body"]
        return self.until(wanted)["body"]


class Output:
    """Collects what is written into a pipe."""

    def __init__(self, keep=True):
        self.read_fd, self.write_fd = os.pipe()
        self.data, self.size, self._keep = b"", 0, keep
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self):
        while True:
            data = os.read(self.read_fd, 1 << 16)
            if not data:
                break
            self.size += len(data)
            if self._keep:
                self.data += data
        os.close(self.read_fd)

    def done(self):
        """Wait for the end of the stream and return its text."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "somebody still holds the output open"
        return self.data.decode("utf-8", "replace")


class TaskEnd:
    """What became of a task: terminal message, log records, output, and, from a host, the Exited message."""

    def __init__(self):
        self.terminal, self.logs, self.notes = None, [], []
        self.out = self.err = ""
        self.exited = self.exiting = None
        self.after_eof = None

    @property
    def value(self):
        assert self.terminal and self.terminal["type"] == "SucceedTask", (self.terminal, self.err, self.logs)
        return self.terminal["xcoms"][0]["value"]

    @property
    def returncode(self):
        status = self.exited["status"]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def startup(task_id, bundle, file, attempt="a-1", **more):
    """Return StartupDetails for a task of the fake DAG."""
    details = {
        "type": "StartupDetails",
        "kind": "task",
        "ti": {
            "id": "ti",
            "attempt_id": attempt,
            "dag_id": "d",
            "run_id": "r",
            "task_id": task_id,
            "map_index": -1,
            "try_number": 1,
        },
        "dag_rel_path": file,
        "bundle_info": {"name": "b", "version": "v", "path": bundle, "shown_path": bundle},
        "start_date": "2026-01-02T03:04:05Z",
        "ti_context": {"dag_run": {}, "max_tries": 0, "should_retry": False},
        "env": {"OSTRO_ATTEMPT_ID": attempt},
    }
    details.update(more)
    return details


class Task:
    """A task process being talked to."""

    def __init__(self, channel, out, err, pid, attempt, host=None, process=None, answer=None, report=None):
        self.channel, self.out, self.err, self.pid, self.attempt = channel, out, err, pid, attempt
        self._host, self._process, self._answer, self._report = host, process, answer, report

    def begin(self, task_id, **more):
        """Tell a fork what to run."""
        self.channel.send(startup(task_id, self._host.bundle, self._host.file, self.attempt, **more))

    def finish(self):
        """Answer the task until its channel closes, and return its TaskEnd."""
        end = TaskEnd()
        while True:
            frame = self.channel.frame()
            if frame is None:
                break
            self._take(end, frame)
        if self._host is not None:
            end.exited = self._host.channel.note("Exited", fork_id=self.attempt)
        elif self._process is not None:
            assert self._process.wait(DEADLINE) == 0
            *_, (word, status, _, _, _, orphans) = [line.split() for line in self._report.done().splitlines()]
            assert word == "exited"
            end.exited = {"status": int(status), "orphans": int(orphans)}
        end.out, end.err = self.out.done(), self.err.done()
        self.channel.sock.close()
        return end

    def _take(self, end, frame):
        body = frame["body"]
        if frame["id"]:
            if body["type"] == "LogRecord":
                end.logs.append(body["event"])
                self.channel.reply(frame)
                return
            self.channel.reply(frame, self._answer)
        elif body["type"] in ("SucceedTask", "TaskState", "RetryTask"):
            end.terminal = body
        elif body["type"] == "LogRecord":
            end.logs.append(body["event"])
        elif body["type"] == "Exiting":
            end.exiting = body
        else:
            end.notes.append(body)


class Host:
    """A host process with the fake loader and runner. Use as a context manager."""

    def __init__(self, bundle, text, file="dag.py", env=None, python=sys.executable, argv=None):
        self.bundle, self.file = str(bundle), file
        with open(os.path.join(self.bundle, file), "w") as out:
            out.write(text)
        ours, theirs = socket.socketpair()
        self.out, self.err = Output(), Output()
        self.process = subprocess.Popen(
            [python] + (argv or [os.path.join(HERE, "fakes.py"), "host"]),
            env=environment(OSTRO_HOST_FD=str(theirs.fileno()), **(env or {})),
            pass_fds=(theirs.fileno(),),
            stdout=self.out.write_fd,
            stderr=self.err.write_fd,
            start_new_session=True,
        )
        theirs.close()
        for output in (self.out, self.err):
            os.close(output.write_fd)
        self.channel = Channel(ours)
        self.hello = self.channel.note("Hello")
        self.channel.send({"type": "Welcome", "protocol": wire.PROTOCOL})
        self._attempts = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.channel.sock.close()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def describe(self, **more):
        """Have the file imported and return Described."""
        body = {"type": "Describe", "bundle_name": "b", "bundle_path": self.bundle, "file": self.file, "shown_path": self.bundle}
        frame = self.channel.request(dict(body, **more))
        assert "error" not in frame, frame
        return frame["body"]

    def fork(self, task_id, keep=True, answer=None, start=True, spare=False, **more):
        """Fork a task, tell it what to run and return it."""
        self._attempts += 1
        attempt = "a-%d" % self._attempts
        ours, theirs = socket.socketpair()
        out, err = Output(keep), Output()
        body = {"type": "Fork", "fork_id": attempt, "spare": spare}
        frame = self.channel.request(body, (theirs.fileno(), out.write_fd, err.write_fd))
        theirs.close()
        os.close(out.write_fd)
        os.close(err.write_fd)
        assert frame.get("body", {}).get("type") == "Forked", frame
        task = Task(Channel(ours), out, err, frame["body"]["pid"], attempt, host=self, answer=answer)
        if start:
            task.begin(task_id, **more)
        return task

    def run(self, task_id, **more):
        """Fork a task and wait for its end."""
        return self.fork(task_id, **more).finish()

    def shutdown(self, grace=5.0):
        self.channel.send({"type": "Shutdown", "grace": grace})
        return self.process.wait(DEADLINE)

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(bundle, text, task_id, file="dag.py", env=None, answer=None, argv=None, details=None, **more):
    """Start ``ostro.task`` on a file, as the worker does for isolation: spawn, and return it."""
    with open(os.path.join(str(bundle), file), "w") as out:
        out.write(text)
    ours, theirs = socket.socketpair()
    out, err, report = Output(), Output(), Output()
    fds = (theirs.fileno(), report.write_fd)
    process = subprocess.Popen(
        [sys.executable] + (argv or [os.path.join(HERE, "fakes.py"), "task"]),
        env=environment(OSTRO_TASK_FD=str(fds[0]), OSTRO_KEEPER_FD=str(fds[1]), **(env or {})),
        pass_fds=fds,
        stdout=out.write_fd,
        stderr=err.write_fd,
    )
    theirs.close()
    os.close(out.write_fd)
    os.close(err.write_fd)
    os.close(report.write_fd)
    task = Task(Channel(ours), out, err, process.pid, "a-1", process=process, answer=answer, report=report)
    task.channel.send(details or startup(task_id, str(bundle), file, **more))
    return task
