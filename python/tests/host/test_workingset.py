"""What tasks have in common of the memory they write is given to the next fork before anything else."""

import mmap
import subprocess
import sys
import textwrap

import pytest

from ostro import workingset


def in_a_process(text):
    """Run ``text`` in a process of its own, since the module keeps what the next fork is for."""
    code = "import sys; sys.path[:0] = %r\n" % sys.path + textwrap.dedent(text)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


FORKS = """
import array, ctypes, mmap, os
from ostro import workingset
memory = mmap.mmap(-1, 64 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"x" * len(memory)
first = ctypes.addressof(ctypes.c_char.from_buffer(memory)) // mmap.PAGESIZE
known = workingset.WorkingSet()

def fork(body, expected=True):
    where = known.expect() if expected else None
    pid = os.fork()
    if pid == 0:
        try:
            body()
            if where is not None:
                known.report(where)
        finally:
            os._exit(0)
    known.expect_no_more()
    os.waitpid(pid, 0)
    if where is not None:
        known.learn(where)

def touch(*pages):
    for page in pages:
        memory[page * mmap.PAGESIZE] = 1

def own():
    pages = set(array.array("Q", workingset._own_pages(known._areas)))
    print(sorted(page - first for page in pages if first <= page < first + 64), flush=True)
"""


def supported():
    """Whether this kernel gives memory on such a request."""
    return "True" in in_a_process(FORKS + """
fork(lambda: touch(1))
fork(lambda: touch(1))
fork(lambda: print(known.given, flush=True))
""")


def test_a_fork_after_two_reports_has_what_both_wrote_and_nothing_else():
    text = in_a_process(FORKS + """
fork(lambda: touch(3, 4, 9))
fork(lambda: touch(4, 9, 20))
fork(own)
fork(own, expected=False)
""")
    assert text == ("[4, 9]\n[]\n" if supported() else "[]\n[]\n")


def test_what_tasks_map_for_themselves_is_of_no_use_to_the_next_one():
    text = in_a_process(FORKS + """
def busy():
    touch(3)
    more = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    more[:] = b"y" * len(more)
    global kept
    kept = more, [str(n) for n in range(20000)]
fork(busy)
fork(busy)
fork(own)
fork(lambda: print(known.given, flush=True))
""")
    assert text == ("[3]\nTrue\n" if supported() else "[]\nFalse\n")


def test_a_fork_that_never_reported_leaves_its_place_to_another():
    text = in_a_process(FORKS + """
fork(lambda: os._exit(9))
fork(lambda: touch(5))
fork(lambda: os._exit(9))
fork(lambda: touch(5, 6))
fork(own)
""")
    assert text == ("[5]\n" if supported() else "[]\n")


def test_pages_become_ranges():
    assert workingset._ranges([3, 4, 5, 9, 11, 12]) == [[3, 3], [9, 1], [11, 2]]
    assert workingset._ranges([]) == []


@pytest.mark.parametrize("size", [1 << 20, 9 << 20])
def test_huge_pages_change_nothing_that_can_be_read(size):
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pattern = bytes(range(256)) * (size // 256)
    memory[:] = pattern
    workingset.use_huge_pages()
    assert memory[:] == pattern


def test_huge_pages_are_not_for_memory_that_is_hardly_used():
    size, page = 64 << 20, mmap.PAGESIZE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, size, 16 * page):
        memory[at] = 1

    def used():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    before = used()
    workingset.use_huge_pages()
    assert used() - before < size // 4
    memory.close()
