"""The few system calls Python has no function for, or a slow one, resolved once so that a forked child only calls them.

What comes from _signal are the functions of module signal, with plain numbers.
"""

import ctypes
import os
import struct
import sys

# Module signal wraps these to turn numbers into enums, which costs a fresh fork more than the call itself.
from _signal import SIG_DFL, SIG_IGN, getsignal, pthread_sigmask, signal  # noqa: F401

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_prctl.restype = ctypes.c_int


def set_parent_death_signal(signum):
    """Have the kernel send this process ``signum`` when its parent dies; 0 takes the wish back.

    A parent that died before the call is not noticed: compare os.getppid() afterwards.
    """
    _call(_PR_SET_PDEATHSIG, signum)


def become_subreaper():
    """Have the kernel hand this process all descendants whose own parent dies, instead of handing them to init."""
    _call(_PR_SET_CHILD_SUBREAPER, 1)


def _call(option, value):
    if _prctl(option, value, 0, 0, 0) != 0:
        err = ctypes.get_errno()
        raise OSError(err, "prctl(%d): %s" % (option, os.strerror(err)))


_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MADV_POPULATE_WRITE, _MADV_COLLAPSE = 23, 25
_PROCESS_MADVISE = 440
_process_madvise = ctypes.CDLL(None).syscall  # a function of its own: its arguments are not those of other system calls
_process_madvise.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint]
_process_madvise.restype = ctypes.c_long


class Range(ctypes.Structure):
    """A range of memory, as the kernel takes it; make an array of them for ``populate``."""

    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def populate(ranges):
    """Have this process get its own copy of the memory in an array of ``Range`` now; return how many bytes it got.

    The kernel stops at the first range that it cannot give (-1: at once, as before Linux 6.13).
    """
    try:
        myself = os.pidfd_open(os.getpid())
    except OSError:
        return -1
    try:
        return _process_madvise(_PROCESS_MADVISE, myself, ranges, len(ranges), _MADV_POPULATE_WRITE, 0)
    finally:
        os.close(myself)


def collapse(start, length):
    """Put an aligned range of memory into huge pages, where the kernel can (Linux 6.1)."""
    _madvise(start, length, _MADV_COLLAPSE)


_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(os.uname().machine) if sys.platform == "linux" else None
_PATIENT = 100_000_000  # nanoseconds, the kernel's most


def set_patience(patient):
    """Say whether this process may be put off whenever another one wakes up, without losing what it is due.

    It asks for a long slice, which processes with the usual one interrupt (Linux 6.12; older kernels ignore it). Unlike
    a nice value it can be taken back without a privilege.
    """
    if _SCHED_SETATTR and os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, _PATIENT if patient else 0, 0, 0)
        _libc.syscall(_SCHED_SETATTR, 0, attributes, 0)


_ATTRIBUTES = struct.Struct("IIQiIQQQ")


def _argument_area():
    """Address and size of the memory that ps shows as the command line; size 0 where the kernel does not say."""
    try:
        with open("/proc/self/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, IndexError, ValueError):
        return 0, 0
    return (start, end - start) if 0 < start < end else (0, 0)


_ARGUMENTS = _argument_area()  # the same in every fork


def set_title(title):
    """Show ``title`` as this process's command line, cut to the room there is, so that ps tells tasks from their host."""
    start, size = _ARGUMENTS
    if size > 1:
        text = title.encode("utf-8", "replace")[: size - 1]
        ctypes.memmove(start, text.ljust(size, b"\0"), size)


if not sys.platform.startswith("linux"):

    def _call(option, value):
        """Elsewhere than on Linux there is neither; the worker's scan for leftover processes has to do."""
