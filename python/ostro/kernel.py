"""The few system calls Python has no function for, resolved once so that a forked child only calls them."""

import ctypes
import os
import sys

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


if not sys.platform.startswith("linux"):

    def _call(option, value):
        """Elsewhere than on Linux there is neither; the worker's scan for leftover processes has to do."""
