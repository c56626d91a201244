"""Everything that breaks forked tasks, one test each, with real processes."""

import os
import random
import signal
import sys
import textwrap

import pytest

from harness import Host, alive, spawn, wait_until

numpy_missing = pytest.mark.skipif(
    not any(os.path.isdir(os.path.join(path, "numpy")) for path in sys.path), reason="numpy is not installed"
)
sklearn_missing = pytest.mark.skipif(
    not any(os.path.isdir(os.path.join(path, "sklearn")) for path in sys.path), reason="scikit-learn is not installed"
)
torch_missing = pytest.mark.skipif(
    not any(os.path.isdir(os.path.join(path, "torch")) for path in sys.path), reason="torch is not installed"
)


def run(tmp_path, text, *tasks, **kwargs):
    """Run tasks of a file one after the other in forks of one host and return their ends."""
    with Host(tmp_path, textwrap.dedent(text), **kwargs) as host:
        described = host.describe()
        assert described["errors"] == [] and described["fork_unsafe"] == "", described
        return [host.run(task) for task in tasks]


def values(tmp_path, text, *tasks, **kwargs):
    return [end.value for end in run(tmp_path, text, *tasks, **kwargs)]


# ---- threads of native libraries ----

NUMBERS = """
    import os
    %s
    def env():
        return [os.environ.get(n) for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")]
    at_import = env()
    def t(comms):
        return [at_import, env()]
"""


def test_native_thread_numbers_are_one_during_the_import_and_the_users_in_a_task(tmp_path):
    got = values(tmp_path, NUMBERS % "", "t", env={"OMP_NUM_THREADS": "3"})
    assert got == [[["1", "1", "1"], ["3", None, None]]]


def test_what_the_worker_says_about_the_original_environment_is_restored(tmp_path):
    env = {"OSTRO_RESTORE_ENV": '{"OMP_NUM_THREADS": "7", "PYTHONHASHSEED": null}', "OMP_NUM_THREADS": "1"}
    assert values(tmp_path, NUMBERS % "", "t", env=env) == [[["1", "1", "1"], ["7", None, None]]]


def test_a_number_the_file_sets_itself_stays(tmp_path):
    got = values(tmp_path, NUMBERS % "os.environ['OMP_NUM_THREADS'] = '5'", "t")
    assert got == [[["5", "1", "1"], ["5", None, None]]]


@numpy_missing
def test_blas_has_one_thread_in_the_host_and_all_in_a_task(tmp_path):
    text = """
    import ctypes, os, numpy
    def number():
        path = [l.split()[-1] for l in open("/proc/self/maps") if "openblas" in l][0]
        lib = ctypes.CDLL(path)
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads"):
            if hasattr(lib, name):
                return getattr(lib, name)()
    at_import = number()
    def t(comms):
        a = numpy.random.rand(600, 600)
        product = a @ a
        return [at_import, number(), bool(abs(product[0, 0] - (a[0] * a[:, 0]).sum()) < 1e-6)]
    """
    assert values(tmp_path, text, "t", "t", env={"OPENBLAS_NUM_THREADS": "4"}) == [[1, 4, True]] * 2


@sklearn_missing
def test_a_gradient_boosting_fit_at_import_and_again_in_forks_does_not_hang(tmp_path):
    text = """
    import numpy, os
    from sklearn.ensemble import HistGradientBoostingClassifier
    x = numpy.random.RandomState(0).rand(2000, 5)
    y = x[:, 0] > 0.5
    HistGradientBoostingClassifier(max_iter=5).fit(x, y)
    def t(comms):
        model = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
        return [len(os.listdir("/proc/self/task")) > 1, model.score(x, y) > 0.9]
    """
    assert values(tmp_path, text, "t", "t", env={"OMP_NUM_THREADS": "4"}) == [[True, True]] * 2


@sklearn_missing
def test_an_openmp_pool_that_the_file_has_built_in_spite_of_us_does_not_hang_its_tasks(tmp_path):
    text = """
    import ctypes, numpy, os
    from sklearn.ensemble import HistGradientBoostingClassifier
    path = [l.split()[-1] for l in open("/proc/self/maps") if "gomp" in l][0]
    ctypes.CDLL(path).omp_set_num_threads(4)
    x = numpy.random.RandomState(0).rand(2000, 5)
    y = x[:, 0] > 0.5
    HistGradientBoostingClassifier(max_iter=5).fit(x, y)
    threads = len(os.listdir("/proc/self/task"))
    def t(comms):
        return [threads >= 4, HistGradientBoostingClassifier(max_iter=5).fit(x, y).score(x, y) > 0.9]
    """
    with Host(tmp_path, textwrap.dedent(text)) as host:
        if "OpenMP pool of 4 threads" in host.describe()["fork_unsafe"]:
            return  # an OpenMP that cannot end its pool: the file is spawned
        assert [host.run("t").value for _ in range(2)] == [[True, True]] * 2


@torch_missing
def test_torch_computes_in_a_fork_with_the_users_number_of_threads(tmp_path):
    text = """
    import torch
    at_import = torch.get_num_threads()
    (torch.rand(300, 300) @ torch.rand(300, 300)).sum()
    def t(comms):
        (torch.rand(600, 600) @ torch.rand(600, 600)).sum()
        return [at_import, torch.get_num_threads()]
    """
    assert values(tmp_path, text, "t", "t", env={"OMP_NUM_THREADS": "2"}) == [[1, 2]] * 2


# ---- memory and garbage collection ----


def test_the_collector_is_frozen_in_the_host_and_on_in_a_task(tmp_path):
    text = """
    import gc
    big = [[n] for n in range(50000)]
    at_import = gc.isenabled()
    def t(comms):
        return [at_import, gc.isenabled(), gc.get_freeze_count() > 50000]
    """
    assert values(tmp_path, text, "t") == [[True, True, True]]


def test_a_collector_the_file_has_switched_off_stays_off(tmp_path):
    assert values(tmp_path, "import gc\ngc.disable()\ndef t(comms): return gc.isenabled()\n", "t") == [False]


# ---- random numbers ----


def test_every_task_draws_other_random_numbers(tmp_path):
    text = "import random\nx = random.random()\ndef t(comms): return random.random()\n"
    got = values(tmp_path, text, *["t"] * 5)
    assert len(set(got)) == 5


def test_a_seed_chosen_by_the_file_holds_in_every_task(tmp_path):
    text = "import random\nrandom.seed(42)\nx = random.random()\ndef t(comms): return [x, random.random()]\n"
    chosen = random.Random(42)
    assert values(tmp_path, text, "t", "t") == [[chosen.random(), chosen.random()]] + [values_of(42)]


def values_of(seed):
    chosen = random.Random(seed)
    return [chosen.random(), chosen.random()]


@numpy_missing
def test_every_task_draws_other_numbers_from_numpy(tmp_path):
    text = "import numpy\nx = numpy.random.rand()\ndef t(comms): return float(numpy.random.rand())\n"
    assert len(set(values(tmp_path, text, *["t"] * 5))) == 5


@numpy_missing
def test_a_numpy_seed_chosen_by_the_file_holds_in_every_task(tmp_path):
    text = "import numpy\nnumpy.random.seed(42)\ndef t(comms): return float(numpy.random.rand())\n"
    assert values(tmp_path, text, "t", "t") == [0.3745401188473625] * 2


@torch_missing
def test_every_task_draws_other_numbers_from_torch_unless_the_file_has_chosen_a_seed(tmp_path):
    text = "import torch\n%s\ndef t(comms): return float(torch.rand(1))\n"
    free = values(tmp_path, text % "", "t", "t", "t")
    assert len(set(free)) == 3
    assert len(set(values(tmp_path, text % "torch.manual_seed(42)", "t", "t"))) == 1


# ---- environment ----


def test_the_environment_of_a_task_is_set_after_the_fork_and_is_its_own(tmp_path):
    text = """
    import os
    seen_at_import = os.environ.get("OSTRO_ATTEMPT_ID")
    def t(comms):
        import subprocess
        os.environ["LEFT"] = "behind"
        inner = subprocess.run(["sh", "-c", "echo $OSTRO_ATTEMPT_ID"], stdout=subprocess.PIPE).stdout.decode().strip()
        return [seen_at_import, os.environ["OSTRO_ATTEMPT_ID"], inner]
    def u(comms):
        return [os.environ.get("LEFT"), os.environ.get("OSTRO_HOST_FD"), os.environ.get("OSTRO_RESTORE_ENV")]
    """
    first, second = values(tmp_path, text, "t", "u")
    assert first == [None, "a-1", "a-1"] and second == [None, None, None]


def test_a_time_zone_in_the_environment_takes_effect(tmp_path):
    text = "import time\ndef t(comms): return time.localtime(0).tm_hour\n"
    with Host(tmp_path, text, env={"TZ": "UTC"}) as host:
        host.describe()
        assert host.run("t", env={"TZ": "XXX-5"}).value == 5 and host.run("t").value == 0


# ---- standard streams ----


def test_what_was_printed_and_buffered_at_import_is_not_printed_again_by_tasks(tmp_path):
    text = """
    import sys
    sys.stdout.write("once, without a newline")
    log = open(LOG, "w")
    log.write("once\\n")
    def t(comms):
        print("task")
        log.write("from a task\\n")
    """.replace("LOG", repr(str(tmp_path / "log")))
    with Host(tmp_path, textwrap.dedent(text)) as host:
        host.describe()
        ends = [host.run("t"), host.run("t")]
        assert [end.out for end in ends] == ["task\n", "task\n"]
        host.shutdown()
        assert host.out.done() == "once, without a newline"
    assert (tmp_path / "log").read_text() == "once\nfrom a task\nfrom a task\n"


def test_a_file_a_task_leaves_open_is_written_completely(tmp_path):
    text = """
    keep = []
    def t(comms):
        keep.append(open(PATH, "w"))
        keep[0].write("not flushed")
    """.replace("PATH", repr(str(tmp_path / "out")))
    run(tmp_path, text, "t")
    assert (tmp_path / "out").read_text() == "not flushed"


def test_a_line_appears_when_it_is_printed_and_any_character_may_be(tmp_path):
    text = """
    import os
    def t(comms):
        print("héllo", chr(0x1F600), "\\udcff")
        comms.request({"type": "GetVariable", "key": "wait"})
        os._exit(0)
    """
    seen = []

    with Host(tmp_path, textwrap.dedent(text), env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}) as host:
        host.describe()
        task = host.fork("t", answer=lambda body: seen.append(wait_until(lambda: task.out.data, "the line")) or {})
        task.finish()
    assert seen[0].decode() == "héllo \U0001f600 \\udcff\n"


def test_reading_standard_input_says_end_of_file(tmp_path):
    text = "import sys, os\ndef t(comms): return [sys.stdin.read(), os.read(0, 10).decode()]\n"
    assert values(tmp_path, text, "t", "t") == [["", ""]] * 2


def test_a_hundred_megabytes_of_output_arrive_complete(tmp_path):
    text = "line = 'x' * 999\ndef t(comms):\n    for _ in range(100000): print(line)\n"
    with Host(tmp_path, text) as host:
        host.describe()
        task = host.fork("t", keep=False)
        end = task.finish()
        assert task.out.size == 100000 * 1000 and end.returncode == 0


# ---- file descriptors, session, signals ----


def test_no_descriptor_leaks_into_a_task(tmp_path):
    text = """
    import os
    def fds():
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                found.append([int(name), os.readlink("/proc/self/fd/" + name).partition(":")[0]])
            except OSError:
                pass
        return sorted(found)
    def t(comms):
        import time
        time.sleep(0.2)
        return [one for one in fds() if one[0] != comms.fileno()]
    def channel(comms):
        return os.readlink("/proc/self/fd/%d" % comms.fileno()).partition(":")[0]
    def children(comms):
        import subprocess
        script = "import os; print(len([n for n in os.listdir('/proc/self/fd')]))"
        import sys
        return subprocess.run([sys.executable, "-c", script], close_fds=False, stdout=subprocess.PIPE).stdout.decode()
    """
    with Host(tmp_path, textwrap.dedent(text)) as host:
        host.describe()
        tasks = [host.fork("t") for _ in range(4)]
        for task in tasks:
            assert task.finish().value == [[0, "/dev/null"], [1, "pipe"], [2, "pipe"]]
        assert host.run("channel").value == "socket"
        assert host.run("children").value == "4\n"  # 0, 1, 2 and the listing's own


def test_a_task_has_its_own_session_and_default_signals(tmp_path):
    text = """
    import os, signal
    def t(comms):
        names = ("SIGCHLD", "SIGINT", "SIGUSR1", "SIGRTMIN")
        handlers = [str(signal.getsignal(getattr(signal, name))) for name in names]
        return [os.getsid(0) == os.getpid(), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), handlers,
                signal.set_wakeup_fd(-1)]
    """
    (got,) = values(tmp_path, text, "t")
    assert got[0] is True and got[1] == [] and got[3] == -1
    assert got[2][0].endswith("SIG_DFL") or got[2][0] == "0"
    assert "default_int_handler" in got[2][1]


def test_a_signal_handler_the_file_has_set_is_there_in_tasks(tmp_path):
    text = """
    import os, signal
    got = []
    for name in ("SIGUSR1", "SIGINT", "SIGCHLD"):
        signal.signal(getattr(signal, name), lambda n, f: got.append(int(n)))
    def t(comms):
        for name in ("SIGUSR1", "SIGINT", "SIGCHLD"):
            os.kill(os.getpid(), getattr(signal, name))
        return len(got)
    """
    assert values(tmp_path, text, "t") == [3]


TERM = """
    import os, signal, subprocess, sys, time
    def on_kill():
        print("on_kill")
    def t(comms):
        try:
            comms.send({"type": "AddNotice", "text": "ready"})
            time.sleep(1000)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            print("finally")
    def ignores(comms):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c",
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"],
            stdout=subprocess.PIPE)
        child.stdout.readline()
        comms.send({"type": "AddNotice", "text": "%d" % child.pid})
        time.sleep(1000)
    def asks(comms):
        comms.send({"type": "AddNotice", "text": "ready"})
        comms.request({"type": "GetVariable", "key": "never answered"})
    def forks(comms):
        import multiprocessing
        pool = multiprocessing.get_context("fork").Pool(2)
        pool.map(abs, range(10))
        pool.terminate()
        pool.join()
        return "pool ended"
"""


def test_terminate_runs_on_kill_and_then_finally_once(tmp_path):
    with Host(tmp_path, textwrap.dedent(TERM)) as host:
        host.describe()
        task = host.fork("t")
        task.channel.note("AddNotice")
        os.kill(task.pid, signal.SIGTERM)
        end = task.finish()
        assert end.out == "on_kill\nfinally\n" and "AirflowTaskTerminated" in end.terminal["reason"]


def test_terminate_reaches_a_task_that_waits_for_an_answer(tmp_path):
    with Host(tmp_path, textwrap.dedent(TERM)) as host:
        host.describe()
        task = host.fork("asks")
        task.channel.note("AddNotice")
        task.channel.frame()
        os.kill(task.pid, signal.SIGTERM)
        assert "AirflowTaskTerminated" in task.finish().terminal["reason"]


def test_a_task_that_ignores_terminate_dies_of_kill_with_its_children(tmp_path):
    with Host(tmp_path, textwrap.dedent(TERM)) as host:
        host.describe()
        task = host.fork("ignores")
        child = int(task.channel.note("AddNotice")["text"])
        os.kill(task.pid, signal.SIGTERM)
        assert alive(task.pid) and alive(child)
        os.kill(task.pid, signal.SIGKILL)
        end = task.finish()
        assert end.returncode == -signal.SIGKILL and end.exited["orphans"] == 1 and not alive(child)


def test_a_pool_of_processes_in_a_task_can_be_terminated(tmp_path):
    assert values(tmp_path, TERM, "forks", "forks") == ["pool ended"] * 2


# ---- processes left behind ----

LEFT = """
    import os, signal, subprocess, sys, time
    DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
    def daemon(comms):
        # the classic double fork: own session, parent gone, descriptors closed
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(w, b"%d" % os.getpid())
                os.closerange(0, 100)
                time.sleep(1000)
            os._exit(0)
        os.wait()
        return int(os.read(r, 20))
    def children(comms):
        deaf = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
        deaf.stdout.readline()
        grandchild = subprocess.Popen(["sh", "-c", "sleep 1000 & echo ready; wait"], stdout=subprocess.PIPE)
        grandchild.stdout.readline()
        return [deaf.pid, grandchild.pid]
    def zombie(comms):
        subprocess.Popen(["true"])
        time.sleep(0.1)
    def killed(comms):
        pid = daemon(comms)
        comms.send({"type": "AddNotice", "text": "%d" % pid})
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_daemon_made_by_a_double_fork_dies_with_its_task_and_is_told_of(tmp_path):
    (end,) = run(tmp_path, LEFT, "daemon")
    assert not alive(end.value) and end.returncode == 0
    assert end.logs == ["killed 1 process the task left behind"]


def test_children_and_grandchildren_left_behind_die_even_if_they_ignore_terminate(tmp_path):
    (end,) = run(tmp_path, LEFT, "children")
    assert not any(alive(pid) for pid in end.value)
    assert end.logs == ["killed 3 processes the task left behind"]


def test_a_child_that_has_ended_is_not_a_process_left_behind(tmp_path):
    (end,) = run(tmp_path, LEFT, "zombie")
    assert end.logs == [] and "orphans" not in end.exited


def test_a_daemon_of_a_task_that_was_killed_dies_too_and_is_counted(tmp_path):
    (end,) = run(tmp_path, LEFT, "killed")
    assert end.returncode == -signal.SIGKILL and end.exited["orphans"] == 1
    assert not alive(int(end.notes[0]["text"]))


# ---- descriptors that are not the task's ----

CLOSES = """
    import os
    def some(comms):
        os.closerange(3, 256)
        comms.send({"type": "AddNotice", "text": "still heard"})
        return "done"
    def every(comms):
        print("said before")
        os.closerange(3, 4096)
        mine = [os.open(os.devnull, os.O_RDWR) for _ in range(600)]
        comms.send({"type": "AddNotice", "text": "lost"})
    def every_one(comms):
        print("said before")
        os.closerange(1, 4096)
        for name in ("mine", "mine too"):
            os.open(name, os.O_RDWR | os.O_CREAT)
        comms.send({"type": "AddNotice", "text": "lost"})
    def takes_its_place(comms):
        there = comms.fileno()
        file = os.open("mine", os.O_RDWR | os.O_CREAT)
        os.dup2(file, there)
        comms.request({"type": "GetVariable", "key": "k"})
    def in_a_child(comms):
        pid = os.fork()
        if pid == 0:
            os.closerange(3, 256)
            print("said by the child")
            os._exit(0)
        other = os.fork()
        if other == 0:
            os.closerange(3, 4096)
            return "of no interest: it is not the task"
        return [os.waitpid(one, 0)[1] for one in (pid, other)]
"""


@pytest.fixture(params=["fork", "spawn"])
def closes(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if request.param == "fork":
        return lambda task: run(tmp_path, CLOSES, task)[0]
    return lambda task: spawn(tmp_path, textwrap.dedent(CLOSES), task).finish()


def test_a_task_that_closes_the_first_hundreds_of_descriptors_is_heard_all_the_same(closes):
    end = closes("some")
    assert end.value == "done" and end.returncode == 0 and end.notes[0]["text"] == "still heard"


def test_a_task_that_closes_its_channel_ends_with_a_word_about_it(closes):
    end = closes("every")
    assert end.returncode == 176 and end.terminal is None and end.notes == [] and end.out == "said before\n"
    assert "closed file descriptors that are not its own, the channel to Ostro among them" in end.err


def test_nothing_is_written_to_a_file_that_has_taken_the_place_of_standard_error(closes, tmp_path):
    end = closes("every_one")
    assert end.returncode == 176 and end.out == "said before\n" and end.err == ""
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "mine too").read_bytes() == b""


def test_nothing_is_written_to_a_file_that_has_taken_the_channels_place(closes, tmp_path):
    end = closes("takes_its_place")
    assert end.returncode == 176 and (tmp_path / "mine").read_bytes() == b""


def test_a_child_of_a_task_may_close_all_descriptors(closes):
    end = closes("in_a_child")
    assert end.value == [0, 1 << 8] and end.out == "said by the child\n" and end.returncode == 0


def test_a_file_that_closes_descriptors_at_its_import_does_not_cut_its_host_off(tmp_path):
    (end,) = run(tmp_path, "import os\nos.closerange(3, 256)\ndef t(comms): return 1", "t")
    assert end.value == 1


# ---- the end of a task ----

ENDS = """
    import atexit, os, sys, threading, time
    atexit.register(lambda: print("hook of the file"))
    def broken():
        raise RuntimeError("in a hook")
    def t(comms):
        atexit.register(print, "hook of the task")
        atexit.register(broken)
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread done"))).start()
        return 1
    def exits(comms):
        sys.exit(3)
    def drops(comms):
        print("last words")
        os._exit(5)
    def hangs(comms):
        threading.Thread(target=time.sleep, args=(1000,), name="endless").start()
        return 2
    def aborts(comms):
        os.abort()
    def forks(comms):
        if os.fork() == 0:
            return "child"
        os.wait()
        return "parent"
    def forks_and_raises(comms):
        if os.fork() == 0:
            raise SystemExit(7)
        return os.WEXITSTATUS(os.wait()[1])
"""


def test_threads_are_joined_and_atexit_hooks_run_as_at_the_end_of_a_program(tmp_path):
    first, second = run(tmp_path, ENDS, "t", "t")
    for end in (first, second):
        assert end.out == "thread done\nhook of the task\nhook of the file\n"
        assert "RuntimeError: in a hook" in end.err and end.err.count("Traceback") == 1
        assert end.value == 1 and end.returncode == 0


def test_a_thread_that_never_ends_is_cut_off_with_a_word(tmp_path):
    (end,) = run(tmp_path, ENDS, "hangs", env={"OSTRO_EXIT_LIMIT": "0.3"})
    assert end.value == 2 and end.returncode == 0
    assert end.logs == ["the task's threads and atexit hooks took more than 0.3 s after its end"]


def test_sys_exit_and_os_exit_in_a_task(tmp_path):
    exits, drops, aborts = run(tmp_path, ENDS, "exits", "drops", "aborts")
    assert exits.terminal["reason"] == "SystemExit: 3" and exits.out == "hook of the file\n"
    assert drops.terminal is None and drops.returncode == 5 and drops.out == "last words\n"
    assert aborts.terminal is None and aborts.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in aborts.err and "in aborts" in aborts.err


def test_a_child_that_comes_back_out_of_the_task_is_not_the_task(tmp_path):
    forks, raises = run(tmp_path, ENDS, "forks", "forks_and_raises")
    assert forks.value == "parent" and forks.out.count("hook of the file") == 1
    assert raises.value in (0, 1, 7)


def test_a_temporary_directory_of_the_file_survives_its_tasks_and_goes_with_the_host(tmp_path):
    text = """
    import os, tempfile
    scratch = tempfile.TemporaryDirectory()
    def t(comms):
        return [scratch.name, os.path.isdir(scratch.name)]
    """
    first, second = values(tmp_path, text, "t", "t")
    assert first == second and first[1] is True and not os.path.exists(first[0])


# ---- hooks and locks ----


def test_hooks_the_file_has_registered_for_forks_run(tmp_path):
    text = """
    import os
    seen = []
    os.register_at_fork(after_in_child=lambda: seen.append("child"))
    def t(comms):
        return list(seen)
    """
    assert values(tmp_path, text, "t") == [["child"]]


def test_logging_and_import_locks_are_free_in_a_task(tmp_path):
    text = """
    import logging, threading
    logging.basicConfig(level="INFO")
    log = logging.getLogger("l")
    def speak():
        for n in range(2000): log.debug("x")
    threads = [threading.Thread(target=speak) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    def t(comms):
        import wave
        log.info("from the task")
        with threading.Lock(): pass
        return "done"
    """
    ends = run(tmp_path, text, "t", "t")
    assert [end.value for end in ends] == ["done"] * 2 and "from the task" in ends[0].err


# ---- spawn ----


def test_a_spawned_task_runs_like_a_forked_one(tmp_path):
    text = textwrap.dedent(ENDS) + textwrap.dedent("""
        import os
        seen = os.environ.get("OSTRO_ATTEMPT_ID")
        def s(comms):
            return [seen, os.getpgid(0) == os.getpid(), sys.stdin.read(), os.environ.get("OMP_NUM_THREADS")]
    """)
    end = spawn(tmp_path, text, "s").finish()
    assert end.value == ["a-1", True, "", None] and end.returncode == 0 and end.out == "hook of the file\n"


def test_a_spawned_task_ends_what_it_leaves_behind_and_answers_terminate(tmp_path):
    end = spawn(tmp_path, textwrap.dedent(LEFT), "daemon").finish()
    assert not alive(end.value) and end.logs == ["killed 1 process the task left behind"]
    task = spawn(tmp_path, textwrap.dedent(TERM), "t")
    task.channel.note("AddNotice")
    os.kill(task.pid, signal.SIGTERM)
    assert "AirflowTaskTerminated" in task.finish().terminal["reason"]


def test_a_spawned_task_whose_file_cannot_be_imported_says_so(tmp_path):
    end = spawn(tmp_path, "import nothing_of_the_kind\n", "t").finish()
    assert end.terminal["type"] == "RetryTask" and end.returncode == 1
    assert end.terminal["reason"].startswith("cannot import dag.py: ModuleNotFoundError: No module named")
    assert end.logs == [end.terminal["reason"]]


def test_a_dag_that_is_no_longer_declared_is_said_so_by_name(tmp_path):
    with Host(tmp_path, "def t(comms): return 1\n") as host:
        host.describe()
        task = host.fork("t", ti={"dag_id": "gone", "task_id": "t"})
        end = task.finish()
    assert end.terminal["reason"] == "dag.py does not declare the DAG 'gone' any more (it declares: d)"


def test_a_task_whose_worker_is_gone_ends_at_once(tmp_path):
    text = "import time\ndef t(comms):\n    comms.receive()\n    time.sleep(1000)\n"
    with Host(tmp_path, text) as host:
        host.describe()
        task = host.fork("t")
        task.channel.sock.close()
        assert host.channel.note("Exited")["status"] == 75 << 8


def test_a_callback_process_runs_the_callback(tmp_path):
    text = "def on_failure_callback(comms):\n    print('called')\n"
    with Host(tmp_path, text) as host:
        host.describe()
        end = host.run("-", kind="callback", callback={"kind": "on_failure_callback", "dag": False})
        assert end.out == "called\n" and end.notes == [{"type": "CallbacksDone"}] and end.terminal is None
