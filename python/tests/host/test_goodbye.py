"""The end of a forked task: its last word comes when nothing is left that the next task could meet."""

import fcntl
import os

from harness import Host

FILE = """
import fcntl, os, threading, time

bytearray(300 << 20)  # for a moment, as an import may

def plain(comms):
    return 1

def moves(comms):
    os.chdir(os.path.dirname(__file__))

def locks(comms):
    global kept
    kept = open(os.path.join(os.path.dirname(__file__), "lock"), "w")
    fcntl.flock(kept, fcntl.LOCK_EX)

def at_exit(comms):
    import atexit
    atexit.register(lambda: print("from the atexit hook"))

def mapped(comms):
    global kept
    import mmap
    with open(os.path.join(os.path.dirname(__file__), "lock"), "w+") as file:
        file.truncate(4096)
        fcntl.flock(file, fcntl.LOCK_EX)
        kept = mmap.mmap(file.fileno(), 4096)

def daemon(comms):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

def large(comms):
    global kept
    kept = bytearray(b"x") * (200 << 20)

"""


def run(tmp_path, *tasks):
    with Host(tmp_path, FILE) as host:
        host.describe()
        return [host.run(task) for task in tasks]


def test_a_forked_task_says_goodbye_with_its_status_and_what_it_used(tmp_path):
    with Host(tmp_path, FILE) as host:
        host.describe()
        plain = host.run("plain")
        unknown = host.run("plain", ti={"dag_id": "gone", "task_id": "plain"})
    assert plain.exiting["status"] == plain.exited["status"] == 0
    assert unknown.exiting["status"] == unknown.exited["status"] == 1 << 8
    assert plain.exiting["maxrss"] > 1 << 20 and plain.exiting["utime"] + plain.exiting["stime"] > 0


def test_hooks_have_run_and_locks_are_free_when_a_task_says_goodbye(tmp_path):
    with Host(tmp_path, FILE) as host:
        host.describe()
        assert "from the atexit hook\n" in host.run("at_exit").out
        task = host.fork("locks")
        while task.channel.frame()["body"]["type"] != "Exiting":
            pass
        with open(os.path.join(str(tmp_path), "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_task_with_a_thread_a_shared_mapping_or_much_memory_is_waited_for(tmp_path):
    for end in run(tmp_path, "daemon", "mapped", "large"):
        assert end.exiting is None and end.returncode == 0


def test_a_task_is_not_in_a_folder_when_it_says_goodbye(tmp_path):
    with Host(tmp_path, FILE) as host:
        host.describe()
        task = host.fork("moves")
        while task.channel.frame()["body"]["type"] != "Exiting":
            pass
        try:
            assert os.readlink("/proc/%d/cwd" % task.pid) == "/"
        except OSError:
            pass  # it is gone


def test_a_device_is_told_from_a_terminal_and_from_a_file(monkeypatch):
    from ostro import footprint

    with open(os.devnull) as null, open(__file__) as file:
        assert not footprint.is_device(null.fileno()) and not footprint.is_device(file.fileno())
        monkeypatch.setattr(footprint, "_HARMLESS_DEVICES", frozenset())
        assert footprint.is_device(null.fileno()) and not footprint.is_device(file.fileno())
