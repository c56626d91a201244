"""The control side of a host: greeting, describing, forking, reporting ends, dying."""

import os
import signal

from harness import Host, alive, wait_until
from ostro import comms as wire

SIMPLE = """
print("printed at import")
def hello(comms):
    print("hello from the task")
    return 42
def pid_and_children(comms):
    import subprocess
    child = subprocess.Popen(["sleep", "1000"])
    comms.send({"type": "AddNotice", "text": "%d" % child.pid})
    import time
    time.sleep(1000)
"""


def test_a_host_says_hello_describes_and_runs_a_task_in_a_fork(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        assert host.hello["protocol"] == wire.PROTOCOL and host.hello["pid"] == host.process.pid
        described = host.describe()
        assert described["dags"] == [{"dag_id": "d", "doc_md": ""}] and described["errors"] == []
        assert described["fork_unsafe"] == "" and described["import_seconds"] > 0
        end = host.run("hello")
        assert end.value == 42 and end.out == "hello from the task\n" and end.err == ""
        assert end.exited["pid"] != host.process.pid and end.returncode == 0
        assert end.exited["maxrss"] > 1 << 20 and end.exited["utime"] >= 0 and "orphans" not in end.exited
        assert host.shutdown() == 0
        assert host.out.done() == "printed at import\n"


def test_many_tasks_run_one_after_the_other_and_at_the_same_time(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        assert [host.run("hello").value for _ in range(20)] == [42] * 20
        tasks = [host.fork("hello") for _ in range(20)]
        assert [task.finish().value for task in tasks] == [42] * 20


def test_a_file_that_cannot_be_imported_is_described_with_its_traceback(tmp_path):
    with Host(tmp_path, "import sys\nsys.exit('no')\n") as host:
        described = host.describe()
        assert described["dags"] == [] and "SystemExit: no" in described["errors"][0]["message"]
        assert "line 2" in described["errors"][0]["traceback"]


def test_an_unknown_message_a_second_file_and_a_fork_before_describe_are_refused_in_words(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        assert host.channel.request({"type": "Dance"})["error"]["code"] == "NOT_SUPPORTED"
        frame = host.channel.request({"type": "Fork", "fork_id": "a"}, (0, 1, 2))
        assert frame["error"]["message"] == "cannot fork: this host has not imported a file"
        frame = host.channel.request({"type": "Fork", "fork_id": "a"})
        assert frame["error"]["message"] == "Fork needs three file descriptors, got 0"
        host.describe()
        body = {"type": "Describe", "bundle_path": str(tmp_path), "file": "other.py"}
        assert host.channel.request(body)["error"]["message"] == "this host serves dag.py, not other.py"


def test_a_worker_with_another_protocol_version_is_left(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.channel.send({"type": "Welcome", "protocol": 99})
        assert host.process.wait(10) == 3
        assert "speaks protocol %d, the worker 99" % wire.PROTOCOL in host.err.done()


def test_the_host_ends_every_tree_when_the_worker_is_gone(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        task = host.fork("pid_and_children")
        child = int(task.channel.note("AddNotice")["text"])
        assert alive(child)
        host.channel.sock.close()
        assert host.process.wait(10) == 0
        assert not alive(task.pid) and not alive(child)


def test_a_task_dies_with_a_killed_host(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        task = host.fork("pid_and_children")
        child = int(task.channel.note("AddNotice")["text"])
        host.kill()
        wait_until(lambda: not alive(task.pid), "the death of the task")
        os.kill(child, signal.SIGKILL)  # the worker's part: it is the next subreaper


def test_the_children_of_a_killed_task_are_killed_and_counted(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        task = host.fork("pid_and_children")
        child = int(task.channel.note("AddNotice")["text"])
        os.kill(task.pid, signal.SIGKILL)
        end = task.finish()
        assert end.returncode == -signal.SIGKILL and end.exited["orphans"] == 1
        assert not alive(child)


def test_shutdown_lets_tasks_end_themselves_and_kills_those_that_do_not(tmp_path):
    text = """
import time
def polite(comms):
    try:
        comms.send({"type": "AddNotice", "text": "ready"})
        time.sleep(1000)
    finally:
        print("cleaned up")
def stubborn(comms):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    comms.send({"type": "AddNotice", "text": "ready"})
    time.sleep(1000)
"""
    with Host(tmp_path, text) as host:
        host.describe()
        tasks = [host.fork("polite"), host.fork("stubborn")]
        for task in tasks:
            task.channel.note("AddNotice")
        host.channel.send({"type": "Shutdown", "grace": 1.0})
        polite, stubborn = [task.finish() for task in tasks]
        assert "cleaned up" in polite.out and "AirflowTaskTerminated" in polite.terminal["reason"]
        assert polite.returncode == 0 and stubborn.returncode == -signal.SIGKILL
        assert host.process.wait(10) == 0


def test_a_terminated_host_takes_no_more_tasks_and_ends_with_the_last_it_has(tmp_path):
    text = SIMPLE + """
def waits(comms):
    comms.send({"type": "AddNotice", "text": "up"})
    return comms.request({"type": "GetVariable", "key": "k"})
"""
    with Host(tmp_path, text) as host:
        host.describe()
        task = host.fork("waits")
        task.channel.note("AddNotice")
        os.kill(host.process.pid, signal.SIGTERM)
        refused = host.channel.request({"type": "Fork", "fork_id": "more"}, (0, 1, 2))
        assert "is shutting down" in refused["error"]["message"]
        assert host.process.poll() is None
        assert task.finish().value["ok"] is True
        assert host.process.wait(10) == 0


def test_a_file_that_forks_while_it_is_imported_makes_no_second_host(tmp_path):
    with Host(tmp_path, "import os\nif os.fork():\n    os.wait()\ndef t(comms): return 1\n") as host:
        assert host.describe()["errors"] == []
        assert host.run("t").value == 1


def test_describing_again_with_preload_imports_modules_that_tasks_reported(tmp_path):
    (tmp_path / "heavy").mkdir()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    package = tmp_path / "heavy" / "weighty"
    package.mkdir()
    names = ["m%d" % n for n in range(25)]
    for name in names:
        (package / (name + ".py")).write_text("")
    (package / "__init__.py").write_text("".join("from . import %s\n" % name for name in names))
    text = "import sys\ndef t(comms):\n    was = 'weighty' in sys.modules\n    import weighty\n    return was\n"
    path = os.pathsep.join([str(tmp_path / "heavy"), os.path.dirname(os.path.dirname(os.path.dirname(__file__)))])
    with Host(bundle, text, env={"PYTHONPATH": path}) as host:
        host.describe()
        end = host.run("t")
        assert end.value is False and {"type": "ImportedModules", "modules": ["weighty"]} in end.notes
        host.describe(preload=["weighty", "there.is.no.such.module"])
        end = host.run("t")
        assert end.value is True and end.notes == []


def test_a_preload_that_starts_a_thread_makes_the_host_unsafe_and_says_so(tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), name='t9', daemon=True).start()\n"
    )
    with Host(tmp_path, "def t(comms): return 1\n") as host:
        assert host.describe(preload=["threaded"])["fork_unsafe"].startswith("preloading starts the thread 't9'")


def test_a_spare_fork_runs_the_task_it_is_given_later(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        spares = [host.fork("hello", spare=True, start=False) for _ in range(2)]
        assert host.run("hello").value == 42
        for spare in reversed(spares):
            spare.begin("hello")
            end = spare.finish()
            assert end.value == 42 and end.exited["pid"] == spare.pid


def test_a_spare_fork_whose_channel_closes_is_gone_without_a_word(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        spare = host.fork("hello", spare=True, start=False)
        spare.channel.sock.close()
        assert host.channel.note("Exited", fork_id=spare.attempt)["pid"] == spare.pid
        assert spare.out.done() == spare.err.done() == ""


def test_a_terminated_host_ends_when_its_spare_forks_are_given_up(tmp_path):
    with Host(tmp_path, SIMPLE) as host:
        host.describe()
        used, spare = [host.fork("hello", spare=True, start=False) for _ in range(2)]
        os.kill(host.process.pid, signal.SIGTERM)
        used.begin("hello")
        assert used.finish().value == 42
        assert host.process.poll() is None
        spare.channel.sock.close()
        assert host.process.wait(10) == 0
