"""Keeps secrets out of all that a local run prints: also what its child processes print, and streams taken aside before.

The run goes on in a child process whose standard output and error are pipes. The first process reads them, takes out the
secrets the run tells it of, and writes what is left to where it belongs. It ends as the run has ended, and after it: what
the run has printed is there, however the run came to its end. It does not wait for programs that outlive the run; a
process of its own goes on with their output.
"""

import codecs
import errno
import fcntl
import io
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import threading
import time
import warnings

from . import kernel
from .masking import Masker

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_CHUNK = 1 << 16
_PATIENCE = 10.0  # seconds a run has to end by itself when nobody can have its output
_UNWRITTEN = 7  # exit code of one whose output could not be written; docs/exit-codes.md
_SAME_STROKE = 1.0  # seconds within which a signal that we are sent is about what was typed


def begin(masker):
    """Return in a child process whose output is masked; this process passes it on and never returns.

    What it returns is a folder the run may make, which is removed after it; None, in this process, where there is no output
    to mask.
    """
    try:
        together = os.path.sameopenfile(1, 2)
    except OSError:
        return None
    scratch = os.path.join(tempfile.gettempdir(), "ostro-run-" + os.urandom(8).hex())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    control = os.pipe()
    out = os.pipe()
    err = out if together else os.pipe()
    mask, parent = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD}), os.getpid()
    pid = os.fork()
    if pid == 0:
        kernel.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for pipe, fd in ((out, 1), (err, 2)):
            os.dup2(pipe[1], fd)
        for fd in {*out, *err, control[0]}:
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _print_by_line()
        masker.relay = _Relay(control[1])
        return scratch
    for fd in {out[1], err[1], control[1]}:
        os.close(fd)
    passing = _Filter(pid, {out[0]: 1, err[0]: 2} if not together else {out[0]: 1}, control[0], mask)
    status = passing.run()
    shutil.rmtree(scratch, ignore_errors=True)
    if passing.fault is not None:
        _end_unwritten(passing.fault)
    if status == 0 and not passing.complete:
        os.write(2, b"ostro: the run has not come to its end: something in it ended the whole process, as os._exit(0) does\n")
        os._exit(1)
    _end_like(status)


def _print_by_line():
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


class OwnOutput(io.TextIOWrapper):
    """Standard output for the runner itself, whatever the author's code does to sys.stdout; what that has goes first."""

    def __init__(self):
        raw = open(os.dup(1), "wb")
        super().__init__(raw, encoding=sys.stdout.encoding, errors=sys.stdout.errors, line_buffering=True)

    def write(self, text):
        try:
            sys.stdout.flush()
        except (AttributeError, ValueError):  # it is closed, or has been detached
            pass
        return super().write(text)


class _Relay:
    """Tells the first process what is secret, before the run can print it.

    Any thread and any process of the run may; each locks the pipe, and so writes its line as a whole.
    """

    def __init__(self, fd):
        self._fd = fd
        self._one = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self):
        self._one = threading.Lock()

    def __call__(self, values, least):
        data = json.dumps([list(values), least]).encode() + b"\n"
        with self._one:  # the other lock is among processes
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            try:
                while data:
                    data = data[os.write(self._fd, data):]
            finally:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def end(self):
        """Say that the run has come to its end."""
        os.write(self._fd, b"null\n")


class _Filter:
    """Passes on what comes from pipes, without the secrets."""

    def __init__(self, pid, sources, control, mask):
        self._pid, self._control, self._mask = pid, control, mask
        self._masker, self._told = Masker(), b""
        self.complete = False  # the run has said that it has come to its end
        self.fault = None  # what kept its output from being written
        self._ended, self._until = False, 0.0
        self._streams = {fd: _Stream(target, self._masker) for fd, target in sources.items()}
        self._poll = select.poll()
        for fd in (control, *sources):
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
        for fd in sources:
            self._poll.register(fd, select.POLLIN)

    def run(self):
        """Pass everything on until the run has ended; return its status as os.wait gives it."""
        wake = os.pipe()
        threading.Thread(target=_forward, args=(self._pid, wake[1]), daemon=True).start()
        self._poll.register(wake[0], select.POLLIN)
        self._poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll(self._patience()):
                if fd == wake[0]:
                    os.read(fd, _CHUNK)
                elif fd == self._control:
                    self._learn()
                elif fd in self._streams:
                    self._take(fd)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._ended = True
                self._learn()
                break
        for fd in list(self._streams):  # what the run has left there; a program that outlives it may go on writing
            left = _waiting_in(fd)
            while left > 0 and fd in self._streams:
                left -= self._take(fd)
            if fd in self._streams and not _waiting_in(fd):
                self._take(fd)  # the end of the stream, if nobody has it open
        self._poll.unregister(wake[0])
        if self._streams:
            self._go_on_in_another_process()
        return status

    def _take(self, fd):
        """Read once from a pipe; return how much there was."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        self._learn()  # what is in the data as a secret was told of before
        stream, size = self._streams[fd], len(data)
        try:
            if self.fault is None:  # else what it still says is about that
                stream.write(data)
        except OSError as fault:
            self._end_run(fault)
            data = b""  # the run shall know, too
        if not data:
            self._poll.unregister(fd)
            del self._streams[fd]
            os.close(fd)
        return size

    def _end_run(self, fault):
        """Have the run end whose output nobody reads, or no disk takes, any more."""
        self.fault, self._until = fault, time.monotonic() + _PATIENCE
        if not self._ended:
            os.kill(self._pid, signal.SIGINT)  # with its children, as after Ctrl-C

    def _patience(self):
        """Return for how long to wait for something, in milliseconds; kill a run that does not end."""
        if self.fault is None:
            return None
        if time.monotonic() > self._until:
            os.kill(self._pid, signal.SIGKILL)
            return None
        return 1000

    def _learn(self):
        while self._control is not None:
            try:
                data = os.read(self._control, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                self._forget_control()
            self._told += data
        *lines, self._told = self._told.split(b"\n")
        told = [json.loads(line) for line in lines]
        self.complete = self.complete or None in told
        self._masker.add_all([one for one in told if one])

    def _forget_control(self):
        self._poll.unregister(self._control)
        os.close(self._control)
        self._control = None

    def _go_on_in_another_process(self):
        """Have the output of programs that outlive the run passed on for as long as they have it open."""
        warnings.simplefilter("ignore")  # of forks beside threads: ours waits for signals and holds nothing
        if os.fork():
            return
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        while self._streams:
            for fd, _ in self._poll.poll():
                if fd == self._control:
                    self._learn()
                elif fd in self._streams:
                    self._take(fd)
        os._exit(0)


def _waiting_in(fd):
    """Return how many bytes there are to be read in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]


class _Stream:
    """One place that output goes to. Bytes that are no text pass as they are."""

    def __init__(self, target, masker):
        self._target, self._masker, self._held = target, masker, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def write(self, data):
        """Pass on what has come, but for what may be the beginning of a secret; b"" is the end of the stream."""
        self._held += self._decoder.decode(data, not data)
        size = self._masker.safe(self._held) if data else len(self._held)
        text, self._held = self._held[:size], self._held[size:]
        left = self._masker.mask(text).encode("utf-8", "surrogateescape")
        while left:
            try:
                left = left[os.write(self._target, left):]
            except BlockingIOError:
                select.select([], [self._target], [])


def _forward(pid, wake):
    """Pass on the signals this process is sent. The terminal sends its own to the run, too.

    Who waits for us has them from the terminal as well, and may send us one for that: the run shall not have it twice.
    """
    wanted, knows_sender = _FORWARDED | {signal.SIGCHLD}, hasattr(signal, "sigwaitinfo")
    by_terminal, typed_at = not knows_sender and os.isatty(0), float("-inf")
    while True:
        if knows_sender:
            info = signal.sigwaitinfo(wanted)
            signum, by_terminal = info.si_signo, info.si_pid == 0
        else:
            signum = signal.sigwait(wanted)
        if signum == signal.SIGCHLD:
            os.write(wake, b"\0")
        elif by_terminal:
            typed_at = time.monotonic()
        elif time.monotonic() - typed_at > _SAME_STROKE:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass


def _end_unwritten(fault):
    """End this process as other programs end whose output cannot be written: without a word where nobody reads it."""
    if fault.errno == errno.EPIPE:
        _end_like(signal.SIGPIPE)
    words = os.strerror(fault.errno)
    try:
        os.write(2, ("ostro: write the output: %s\n" % (words[:1].lower() + words[1:])).encode())
    except OSError:
        pass
    os._exit(_UNWRITTEN)


def _end_like(status):
    """End this process with a status as os.wait gives it."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    signum = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one of the run is enough
    if signum not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)
