"""``python -m ostro.host``: imports one DAG file and forks a process from itself for every task of it.

The worker starts a host with its control channel in OSTRO_HOST_FD, asks it to Describe the file and then sends Fork
with three descriptors: through the first of them the new process talks to the worker itself. The host has one thread and
never runs user code after the import; so a fork is a copy of a program at rest. All it does between forks is wait: for a
frame, or for a child to end.

Dying is part of the contract. A host that is sent a SIGTERM, by one of its tasks perhaps, forks no more and ends when the
last of them has. When the worker is gone (end of file on the channel, or the kernel's word that the parent
died) the host ends every task with everything below it. While it imports, and cannot listen, the kernel kills it.
"""

from ostro import workingset  # isort: skip; first, see there

import faulthandler
import functools
import gc
import os
import platform
import select
import signal
import socket
import sys
import time
import traceback
import weakref

from ostro import comms as wire
from ostro import footprint, forkedtask, forksafe, forkstate, kernel, mphelpers, outputs, preload, proctree, task

_PARENT_DIED = signal.SIGRTMIN
_OURS = tuple(map(int, (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, _PARENT_DIED)))
_BLOCK, _UNBLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_UNBLOCK), int(signal.SIG_SETMASK)
_STRAY_PATIENCE = 5.0  # seconds an end is held back for processes that do not die of SIGKILL
_REHEARSALS = 10  # the interpreter specialises a function after some calls


class Host:
    """One host: its channel, the imported file, its forks."""

    def __init__(self, sock):
        self._sock = sock
        self._environment = forkstate.Environment(os.environ)
        self._threads = forkstate.NativeThreads(self._environment)
        self._random = forkstate.RandomStates()
        self._files = forkstate.OpenFiles()
        self._parent = os.getppid()
        self._pid = os.getpid()
        self._decoder = wire.Decoder()
        self._later = []  # frames that came while the file was imported
        self._fds = []
        self._file = None  # (bundle path, file) that this host serves
        self._described = None
        self._dags = {}
        self._modules = frozenset()
        self._tasks = {}  # pid → ForkedTask
        self._held = []  # tasks that have ended and wait for their strays
        self._strays = {}  # pid → the ForkedTask it is attributed to, or None
        self._memory = workingset.WorkingSet()
        self._footprint = None  # of this process, as forks find it
        self._rehearsable = False  # what the file has replaced lets a task that does nothing run
        self._reports = {}  # pid → where the fork reports on its memory
        self._own = set()  # children that are not tasks and stay
        self._closing = None  # when Shutdown turns into KILL
        self._parent_died = self._asked_to_end = False
        self._wake = tuple(map(wire.out_of_reach, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)))
        self._handlers = {}
        self._gc_enabled = None
        self._forking = 0  # the process that forks
        os.register_at_fork(before=self._note_forking, after_in_child=self._bind_fork)

    # ---- the loop ----

    def serve(self):
        """Greet the worker and serve it until it is gone or says Shutdown."""
        self._say(
            {
                "type": "Hello",
                "protocol": wire.PROTOCOL,
                "language": "python",
                "runtime": platform.python_version(),
                "pid": self._pid,
            }
        )
        self._listen_to_signals()
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        while True:
            for fd, _ in poll.poll(self._timeout()):
                if fd == self._wake[0]:
                    self._drain_wakeups()
                elif not self._read():
                    return self.abandon()
            self._reap()
            for one in self._held:
                one.end_trackers()
            if self._parent_died and os.getppid() != self._parent:
                return self.abandon()
            if self._asked_to_end and self._closing is None:
                if not self._tasks and not self._held:
                    return None
            if self._closing is not None and self._close():
                return None

    def _timeout(self):
        moments = [one.next_moment() for one in self._held]
        if self._closing is not None:
            moments.append(self._closing)
        if not moments:
            return None
        return max(0, min(moments) - time.monotonic()) * 1000 + 1

    def _read(self):
        try:
            data, fds = wire.receive_with_fds(self._sock)
        except ConnectionError:
            return False
        self._fds.extend(fds)
        if not data:
            return False
        self._decoder.feed(data)
        frame = self._next()
        while frame is not None:
            self._handle(frame)
            frame = self._next()
        return True

    def _next(self):
        return self._later.pop(0) if self._later else self._decoder.next()

    def _handle(self, frame):
        body, rid = frame.get("body") or {}, frame.get("id", 0)
        handler = {
            "Fork": self._fork,
            "Timetable": self._timetable,
            "Describe": self._describe,
            "Welcome": self._welcome,
            "Shutdown": self._on_shutdown,
        }.get(body.get("type"))
        try:
            if handler is None:
                raise wire.RemoteError("NOT_SUPPORTED", "a host does not know the message %s" % body.get("type"))
            answer = handler(body)
        except wire.RemoteError as err:
            answer, error = None, {"code": err.code, "message": err.message}
        else:
            error = None
        if rid:
            self._say(answer, rid, error)

    def _say(self, body, rid=0, error=None):
        try:
            self._sock.sendall(wire.encode(body, id=rid, error=error))
        except OSError:
            pass  # the worker is gone; reading says so too, and acts on it

    def _welcome(self, body):
        if body.get("protocol") != wire.PROTOCOL:
            text = "ostro.host: this runtime speaks protocol %d, the worker %s"
            print(text % (wire.PROTOCOL, body.get("protocol")), file=sys.stderr)
            os._exit(3)

    def _bind_fork(self):
        """Have forks that the file makes itself die with this host, also those a thread of it makes at its last moment."""
        if self._forking == self._pid:
            kernel.set_parent_death_signal(signal.SIGKILL)
            if os.getppid() != self._pid:  # it died before this could be said
                os._exit(0)

    def _note_forking(self):
        self._forking = os.getpid()

    # ---- importing ----

    def _describe(self, body):
        wanted = (body["bundle_path"], body["file"])
        if self._file not in (None, wanted):
            raise wire.RemoteError("INVALID_REQUEST", "this host serves %s, not %s" % (self._file[1], body["file"]))
        self._forget_signals()
        self._environment.impose()
        kernel.set_parent_death_signal(signal.SIGKILL)
        try:
            if self._file is None:
                self._file = wanted
                self._described = self._import(body)
            if body.get("preload"):
                self._preload(body)
            task.prepare()
            self._settle()
            self._unsafe(self._threads.stuck)
        finally:
            if os.getpid() != self._pid:  # the file forked while it was imported, and this is the child
                os._exit(0)
            self._listen_to_signals()
        return self._described

    def _import(self, body):
        from ostro import importcomms, live, loader, serialize

        started = time.monotonic()
        asked = live.comms = importcomms.ImportComms(self._sock, self._decoder, self._later, self._fds, self.abandon)
        try:
            with forksafe.Watch(body["bundle_path"]) as watch:
                result = loader.load_file(
                    body["bundle_path"],
                    body["file"],
                    body.get("shown_path") or body["bundle_path"],
                    body.get("compat") or "airflow3",
                    body.get("defaults") or {},
                )
        finally:
            live.comms = None
            asked.close()
        self._dags = result.dags
        described, errors = [], list(result.errors)
        for dag_id, dag in result.dags.items():
            try:
                described.append(serialize.describe(dag))
            except Exception as err:
                errors.append(
                    {
                        "file": body["file"],
                        "dag_id": dag_id,
                        "message": "cannot describe: %s" % err,
                        "traceback": traceback.format_exc(),
                    }
                )
        return {
            "type": "Described",
            "dags": described,
            "errors": errors,
            "modules": list(result.modules),
            "variables": sorted(asked.names["GetVariable"]),
            "connections": sorted(asked.names["GetConnection"]),
            "warnings": list(result.warnings),
            "fork_unsafe": forksafe.check(watch),
            "import_seconds": round(time.monotonic() - started, 6),
        }

    def _preload(self, body):
        with forksafe.Watch(body["bundle_path"], preloading=True) as watch:
            preload.import_modules(body["preload"])
        self._unsafe(forksafe.check(watch))

    def _unsafe(self, reason):
        """Add a reason not to fork this process to those already found."""
        known = self._described["fork_unsafe"]
        if reason and reason not in known:
            self._described = dict(self._described, fork_unsafe="; ".join(filter(None, (known, reason))))

    def _settle(self):
        """Bring the process into the state that is copied from now on."""
        preload.warm(self._described["dags"], self._dags.values())
        self._rehearsable = False
        try:
            for _ in range(_REHEARSALS):
                task.rehearse(self._files)
            self._rehearsable = True
        except Exception:  # what the file has replaced, of logging for instance, is its tasks' business
            traceback.print_exc()
        self._environment.restore()
        self._threads.settle()
        self._random.capture()
        if self._gc_enabled is None:
            self._gc_enabled = gc.isenabled()
        for info in weakref.finalize._registry.values():
            info.atexit = False  # TemporaryDirectory() of the file: it is ours to remove, not every task's
        self._own.update(proctree.children(self._pid))
        self._modules = preload.snapshot()
        gc.unfreeze()
        self._files.capture()
        gc.freeze()
        gc.disable()
        workingset.use_huge_pages()
        self._footprint = footprint.of_this_process()

    # ---- forking ----

    def _fork(self, body):
        """Make a task process that has the three descriptors which came with the request."""
        fds, self._fds = self._fds[:3], self._fds[3:]
        try:
            if len(fds) != 3:
                raise wire.RemoteError("INVALID_REQUEST", "Fork needs three file descriptors, got %d" % len(fds))
            leaving = self._closing is not None or self._asked_to_end
            if self._described is None or leaving:
                state = "is shutting down" if leaving else "has not imported a file"
                raise wire.RemoteError("INVALID_REQUEST", "cannot fork: this host %s" % state)
            pid = self._new_fork(body["fork_id"], fds, bool(body.get("spare")))
        finally:
            for fd in fds:
                os.close(fd)
        self._tasks[pid] = forkedtask.ForkedTask(body["fork_id"])
        return {"type": "Forked", "pid": pid}

    def _timetable(self, body):
        """Ask the timetable of a DAG of the file, in a fork."""
        from ostro import evaluation

        dag = self._dags.get(body["dag_id"]) if self._described is not None else None
        if dag is None:
            raise wire.RemoteError("NOT_FOUND", "the file declares no DAG %r" % body["dag_id"])
        self._files.flush()
        return evaluation.ask(dag, body, self._become_asked)

    def _become_asked(self):
        signal.set_wakeup_fd(-1)
        for signum, handler in self._handlers.items():
            kernel.signal(signum, handler)
        self._threads.restore()
        self._random.restore()

    def _new_fork(self, fork_id, fds, spare):
        """Fork; the child becomes a task process. Return its pid."""
        report = self._memory.expect()
        process = task.Process(wire.Comms(), self._files, self._footprint)
        if report:
            process.report = functools.partial(self._memory.report, report)
        self._files.flush()
        kernel.pthread_sigmask(_BLOCK, _OURS)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_task(process, fork_id, fds, spare)
        except OSError as err:
            raise wire.RemoteError("UNAVAILABLE", "cannot fork: %s" % err)
        finally:
            if os.getpid() == self._pid:
                self._memory.expect_no_more()
                kernel.pthread_sigmask(_UNBLOCK, _OURS)
        if report:
            self._reports[pid] = report
        return pid

    def _become_task(self, process, fork_id, fds, spare):
        """Turn this fresh fork into a task process, wait for its task and run it to its end. Does not return.

        That wait is long where it is a ``spare``, made before there is a task for it.
        """
        try:
            signal.set_wakeup_fd(-1)
            for fd in (self._sock.detach(), *self._wake, *self._fds):
                os.close(fd)
            task.own_session()
            if os.getppid() != self._pid:
                os._exit(wire.EXIT_GONE)
            for signum, handler in self._handlers.items():
                kernel.signal(signum, handler)
            self._threads.restore()
            self._random.restore()
            if self._gc_enabled:
                gc.enable()
            os.environ[forkedtask.MARK] = fork_id
            if spare and self._rehearsable and not self._memory.given:  # else a task waits already
                kernel.set_patience(True)
                task.rehearse(self._files)
                proctree.reap()
                signal.setitimer(signal.ITIMER_REAL, 0)
                kernel.set_patience(False)
            for number, fd in enumerate(fds[1:], 1):  # stdout, stderr
                os.dup2(fd, number)
                os.close(fd)
            process.attach(wire.out_of_reach(fds[0]))
            kernel.pthread_sigmask(_SETMASK, ())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        process.guard(lambda: self._run_task(process))

    def _run_task(self, process):
        startup = process.start()
        status = process.run(startup, self._dags)
        process.report_imports(self._modules, startup)
        return status

    # ---- children's ends ----

    def _reap(self):
        """Collect ended children, report tasks' ends, and end what they have left behind."""
        ended, suspects, have_children = [], [], True
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                have_children = False
                break
            if pid == 0:
                break
            if pid in self._reports:
                self._memory.learn(self._reports.pop(pid))
            one = self._tasks.pop(pid, None)
            if one is not None:
                one.ended(pid, status, usage)
                ended.append(one)
            elif pid in self._strays:
                owner = self._strays.pop(pid)
                if owner is not None:
                    owner.forget_stray(pid)
                suspects.append(owner)
        if have_children and (ended or suspects or self._strays):
            self._end_strays(ended + [one for one in suspects if one is not None])
        for one in ended:
            one.held_until = time.monotonic() + _STRAY_PATIENCE
        if ended or self._held:
            self._report(self._held + ended)

    def _end_strays(self, suspects):
        """End every child that is neither a task nor our own, with its tree: its task is dead, so it is an orphan."""
        keep = self._own | forksafe.helper_processes()
        for pid in proctree.children(self._pid):
            if pid in self._tasks or pid in self._strays or pid in keep:
                continue
            facts = proctree.stat(pid)
            owner = forkedtask.owner_of(pid, facts, suspects)
            self._strays[pid] = owner
            if owner is not None:
                owner.end_stray(pid)
            else:
                proctree.send([pid] + proctree.descendants(pid), signal.SIGKILL)

    def _report(self, candidates):
        now = time.monotonic()
        self._held = [one for one in candidates if one.strays and now < one.held_until]
        for one in candidates:
            if one not in self._held:
                self._say(one.end)

    # ---- ending ----

    def _on_shutdown(self, body):
        self._shut_down(float(body.get("grace") or 0))

    def _shut_down(self, grace):
        if self._closing is None:
            self._closing = time.monotonic() + grace
            if grace > 0:
                proctree.send(self._tasks, signal.SIGTERM)

    def _close(self):
        """Go on with the shutdown; return True when every task has ended and been reported."""
        if self._tasks and time.monotonic() >= self._closing:
            self._kill_everything(True)  # their trackers are ended after them
            self._closing = time.monotonic() + 0.1
        elif time.monotonic() >= self._closing:
            self._closing += 0.1
        return not self._tasks and not self._held

    def abandon(self):
        """Stop without a worker: end every task and everything below it, without grace."""
        mphelpers.close_pipes()
        now = time.monotonic()
        spare_until, deadline = now + mphelpers.TRACKER_PATIENCE, now + _STRAY_PATIENCE
        while now < deadline:
            self._kill_everything(now < spare_until)
            if not proctree.reap():
                break
            time.sleep(0.005)
            now = time.monotonic()

    def _kill_everything(self, spare_trackers):
        """Kill all below this process, but trackers for a moment if so wished."""
        pids = proctree.descendants(self._pid)
        if spare_trackers:
            pids = [pid for pid in pids if not mphelpers.is_tracker(pid)]
        proctree.send(pids, signal.SIGKILL)

    # ---- signals ----

    def _listen_to_signals(self):
        """Take over the signals the loop lives on; what the file has set for them is for its tasks."""
        found = {signum: kernel.getsignal(signum) for signum in _OURS}
        self._handlers = {signum: handler for signum, handler in found.items() if handler is not None}
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(_PARENT_DIED, self._on_parent_died)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        kernel.set_parent_death_signal(_PARENT_DIED)
        if os.getppid() != self._parent:
            self._parent_died = True
            os.write(self._wake[1], b"\0")

    def _forget_signals(self):
        signal.set_wakeup_fd(-1)
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def _on_term(self, signum, frame):
        self._asked_to_end = True

    def _on_parent_died(self, signum, frame):
        # Also sent when only the worker's thread that started us ends; serve() looks whether the parent really changed.
        self._parent_died = True

    def _drain_wakeups(self):
        try:
            while len(os.read(self._wake[0], 4096)) == 4096:
                pass
        except BlockingIOError:
            pass


def main():
    """Run a host on the channel that OSTRO_HOST_FD names."""
    given = int(os.environ.pop("OSTRO_HOST_FD"))
    os.set_inheritable(given, False)
    fd = wire.out_of_reach(given)
    task.null_stdin()
    task.default_interrupt()
    outputs.prepare()
    kernel.become_subreaper()
    if sys.stderr is not None:
        faulthandler.enable()
    host = Host(socket.socket(fileno=fd))
    status = 0
    try:
        host.serve()
    except BaseException:
        traceback.print_exc()
        host.abandon()
        status = 1
    finalizers = weakref.finalize._registry
    for info in finalizers.values():
        info.atexit = True
    if finalizers:
        weakref.finalize._exitfunc()
    task._flush_standard_streams()
    os._exit(status)


if __name__ == "__main__":
    from ostro.host import main  # so that classes are those of ostro.host, not of __main__

    main()
