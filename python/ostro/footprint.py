"""What a process holds beyond its descriptors that the kernel gives back only when it takes the process away.

A task that holds nothing of the kind may be over before its process is: closing its descriptors has released all that its
successor could meet. Not looked at are System V semaphores that are to be undone.
"""

import collections
import os
import stat

_MUCH = 64 << 20  # bytes of memory a task may hold beyond its host's
_HARMLESS_DEVICES = {1, 4, 5, *range(136, 144)}  # memory, terminals
_FIELDS = (b"\nVmSize:", b"\nVmRSS:", b"\nVmData:", b"\nVmStk:", b"\nThreads:")

Footprint = collections.namedtuple("Footprint", "memory sizes mappings namespaces")
Footprint.__doc__ = """The ``sizes`` change when a mapping is added that ``mappings`` would name, and are cheap to ask for.

``memory`` is what the process has now, in bytes, not the most it ever had: an import may have needed much for a moment.
"""


def of_this_process():
    """Return the footprint of this process, None where the kernel does not say."""
    try:
        memory, sizes, _ = _status()
        return Footprint(memory, sizes, _mappings(), _namespaces())
    except (OSError, ValueError):
        return None


def nothing_left(inherited, descriptors):
    """Whether this process, a fork that was ``inherited`` at its start, holds nothing more and has one thread.

    ``descriptors`` are those it has open.
    """
    if inherited is None:
        return False
    memory, sizes, threads = _status()
    return (
        threads == 1
        and not any(map(is_device, descriptors))
        and memory - inherited.memory <= _MUCH
        and (sizes == inherited.sizes or _mappings() <= inherited.mappings)
        and _namespaces() == inherited.namespaces
    )


def _status():
    """Return the memory, how much is mapped of what is not plain memory of this process's own, and the number of threads."""
    with open("/proc/self/status", "rb", buffering=0) as file:
        text = file.read(8192)
    mapped, memory, own, stack, threads = [_number(text, name) for name in _FIELDS]
    huge = _number(text, b"\nHugetlbPages:") if b"\nHugetlbPages:" in text else None
    return memory * 1024, (mapped - own - stack, huge), threads


def _number(text, name):
    return int(text[text.index(name) + len(name) :].split(None, 1)[0])


def _mappings():
    """Return the mappings through which something outside of this process is held.

    A shared one keeps its file open, with its locks; huge pages that are reserved are few.
    """
    with open("/proc/self/maps", "rb") as file:
        return frozenset([line for line in file if line.split(b" ", 2)[1][3:] == b"s" or b"anon_hugepage" in line])


def _namespaces():
    return tuple([os.readlink("/proc/self/ns/" + name) for name in ("mnt", "net", "ipc")])


def is_device(fd):
    """Whether ``fd`` is a device other than a terminal or one of the kernel's own, such as /dev/null."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) not in _HARMLESS_DEVICES
