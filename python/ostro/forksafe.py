"""Says whether the process that imported a DAG file may be forked to run its tasks, and if not, why, in words.

A fork copies one thread. Whatever another thread holds, a lock, half a frame on a connection, stays held in the child
for ever; a CUDA context and a connection belong to the process that opened them. A file that leaves such things behind
is run by spawn instead. Threads of native libraries (numpy's OpenBLAS) do not count: those libraries have fork
handlers of their own, and the host imports with one thread each.
"""

import _thread
import os
import socket
import sys
import threading
import time

from ostro import proctree

_FORKABLE_NATIVE_THREADS = ("jemalloc_bg_thd",)  # has fork handlers of its own
_UNSAFE_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)


class Watch:
    """Remembers, while a file is imported, where it starts threads, and what was open before.

    Use as a context manager around the import; ``check`` judges what is left behind.
    """

    def __init__(self, bundle_path, preloading=False):
        self._root = os.path.join(os.path.realpath(bundle_path), "")
        self._given = os.path.join(bundle_path, "")
        self._subject = "preloading" if preloading else "the file"
        self._threads = {}  # id of Thread object → where it was started
        self._sockets = {}  # file descriptor → where it was opened
        self._fds = _open_files()
        self._children = set(proctree.children(os.getpid()))
        self._native = _native_threads()
        self._bare = []  # where threads were started with module _thread
        self._patches = []

    def __enter__(self):
        start, init, bare = threading.Thread.start, socket.socket.__init__, _thread.start_new_thread
        watch = self

        def watched_start(thread, *args, **kwargs):
            watch._threads[id(thread)] = watch._where()
            return start(thread, *args, **kwargs)

        def watched_init(sock, *args, **kwargs):
            init(sock, *args, **kwargs)
            watch._sockets[sock.fileno()] = watch._where()

        def watched_bare(*args, **kwargs):
            watch._bare.append(watch._where())
            return bare(*args, **kwargs)

        self._patches = [
            (threading.Thread, "start", start, watched_start),
            (socket.socket, "__init__", init, watched_init),
            (_thread, "start_new_thread", bare, watched_bare),
        ]
        for owner, name, _, watched in self._patches:
            setattr(owner, name, watched)
        return self

    def __exit__(self, *exc):
        for owner, name, original, watched in self._patches:
            if getattr(owner, name) is watched:
                setattr(owner, name, original)
        return False

    def reasons(self):
        """Return every reason against forking, as sentences without a full stop."""
        found = self._thread_reasons()
        found += self._file_reasons()
        found += self._process_reasons()
        loop = sys.modules.get("asyncio.events")
        if loop is not None and loop._get_running_loop() is not None:
            found.append("%s leaves an asyncio event loop running" % self._subject)
        return found

    def _thread_reasons(self):
        found = []
        others = [t for t in threading.enumerate() if t is not threading.main_thread()]
        for thread in others:
            where = self._threads.get(id(thread)) or _body_of(thread)
            found.append("%s starts the thread %r at import%s" % (self._subject, thread.name, where))
        if self._bare:
            time.sleep(0.01)  # such a thread counts only once it runs
        if _bare_threads() > 0:
            where = self._bare[0] if self._bare else ""
            found.append("%s starts a thread at import with the _thread module%s" % (self._subject, where))
        for name in _named_native_threads(self._native):
            found.append("%s leaves the native thread %r running after import" % (self._subject, name))
        return found

    def _file_reasons(self):
        found = []
        for fd, target in sorted(_open_files().items()):
            if self._fds.get(fd) == target:
                continue
            if target.startswith("/dev/nvidia"):
                found.append("%s opens the GPU device %s at import" % (self._subject, target))
            elif target.startswith("socket:"):
                what = _describe_socket(fd)
                if what:
                    found.append("%s opens %s at import%s" % (self._subject, what, self._sockets.get(fd, "")))
        return sorted(set(found), key=found.index)

    def _process_reasons(self):
        helpers = helper_processes()
        found = []
        for pid in proctree.children(os.getpid()):
            facts = proctree.stat(pid)
            if pid in self._children or pid in helpers or facts is None or facts[0] == "Z":
                continue
            found.append("%s starts the process %r at import and leaves it running" % (self._subject, _command(pid)))
        return found

    def _where(self):
        """Return " (file, line N)" of the innermost calling frame that lies in the bundle, or ""."""
        frame = sys._getframe(2)
        while frame is not None:
            name = frame.f_code.co_filename
            for root in (self._given, self._root):
                if name.startswith(root):
                    return " (%s, line %d)" % (name[len(root) :], frame.f_lineno)
            frame = frame.f_back
        return ""


def check(watch=None):
    """Return in words why this process must not fork tasks, or "" when it may. Reasons are separated by semicolons."""
    if watch is None:
        watch = Watch("/")
        watch._fds, watch._children, watch._native = {}, set(), {}
    return "; ".join(watch.reasons())


def helper_processes():
    """Return the process ids of multiprocessing's own helpers, which are made to be shared across forks."""
    found = set()
    for name, holder, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
        ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_pid"),
    ):
        module = sys.modules.get(name)
        pid = getattr(getattr(module, holder, None), attribute, None)
        if pid:
            found.add(pid)
    return found


def _bare_threads():
    """Count the threads module threading does not know. One that is just ending gets a moment to go."""
    deadline = time.monotonic() + 0.05
    while True:
        bare = _thread._count() - (threading.active_count() - 1)
        if bare <= 0 or time.monotonic() > deadline:
            return bare
        time.sleep(0.001)


def _named_native_threads(known):
    """Return the names of native threads that were given one (a runtime of its own: polars, tokio, grpc, CUDA).

    Unnamed ones carry the process's name: BLAS and OpenMP pools, which the host has dealt with, and Python's threads.
    """
    found = []
    ours = {str(getattr(thread, "native_id", "")) for thread in threading.enumerate()}
    for thread, name in _native_threads().items():
        if thread not in known and thread not in ours and name not in _FORKABLE_NATIVE_THREADS and name not in found:
            found.append(name)
    return found


def _native_threads():
    found, me = {}, str(os.getpid())
    own = _comm(me)
    for thread in os.listdir("/proc/self/task"):
        name = _comm(thread)
        if name and name != own:
            found[thread] = name
    return found


def _comm(thread):
    try:
        with open("/proc/self/task/%s/comm" % thread) as file:
            return file.read().strip()
    except OSError:
        return ""


def _open_files():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
    return found


def _describe_socket(fd):
    """Say what a socket is connected to; "" for one that a fork may share (listening, or of a kernel-only family)."""
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        return ""
    with sock:
        try:
            if sock.family not in _UNSAFE_FAMILIES or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return ""
            peer = sock.getpeername()
        except OSError:
            return "a socket"
        if isinstance(peer, tuple):
            return "a connection to %s port %d" % peer[:2]
        return "a connection to %s" % os.fsdecode(peer) if peer else "a pair of connected sockets"


def _body_of(thread):
    """Return " (runs function in file, line N)" for a thread that was not seen starting, or ""."""
    code = getattr(getattr(thread, "_target", None), "__code__", None) or getattr(type(thread).run, "__code__", None)
    if code is None or code.co_filename == threading.__file__:
        return ""
    return " (it runs %s, %s line %d)" % (code.co_name, code.co_filename, code.co_firstlineno)


def _command(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            text = file.read().replace(b"\0", b" ").strip().decode("utf-8", "replace")
    except OSError:
        text = ""
    return text[:80] or str(pid)
