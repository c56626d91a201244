"""What a file may not leave behind if its tasks are to be forks, and that each reason is said in words."""

import os
import textwrap

import pytest

from harness import Host, spawn, wait_until
from ostro import proctree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def processes_of_session(session):
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if (proctree.stat(pid) or ("", 0, 0))[2] == session]


def unsafe(tmp_path, text):
    with Host(tmp_path, textwrap.dedent(text)) as host:
        described = host.describe()
        assert described["errors"] == []
        return described["fork_unsafe"]


SAFE = {
    "nothing special": "x = 1",
    "a thread that has ended": "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()",
    "a thread pool that has been closed": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(abs, range(10)))
        """,
    "an executor that has no work yet": "from concurrent.futures import ProcessPoolExecutor\np = ProcessPoolExecutor(2)",
    "a bare thread that is just ending": "import _thread\n_thread.start_new_thread(int, ())",
    "a closed connection": "import socket\na, b = socket.socketpair()\na.close()\nb.close()",
    "a listening socket": "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()",
    "asyncio that has run": "import asyncio\nasync def f(): pass\nasyncio.run(f())",
    "locks of multiprocessing": "import multiprocessing\nlock = multiprocessing.Lock()",
    "a helper of multiprocessing": "from multiprocessing import resource_tracker\nresource_tracker.ensure_running()",
    "a process that has ended": "import subprocess\nsubprocess.run(['true'])",
    "an open file": "f = open(__file__)",
}


@pytest.mark.parametrize("what", SAFE)
def test_a_file_may_be_forked_with(tmp_path, what):
    with Host(tmp_path, textwrap.dedent(SAFE[what]) + "\ndef t(comms): return 1\n") as host:
        described = host.describe()
        assert described["errors"] == [] and described["fork_unsafe"] == ""
        assert host.run("t").value == 1


def test_a_thread_at_import_is_unsafe_and_named_with_its_line(tmp_path):
    text = """\
    import threading, time

    class Refresher(threading.Thread):
        def run(self):
            time.sleep(1000)

    Refresher(name="refresher", daemon=True).start()
    """
    assert unsafe(tmp_path, text) == "the file starts the thread 'refresher' at import (dag.py, line 7)"


def test_a_thread_started_by_a_helper_module_is_named_with_the_helpers_line(tmp_path):
    (tmp_path / "helper.py").write_text(
        "import threading\ndef go():\n    t = threading.Timer(1000, int)\n    t.daemon = True\n    t.start()\n"
    )
    reason = unsafe(tmp_path, "import helper\nhelper.go()\n")
    assert reason.endswith("at import (helper.py, line 5)")


def test_a_bare_thread_is_unsafe(tmp_path):
    text = "import _thread, time\n_thread.start_new_thread(time.sleep, (1000,))\n"
    assert unsafe(tmp_path, text) == "the file starts a thread at import with the _thread module (dag.py, line 2)"


def test_a_thread_pool_with_waiting_threads_is_unsafe(tmp_path):
    text = "from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor(1)\np.submit(int).result()\n"
    assert "'ThreadPoolExecutor-0_0'" in unsafe(tmp_path, text)


def test_a_connection_is_unsafe_and_said_where_it_goes(tmp_path):
    text = """\
    import socket
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    with open("PORT", "w") as f: f.write(str(port))
    """.replace("PORT", str(tmp_path / "port"))
    reason = unsafe(tmp_path, text)
    port = (tmp_path / "port").read_text()
    assert reason == "the file opens a connection to 127.0.0.1 port %s at import (dag.py, line 6)" % port


def test_an_event_loop_left_open_is_unsafe(tmp_path):
    text = "import asyncio\nloop = asyncio.new_event_loop()\n"
    assert unsafe(tmp_path, text).startswith("the file opens a pair of connected sockets at import (dag.py, line 2)")


def test_a_process_left_running_is_unsafe_and_is_left_alone(tmp_path):
    text = """\
    import subprocess
    p = subprocess.Popen(["sleep", "1000"])
    def t(comms):
        import os
        os.kill(p.pid, 0)
        return open("/proc/%d/stat" % p.pid).read().rpartition(")")[2].split()[0]
    """
    with Host(tmp_path, textwrap.dedent(text)) as host:
        reason = host.describe()["fork_unsafe"]
        assert reason == "the file starts the process 'sleep 1000' at import and leaves it running"
        assert host.run("t").value == "S"
        assert host.run("t").value == "S"


def test_a_multiprocessing_pool_is_unsafe(tmp_path):
    text = "import multiprocessing\npool = multiprocessing.get_context('fork').Pool(2)\npool.apply(int)\n"
    with Host(tmp_path, text) as host:
        reason = host.describe()["fork_unsafe"]
        session = host.process.pid
    assert "starts the thread" in reason and "starts the process" in reason
    # The pool replaces its processes when they die, even while the host is ending them.
    wait_until(lambda: not processes_of_session(session), "the end of the pool")


def test_an_open_gpu_device_is_unsafe(tmp_path, monkeypatch):
    from ostro import forksafe

    watch = forksafe.Watch(str(tmp_path))
    monkeypatch.setattr(forksafe, "_open_files", lambda: {**watch._fds, 99: "/dev/nvidia0", 98: "/dev/nvidiactl"})
    reasons = forksafe.check(watch)
    assert "the file opens the GPU device /dev/nvidiactl at import" in reasons
    assert "the file opens the GPU device /dev/nvidia0 at import" in reasons


def test_a_named_native_thread_is_unsafe(tmp_path, monkeypatch):
    from ostro import forksafe

    watch = forksafe.Watch(str(tmp_path))
    monkeypatch.setattr(forksafe, "_native_threads", lambda: {"1": "polars-0", "2": "polars-1", "3": "jemalloc_bg_thd"})
    reasons = forksafe.check(watch)
    assert "the file leaves the native thread 'polars-0' running after import; " in reasons
    assert "the file leaves the native thread 'polars-1' running after import" in reasons
    assert "jemalloc" not in reasons


def test_a_lock_held_by_a_thread_of_the_import_hangs_no_spawned_task(tmp_path):
    text = """
import threading, time
lock = threading.Lock()
def hold():
    with lock:
        held.set()
        time.sleep(0.5)
        release.wait()
held, release = threading.Event(), threading.Event()
threading.Thread(target=hold, name="holder", daemon=True).start()
held.wait()
def t(comms):
    release.set()
    with lock:
        return "got the lock"
"""
    assert "the thread 'holder'" in unsafe(tmp_path, text)
    assert spawn(tmp_path, text, "t").finish().value == "got the lock"


def test_a_host_has_no_thread_but_its_own_and_python_does_not_warn(tmp_path):
    text = """
import os
try:
    import numpy
except ImportError:
    pass
def t(comms):
    return sorted(os.listdir("/proc/%d/task" % os.getppid()))
"""
    with Host(tmp_path, text, env={"PYTHONWARNINGS": "error"}) as host:
        host.describe()
        end = host.run("t")
        assert end.value == [str(host.process.pid)] and end.err == ""
        assert host.run("t").value == [str(host.process.pid)]
        host.shutdown()
        assert host.err.done() == ""
