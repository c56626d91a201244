"""The memory that the tasks of a host write, learned from the first of them and given to every later fork in one call.

A fork shares its parent's memory until it writes, and in Python reading counts references, which writes. So even a task
that does nothing copies hundreds of pages, and the trap into the kernel for each costs as much as the copy. Which pages
they are hardly differs from task to task. The kernel says of a process which pages it has for itself; what two tasks have
in common, a later fork asks for at its very start (MADV_POPULATE_WRITE for a list of ranges: Linux 6.13; before, a fork
rehearses instead, see ``ostro.rehearsal``).
"""

import array
import mmap
import os
import struct

from ostro import kernel

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56  # bits of an entry of /proc/PID/pagemap
_MOST_PAGES = 4000  # in a report: two forks wait with so much memory of their own
_REPORTERS = 2
_COUNT = struct.Struct("Q")
_MOST_RANGES = 1024  # in one call
_HUGE = (2 << 20) // _PAGE
_FULL = _HUGE * 15 // 16  # from so many pages in use on a huge one costs little memory
_LARGEST = (1 << 30) // _PAGE  # in pages


def use_huge_pages():
    """Put this process's memory into huge pages where it fills them, so that a fork copies fewer entries (Linux 6.1)."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for start, end, name in _writable():
                if name in ("", "[heap]"):
                    _collapse(pagemap, start, end)
    except OSError:  # some processes may not look at themselves
        pass


def _collapse(pagemap, start, end):
    for page in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
        if sum(entry >> 63 for entry in _entries(pagemap, page, _HUGE)) >= _FULL:
            kernel.collapse(page * _PAGE, _HUGE * _PAGE)


class WorkingSet:
    """What is known of the tasks of one host."""

    def __init__(self):
        self._free = [mmap.mmap(-1, 8 + 8 * _MOST_PAGES) for _ in range(_REPORTERS)]  # for reports; shared with the forks
        self._pages = []  # a set from each task that has reported
        self._read = []  # reports, kept so that what is mapped stays the same (see ``ostro.footprint``)
        self._ranges, self._size = None, 0  # in bytes
        self._areas = None  # of the host's memory; what a task maps for itself is of no use to the next one
        self.given = False  # in a fork: whether it has the memory already

    def expect(self):
        """Prepare for the next fork, which is one that runs a task; return where it is to report, or None."""
        global _expected
        _expected = self
        if self._areas is None:
            self._areas = _areas()
        return self._free.pop() if self._free else None

    def expect_no_more(self):
        """Say that forks from now on are none that run tasks."""
        global _expected
        _expected = None

    def learn(self, report):
        """Read the report of a fork that has ended; after the last one what later forks get is settled."""
        (count,) = _COUNT.unpack_from(report)
        if count == 0:  # it never got a task, or died
            self._free.append(report)
            return
        self._read.append(report)
        self._pages.append(set(array.array("Q", report[8 : 8 + 8 * count])))
        if len(self._pages) == _REPORTERS:
            ranges = _ranges(sorted(set.intersection(*self._pages)))[:_MOST_RANGES]
            self._ranges = (kernel.Range * len(ranges))(*[(start * _PAGE, count * _PAGE) for start, count in ranges])
            self._size = sum(count for _, count in ranges) * _PAGE
            self._pages = ()

    def report(self, where):
        """Note in ``where`` which pages of the host's areas this process, a fork at its end, has copied."""
        try:
            pages = _own_pages(self._areas)
        except OSError:
            return
        where[8 : 8 + len(pages)] = pages
        _COUNT.pack_into(where, 0, len(pages) // 8)

    def _populate(self):
        if self._ranges is not None:
            self.given = kernel.populate(self._ranges) == self._size


_expected = None


def _after_fork():
    global _expected
    if _expected is not None:
        expected, _expected = _expected, None
        expected._populate()


# Such functions are called in the order of their registration. What the interpreter's own modules do after a fork (module
# threading and others) writes some of these pages, too: import this module before them.
os.register_at_fork(after_in_child=_after_fork)


def _areas():
    try:
        return list(_writable())
    except OSError:
        return []


def _own_pages(areas):
    found, wanted = array.array("Q"), _PRESENT | _EXCLUSIVE
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for start, end, _ in areas:
            entries = _entries(pagemap, start, end - start)
            found.extend(start + n for n, entry in enumerate(entries) if entry & wanted == wanted)
    return found[:_MOST_PAGES].tobytes()


def _writable():
    """Yield (first page, page after the last, name) of the areas of memory that this process alone writes to.

    Very large ones are left out: they are reserved, hardly used.
    """
    with open("/proc/self/maps") as maps:
        for line in maps:
            where, permissions, *rest = line.split(None, 5)
            if permissions == "rw-p":
                start, end = [int(one, 16) // _PAGE for one in where.split("-")]
                if end - start <= _LARGEST:
                    yield start, end, rest[3].strip() if len(rest) > 3 else ""


def _entries(pagemap, start, count):
    """Return what the kernel says of ``count`` pages."""
    entries = array.array("Q")
    entries.frombytes(os.pread(pagemap.fileno(), count * 8, start * 8))
    return entries


def _ranges(pages):
    """Return ascending page numbers as (first, count)."""
    out = []
    for page in pages:
        if out and page == out[-1][0] + out[-1][1]:
            out[-1][1] += 1
        else:
            out.append([page, 1])
    return out
