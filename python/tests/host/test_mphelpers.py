"""What becomes of multiprocessing's own helper processes at the end of a task, with real processes."""

import os
import textwrap
import uuid

import pytest

from harness import Host, alive, spawn

UP = """
import time
from multiprocessing import resource_tracker
def tracker():  # once it does its work: deaf to SIGINT
    pid = resource_tracker._resource_tracker._pid
    for _ in range(3000):
        with open("/proc/%d/status" % pid) as file:
            if any(line.startswith("SigIgn:") and int(line.split()[1], 16) & 2 for line in file):
                return pid
        time.sleep(0.01)
"""

FILE = """
    import multiprocessing, os, signal, subprocess, sys, time
    from multiprocessing import shared_memory
    NAME = %r
    SCRIPT = "from multiprocessing import shared_memory; shared_memory.SharedMemory(%%r, create=True, size=16)" %% NAME
    UP = %r
    exec(UP)
    def forgets(comms):
        kept.append(shared_memory.SharedMemory(NAME, create=True, size=16))
        return tracker()
    kept = []
    def pool(kind):
        with multiprocessing.get_context(kind).Pool(2) as pool:
            got = pool.map(abs, [-1, 2])
        return got
    def spawns(comms):
        return [pool("spawn"), tracker()]
    def serves(comms):
        from multiprocessing import forkserver
        return [pool("forkserver"), tracker(), forkserver._forkserver._forkserver_pid]
    def leaves(comms):
        forgets(comms)
        made = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,), daemon=True)
        made.start()
        multiprocessing.process._children.clear()  # so that nothing but the runtime ends it
        return [made.pid, tracker()]
    def serves_on(comms):
        made = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(1000,), daemon=True)
        made.start()
        multiprocessing.process._children.clear()
        return [made.pid, tracker()]
    def runs(comms):
        subprocess.run([sys.executable, "-c", SCRIPT + "\\n" + UP + "tracker()"], check=True)
    def killed(comms):
        comms.send({"type": "AddNotice", "text": "%%d" %% forgets(comms)})
        os.kill(os.getpid(), signal.SIGKILL)
    def dropped(comms):
        comms.send({"type": "AddNotice", "text": "%%d" %% forgets(comms)})
        made = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        made.start()
        os._exit(3)
    def ran_and_killed(comms):
        ready, them = os.pipe()
        script = SCRIPT + "\\n" + UP + "tracker(); import os; os.write(%%d, b'x'); time.sleep(1000)" %% them
        subprocess.Popen([sys.executable, "-c", script], pass_fds=[them])
        os.read(ready, 1)
        os._exit(3)
    def pretends(comms):
        line = "from multiprocessing.resource_tracker import main; import os, time; time.sleep(1000)"
        made = subprocess.Popen([sys.executable, "-c", line], start_new_session=True)
        comms.send({"type": "AddNotice", "text": "%%d" %% made.pid})
        os._exit(3)
    def stops(comms):
        os.kill(forgets(comms), signal.SIGSTOP)
        return tracker()
"""


@pytest.fixture
def file():
    """The text of a DAG file and the path of the shared memory that it makes."""
    name = "ostro-test-" + uuid.uuid4().hex
    yield textwrap.dedent(FILE % (name, UP)), "/dev/shm/" + name
    if os.path.exists("/dev/shm/" + name):
        os.unlink("/dev/shm/" + name)


@pytest.fixture(params=["fork", "spawn"])
def ends(request, tmp_path):
    """Run tasks one after the other, in forks of one host and as processes of their own, and return their ends."""

    def forked(text, *tasks):
        with Host(tmp_path, text) as host:
            assert host.describe()["fork_unsafe"] == ""
            return [host.run(task) for task in tasks]

    def spawned(text, *tasks):
        return [spawn(tmp_path, text, task).finish() for task in tasks]

    return forked if request.param == "fork" else spawned


def test_shared_memory_a_task_forgets_is_gone_when_the_next_one_starts(ends, file):
    text, segment = file
    for end in ends(text, "forgets", "forgets"):
        assert end.returncode == 0 and end.logs == [] and not alive(end.value)
        assert "leaked shared_memory objects" in end.err
    assert not os.path.exists(segment)


def test_a_pool_of_spawned_processes_leaves_nothing_to_be_killed(ends, file):
    for end in ends(file[0], "spawns", "spawns"):
        got, tracker = end.value
        assert got == [1, 2] and end.logs == [] and end.returncode == 0 and not alive(tracker)


def test_a_pool_of_a_fork_server_leaves_nothing_to_be_killed(ends, file):
    for end in ends(file[0], "serves", "serves"):
        got, tracker, server = end.value
        assert got == [1, 2] and end.logs == [] and end.returncode == 0 and not alive(tracker) and not alive(server)


def test_a_process_that_holds_the_trackers_pipe_is_ended_first_and_is_the_only_one_told_of(ends, file):
    text, segment = file
    (end,) = ends(text, "leaves")
    assert end.logs == ["killed 1 process the task left behind"] and not any(map(alive, end.value))
    assert not os.path.exists(segment)


def test_the_tracker_of_a_program_that_a_task_ran_does_its_work_too(ends, file):
    text, segment = file
    for end in ends(text, "runs", "runs"):
        assert end.logs == [] and end.returncode == 0
    assert not os.path.exists(segment)


def test_a_tracker_that_does_not_end_is_killed_and_told_of(tmp_path, file):
    wrapper = "import ostro.mphelpers\nostro.mphelpers.PATIENCE = 0.2\n"
    end = spawn(tmp_path, wrapper + file[0], "stops").finish()
    assert end.logs == ["killed 1 process the task left behind"] and not alive(end.value)


def test_a_worker_of_a_fork_server_is_ended_like_any_process_that_is_left_behind(file, ends):
    (end,) = ends(file[0], "serves_on")
    assert end.logs == ["killed 1 process the task left behind"] and not any(map(alive, end.value))


def test_shared_memory_of_a_task_that_is_killed_or_drops_out_is_removed(ends, file):
    text, segment = file
    for end in ends(text, "killed", "dropped"):
        assert end.returncode in (-9, 3) and not alive(int(end.notes[0]["text"]))
        assert not os.path.exists(segment)


def test_shared_memory_of_a_program_of_a_task_that_drops_out_is_removed(ends, file):
    text, segment = file
    for end in ends(text, "ran_and_killed", "ran_and_killed"):
        assert end.returncode == 3 and not os.path.exists(segment)


def test_a_process_that_looks_like_a_tracker_outlives_its_task_for_a_moment_only(ends, file):
    (end,) = ends(file[0], "pretends")
    assert end.returncode == 3 and not alive(int(end.notes[0]["text"]))


def test_shared_memory_of_tasks_is_removed_when_the_worker_is_gone(tmp_path, file):
    text, segment = file
    text += "\ndef waits(comms):\n    comms.send({'type': 'AddNotice', 'text': str(forgets(comms))})\n    time.sleep(1000)\n"
    with Host(tmp_path, text) as host:
        host.describe()
        host.fork("waits").channel.note("AddNotice")
        assert os.path.exists(segment)
        host.channel.sock.close()
        host.process.wait(20)
        assert not os.path.exists(segment)
