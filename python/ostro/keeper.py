"""A keeper: a process between the worker and one that runs an author's code, which does nothing but wait for it.

That code may kill its parent process, by mistake or since some library does. The parent of a forked task is its host, which
is replaced; that of a spawned one, and of a host whose file does so while it is imported, would be the worker, and with it
every task of the machine. So their first process forks before anything of the author's is imported, and stays as the
parent. What is sent to it is sent on; when it dies the kernel kills what it keeps. That of a task ends what the task has left
behind and reports; that of a host, ``python -m ostro.keeper``, ends as the host has ended.
"""

from ostro import workingset  # noqa: F401, isort: skip; first, see there

import gc
import os
import resource
import signal

from ostro import kernel, mphelpers, proctree
from ostro.comms import EXIT_GONE

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_AWAITED = _PASSED_ON + (signal.SIGCHLD,)
_DESCRIPTORS = 64  # more than a process has that has just started


def keep(channel, report):
    """Return in a child of this process, which becomes its keeper and never returns.

    ``channel`` is the task's and closed in the keeper, ``report`` the keeper's: "started PID" and "exited STATUS UTIME STIME
    MAXRSS ORPHANS" are written to it.
    """
    os.set_inheritable(report, False)
    pid = _fork()
    if pid == 0:
        os.close(report)
        os.setpgid(0, 0)  # signals of the task to its own group are not for the keeper
        kernel.become_subreaper()
        return
    try:
        os.write(report, b"started %d\n" % pid)
        os.close(channel)
        gc.disable()
        kernel.set_title("ostro keeper of process %d" % pid)
        status, usage = _watch(pid)
        left = mphelpers.end_all(0)  # the kernel has handed what the task has left behind to this process
        facts = (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss, left)
        os.write(report, b"exited %d %f %f %d %d\n" % facts)
    finally:
        os._exit(0)


def keep_host():
    """Return in a child of this process, which becomes its keeper and never returns."""
    pid = _fork()
    if pid == 0:
        kernel.set_title("ostro.host")
        return
    status = 1
    try:
        os.closerange(0, _DESCRIPTORS)
        gc.disable()
        kernel.set_title("ostro keeper of process %d" % pid)
        status, _ = _watch(pid)
        if os.WIFSIGNALED(status):
            _end_by(os.WTERMSIG(status))
    finally:
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def _fork():
    """Fork a child that dies with this process; in this process the signals that ``_watch`` awaits are blocked from then on."""
    keeper = os.getpid()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    pid = os.fork()
    if pid == 0:
        kernel.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != keeper:  # it died before this could be said
            os._exit(EXIT_GONE)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    return pid


def _end_by(signum):
    """End as something ended that a signal has killed, without a second core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)


def _watch(pid):
    """Wait for the task's end; return its wait status and resource usage."""
    while True:
        signum = signal.sigwait(_AWAITED)
        if signum != signal.SIGCHLD:
            proctree.send([pid], signum)
            continue
        ended = pid
        while ended:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if ended == pid:
                return status, usage


if __name__ == "__main__":
    from ostro.keeper import keep_host

    keep_host()
    from ostro.host import main

    main()
