"""The life of one task process, from StartupDetails to os._exit; and ``python -m ostro.task``, which spawns one.

A forked task process is made by ``ostro.host``; it and the spawned one go through ``run`` here. What happens in between
is ``ostro.runner``'s. At the end comes what the end of a Python program means (threads joined, atexit hooks, buffers
flushed), then the processes the task left behind are ended, then the process is gone without taking down the interpreter,
which for a program with pandas loaded takes longer than many a task.
"""

import atexit
import datetime
import gc
import importlib
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback

from ostro import comms as wire
from ostro import footprint, keeper, kernel, mphelpers, outputs, preload, proctree

EXIT_LIMIT = 20.0
"""Seconds that threads and atexit hooks get after the task's function has returned."""

LEFTOVER_GRACE = 0.5
"""Seconds between TERM and KILL for processes a task has left behind."""

EXIT_TERMINATED = 128 + signal.SIGTERM
KIND_CALLBACK = "callback"
KIND_TRIGGERER = "triggerer"
_SIGTERM, _SIGALRM = int(signal.SIGTERM), int(signal.SIGALRM)


_NEEDED = ("ostro.tasklog", "ostro.rehearsal", "ostro.exceptions", "ostro.runner", "ostro.template", "copy")


def prepare():
    """Import what a task process needs. Call in the host, so that its forks find it there."""
    tasklog, rehearsal, *_ = [importlib.import_module(name) for name in _NEEDED]
    tasklog.prepare()
    rehearsal.prepare()


def rehearse(files):
    """Do once what every task does.

    In the host before it forks, so that what the interpreter learns from the first calls (specialised instructions, caches
    of types) is shared and not learned in every fork. And in a fork that waits for its task and has not got the memory
    tasks write in another way (``ostro.workingset``), so that it has its own copy of it by then.
    """
    import ostro.rehearsal

    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = Process(wire.Comms(ours), files)
        theirs.sendall(
            wire.encode({"type": "StartupDetails", "ti": {"dag_id": "", "map_index": -1}, "env": {"OSTRO_ATTEMPT_ID": ""}})
        )
        startup = process.comms.receive()
        _set_environment(startup["env"])
        del os.environ["OSTRO_ATTEMPT_ID"]
        process._log("info", "rehearsal")
        process.comms.send({"type": "RetryTask", "end_date": _now(), "reason": ""})
        process._flush()
        ostro.rehearsal.run()


class Process:
    """One task process: its channel, its signals and its end."""

    def __init__(self, comms, files=None, inherited=None, limit=EXIT_LIMIT):
        self.comms = comms
        self.report = None  # called at the end
        self._inherited = inherited  # the host's footprint, of a fork
        self._files = files
        self._limit = float(os.environ.get("OSTRO_EXIT_LIMIT") or limit)
        self._pid = os.getpid()
        self._begun = False  # it knows what to do
        self._terminated = False

    def attach(self, channel):
        """Become the task process on ``channel``: from here on SIGTERM runs on_kill and raises AirflowTaskTerminated.

        Before the process has been told what to do, SIGTERM ends it at once. The worker sees that nothing was begun.
        """
        self._pid = os.getpid()
        outputs.reset()
        self.comms.attach(channel)
        kernel.signal(_SIGTERM, self._on_term)
        _keep_terms_from_getting_lost()

    def start(self):
        """Wait for StartupDetails, apply its environment and return it."""
        startup = self.comms.receive()
        if startup.get("type") != "StartupDetails":
            raise wire.ProtocolError("expected StartupDetails, got %s" % startup.get("type"))
        ti = startup.get("ti") or {}
        kernel.set_title("ostro task %s.%s" % (ti.get("dag_id"), ti.get("task_id")))
        env = startup.get("env")
        if env:
            _set_environment(env)
            if "TZ" in env:
                time.tzset()
        self._begun = True
        if self._terminated:
            self._terminate()
        return startup

    def run(self, startup, dags):
        """Run what ``startup`` asks for with the DAG of that name and return the exit status."""
        import ostro.runner

        dag = dags.get(startup["ti"]["dag_id"])
        if dag is None:
            known = ", ".join(sorted(dags)) or "none"
            text = "%s does not declare the DAG %r any more (it declares: %s)"
            return self.refuse(startup, text % (startup.get("dag_rel_path"), startup["ti"]["dag_id"], known))
        run = ostro.runner.run_callback if startup.get("kind") == KIND_CALLBACK else ostro.runner.run_task
        status = run(startup, self.comms, dag)
        return status if isinstance(status, int) else 0

    def refuse(self, startup, reason, detail=""):
        """Log why the task cannot run at all and end the attempt as failed; return the exit status."""
        self._log("error", reason, detail)
        if startup.get("kind") != KIND_CALLBACK:
            self.comms.send({"type": "RetryTask", "end_date": _now(), "reason": reason.splitlines()[0]})
        return 1

    def report_imports(self, before, startup):
        """Tell the worker which large modules this task has imported since ``before``."""
        modules = preload.learned(before, startup.get("bundle_info", {}).get("path") or os.sep + "nowhere")
        if modules:
            self.comms.send({"type": "ImportedModules", "modules": modules})

    def guard(self, body):
        """Call ``body()``, which returns an exit status, and end the process with it, whatever happens."""
        status = 1
        try:
            status = body()
        except SystemExit as err:
            status = _exit_status(err)
        except BaseException as err:  # this is the bottom of the process
            if self._terminated:
                status = EXIT_TERMINATED
            elif os.getpid() == self._pid:
                self._log("error", "the task process failed: %s" % _one_line(err), traceback.format_exc())
            else:
                traceback.print_exc()
        finally:
            if os.getpid() != self._pid:  # a process the task forked has come back up to here: it is not the task
                _flush_standard_streams()
                os._exit(status)
            self.finish(status)

    def finish(self, status):
        """End the process as a Python program ends, with a time limit, and leave no process behind."""
        try:
            kernel.signal(_SIGTERM, lambda *_: self.comms.interrupt(lambda: self._leave(EXIT_TERMINATED)))
            kernel.signal(_SIGALRM, lambda *_: self.comms.interrupt(lambda: self._overdue(status)))
            signal.setitimer(signal.ITIMER_REAL, self._limit)
            threading._shutdown()
        except BaseException:
            traceback.print_exc()
        try:
            atexit._run_exitfuncs()
        except BaseException:  # before Python 3.10 the last error is raised after it was printed
            pass
        self._leave(status)

    def _leave(self, status):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            kernel.signal(_SIGTERM, kernel.SIG_IGN)
            self._flush()
            self._end_leftovers()
            if self.report is not None:
                self.report()
            self._say_goodbye(status)
        finally:
            os._exit(status)

    def _say_goodbye(self, status):
        """Tell the worker that all is done, where what the kernel has yet to take away matters to nobody.

        Taking away a process is slow, and slowest for the memory, which comes first. So the next task need not wait for
        it. It does wait where something of this one goes on or is given back late (see ``ostro.footprint``).
        """
        channel = self.comms.fileno()
        if self._inherited is None or channel is None or os.getpid() != self._pid:
            return
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
        if proctree.reap() or not footprint.nothing_left(self._inherited, descriptors):
            return
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        os.chdir("/")
        os.closerange(0, channel)
        os.closerange(channel + 1, max(descriptors) + 1)
        self.comms.send({
            "type": "Exiting",
            "status": (status & 0xFF) << 8,
            "utime": sum(one.ru_utime for one in usage),
            "stime": sum(one.ru_stime for one in usage),
            "maxrss": max(one.ru_maxrss for one in usage) * 1024,
        })
        os.close(channel)

    def _flush(self):
        _flush_standard_streams()
        if self._files is not None:
            self._files.flush_all()

    def _overdue(self, status):
        self._log("warning", "the task's threads and atexit hooks took more than %g s after its end" % self._limit)
        self._leave(status)

    def _end_leftovers(self):
        count = mphelpers.end_all(LEFTOVER_GRACE)
        if count:
            noun = "process" if count == 1 else "processes"
            self._log("warning", "killed %d %s the task left behind" % (count, noun))

    def _on_term(self, signum, frame):
        if not self._terminated:
            self._terminated = True
            self.comms.interrupt(self._terminate)

    def _terminate(self):
        if not self._begun:
            if not self.comms.heard:
                os._exit(wire.EXIT_GONE)
            return  # start() comes back to it
        import ostro.exceptions
        import ostro.runner

        try:
            getattr(ostro.runner, "on_term", lambda: None)()
        except Exception:
            self._log("error", "on_kill failed", traceback.format_exc())
        raise ostro.exceptions.AirflowTaskTerminated("the task was asked to end (SIGTERM)")

    def _log(self, level, event, error=""):
        record = {"type": "LogRecord", "time": _now(), "level": level, "logger": "ostro.task", "event": event}
        outputs.stamp(record)
        if error:
            record["error"] = error
        try:
            self.comms.send(record)
        except Exception:
            print(event, error, sep="\n", file=sys.stderr)


def _set_environment(env):
    environ = os.environ
    for name, value in env.items():  # update() looks at what it is given in ways that cost a fresh fork
        environ[name] = value


def _keep_terms_from_getting_lost():
    """Have the task's own forks die of SIGTERM, also of one that comes while they are being made.

    Python forgets signals that arrive in a child before its handlers are in order, so they wait until then.
    """
    masks = []

    def before():
        masks.append(kernel.pthread_sigmask(signal.SIG_BLOCK, (_SIGTERM,)))

    def after():
        kernel.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def in_child():
        kernel.signal(_SIGTERM, kernel.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


def own_session():
    """Make this process a session and a subreaper of its own that dies with its parent."""
    try:
        os.setsid()
    except PermissionError:
        pass  # its parent has done it
    kernel.become_subreaper()
    kernel.set_parent_death_signal(signal.SIGKILL)


def default_interrupt():
    """Give SIGINT Python's own handler; a server started in the background of a shell passes it on as ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def null_stdin():
    """Make reading standard input say that there is nothing to read."""
    fd = os.open(os.devnull, os.O_RDONLY)
    if fd == 0:
        os.set_inheritable(0, True)
    else:
        os.dup2(fd, 0)
        os.close(fd)


def main():
    """Run one task in a fresh interpreter (isolation: spawn)."""
    parent = os.getppid()
    own_session()
    null_stdin()
    default_interrupt()
    fd = int(os.environ.pop("OSTRO_TASK_FD"))
    os.set_inheritable(fd, False)
    if os.getppid() != parent:
        os._exit(wire.EXIT_GONE)
    report = os.environ.pop("OSTRO_KEEPER_FD", "")
    if report:
        keeper.keep(fd, int(report))
    process = Process(wire.Comms())
    process.attach(wire.out_of_reach(fd))
    outputs.prepare()
    process.guard(lambda: _spawned(process))


def _spawned(process):
    from ostro import forkstate

    environment = forkstate.Environment(os.environ)
    environment.restore()
    startup = process.start()
    if startup.get("kind") == KIND_TRIGGERER:
        from ostro import triggerer

        return triggerer.run(startup, process.comms)
    dags, failure = _load(startup, process.comms)
    prepare()
    process._files = forkstate.OpenFiles()
    process._files.capture()
    gc.freeze()
    if failure is not None and startup["ti"]["dag_id"] not in dags:
        return process.refuse(startup, *failure)
    return process.run(startup, dags)


def _load(startup, comms):
    """Import the task's file; return its DAGs by id and, when something in it failed, (reason, traceback)."""
    from ostro import live, loader

    bundle = startup["bundle_info"]
    live.comms = comms
    try:
        result = loader.load_file(
            bundle["path"],
            startup["dag_rel_path"],
            bundle.get("shown_path") or bundle["path"],
            startup.get("compat") or "airflow3",
            startup.get("defaults") or {},
        )
    finally:
        live.comms = None
    if not result.errors:
        return result.dags, None
    first = result.errors[0]
    return result.dags, ("cannot import %s: %s" % (first["file"], first["message"]), first.get("traceback", ""))


def _exit_status(err):
    if err.code is None:
        return 0
    if isinstance(err.code, int):
        return err.code & 0xFF
    print(err.code, file=sys.stderr)
    return 1


def _flush_standard_streams():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _one_line(err):
    return ("%s: %s" % (type(err).__name__, err)).splitlines()[0]


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


if __name__ == "__main__":
    from ostro.task import main  # so that classes are those of ostro.task, not of __main__

    main()
