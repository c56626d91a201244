"""The system calls a fork makes for itself."""

import ctypes
import os
import struct
import sys

import pytest

from ostro import kernel


def slice_in_nanoseconds():
    """What sched_getattr says of this process: the slice it asked for, or the usual one."""
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    held = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(number, 0, held, 48, 0) == 0
    return struct.unpack("IIQiIQQQ", held.raw)[5]


@pytest.mark.parametrize("nice", [0, 5])
def test_patience_can_be_taken_back_and_leaves_the_priority_alone(nice):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if nice:
                os.nice(nice)
            priority = os.getpriority(os.PRIO_PROCESS, 0)
            before = slice_in_nanoseconds() if sys.platform == "linux" else 0
            kernel.set_patience(True)
            patient = slice_in_nanoseconds() if sys.platform == "linux" else 0
            kernel.set_patience(False)
            release = tuple(int(part) for part in os.uname().release.split(".")[:2]) if sys.platform == "linux" else (0, 0)
            assert patient == 100_000_000 or release < (6, 12)
            assert sys.platform != "linux" or slice_in_nanoseconds() == before
            assert os.getpriority(os.PRIO_PROCESS, 0) == priority
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
