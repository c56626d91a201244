"""A child process in a group of its own whose output is passed on line by line."""

import os
import signal
import sys


class Streamed:
    """A running command. ``wait`` passes its output on and returns (exit code, last line).

    ``seen`` says whether the bytes ``watch`` have come in it.
    """

    def __init__(self, process, encoding, watch=None):
        self.process, self.encoding = process, encoding
        self.watch, self.seen = watch, False

    def wait(self):
        import threading

        last = [""]
        # stderr has a thread of its own, so that neither stream can block the command.
        reader = None
        if self.process.stderr is not None:
            reader = threading.Thread(target=self._pass_on, args=(self.process.stderr, sys.stderr, [""]), daemon=True)
            reader.start()
        self._pass_on(self.process.stdout, sys.stdout, last)
        if reader is not None:
            reader.join()
        code = self.process.wait()
        return code, last[0]

    def _pass_on(self, source, target, last):
        binary = getattr(target, "buffer", None)
        for raw in iter(lambda: source.readline(1 << 16), b""):
            if self.watch is not None and self.watch in raw:
                self.seen = True
            if raw.strip():
                last[0] = raw.decode(self.encoding, errors="backslashreplace").rstrip("\r\n")
            if binary is not None:
                target.flush()
                binary.write(raw)
                binary.flush()
            else:
                target.write(raw.decode(self.encoding, errors="backslashreplace"))
                target.flush()
        source.close()

    def kill_tree(self, grace=3.0):
        """End the command and everything in its process group: TERM, a moment, KILL."""
        import time

        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except (ProcessLookupError, PermissionError):
                return
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                self.process.poll()
                try:
                    os.killpg(self.process.pid, 0)
                except (ProcessLookupError, PermissionError):
                    return
                time.sleep(0.02)

    def describe_exit(self, code):
        return describe_exit(code)


def describe_exit(code):
    """Say an exit code in words: "3", "killed by SIGKILL (out of memory?)"."""
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if not number:
        return str(code)
    try:
        name = signal.Signals(number).name
    except ValueError:
        return str(code)
    words = {
        "SIGKILL": ": somebody killed it, most often the kernel because memory ran out",
        "SIGSEGV": ": it touched memory that is not its own (a crash in native code)",
        "SIGABRT": ": it gave up by itself (abort)",
        "SIGTERM": ": it was asked to end",
        "SIGBUS": ": a file or shared memory it had mapped went away",
        "SIGXCPU": ": it used up its CPU time limit",
    }.get(name, "")
    return "%d (ended by %s%s)" % (code, name, words)


# Signals that end a task; held back while a child is being made, so that none is made unseen.
_ENDING = (signal.SIGALRM, signal.SIGTERM)


def run_streaming(argv, owner, cwd=None, env=None, encoding="utf-8", merge_stderr=True, prepare=None, watch=None):
    """Start a command in a process group of its own, as ``owner._child``, and return it as Streamed."""
    import subprocess

    def in_child():
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        if prepare is not None:
            prepare()

    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE, preexec_fn=in_child)
        owner._child = Streamed(process, encoding, watch)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return owner._child
