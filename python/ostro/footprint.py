"""What a process holds beyond its descriptors that the kernel gives back only when it takes the process away.

A task that holds nothing of the kind may be over before its process is: closing its descriptors has released all that its
successor could meet. Not looked at are System V semaphores that are to be undone.
"""

import collections
import os
import re
import resource
import stat

_MUCH = 64 << 20  # bytes of memory a task may hold beyond its host's
_HARMLESS_DEVICES = {1, 4, 5, *range(136, 144)}  # memory, terminals

# A shared mapping keeps the file open, with its locks; so do others that are no plain memory, and huge pages are few.
_HELD = re.compile(rb"^\S+ ...s |\[aio\]|anon_hugepage", re.MULTILINE)

Footprint = collections.namedtuple("Footprint", "memory mappings namespaces")


def of_this_process():
    """Return the footprint of this process, None where the kernel does not say."""
    try:
        with open("/proc/self/maps", "rb") as file:
            mappings = frozenset(_HELD.findall(file.read()))
        namespaces = tuple(os.readlink("/proc/self/ns/" + name) for name in ("mnt", "net", "ipc"))
    except OSError:
        return None
    return Footprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, mappings, namespaces)


def nothing_left(inherited, descriptors):
    """Whether this process, a fork that was ``inherited`` at its start, holds nothing more and has one thread.

    ``descriptors`` are those it has open.
    """
    if len(os.listdir("/proc/self/task")) > 1 or any(map(is_device, descriptors)):
        return False
    now = of_this_process()
    return (
        now is not None
        and now.memory - inherited.memory <= _MUCH
        and now.mappings <= inherited.mappings
        and now.namespaces == inherited.namespaces
    )


def is_device(fd):
    """Whether ``fd`` is a device other than a terminal or one of the kernel's own, such as /dev/null."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) not in _HARMLESS_DEVICES
