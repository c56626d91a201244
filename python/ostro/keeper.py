"""The keeper of a spawned task: a process between it and the worker that does nothing but wait for it.

A task may kill its parent process, by mistake or since some library does. The parent of a forked task is its host, which
is replaced; that of a spawned one would be the worker, and with it every task of the machine. So the first process of a
spawned task forks the task before anything of the author's is imported, and stays as its parent. What is sent to it is
sent on; when it dies the kernel kills the task, and when the task ends it ends what the task has left behind, reports and
is gone.
"""

import gc
import os
import signal

from ostro import kernel, mphelpers, proctree
from ostro.comms import EXIT_GONE

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_AWAITED = _PASSED_ON + (signal.SIGCHLD,)


def keep(channel, report):
    """Return in a child of this process, which becomes its keeper and never returns.

    ``channel`` is the task's and closed in the keeper, ``report`` the keeper's: "started PID" and "exited STATUS UTIME STIME
    MAXRSS ORPHANS" are written to it.
    """
    os.set_inheritable(report, False)
    keeper = os.getpid()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    pid = os.fork()
    if pid == 0:
        os.close(report)
        os.setpgid(0, 0)  # signals of the task to its own group are not for the keeper
        kernel.become_subreaper()
        kernel.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != keeper:  # it died before this could be said
            os._exit(EXIT_GONE)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
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
