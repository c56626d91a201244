"""What keeps secrets out of the output of a local run: of the whole process, and of all that it starts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ostro import maskedrun
from ostro.masking import MaskedStream, Masker
from support import write

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECRET = "k-12345-abc"

HEAD = """
import logging, os, subprocess, sys, time
own = logging.getLogger("own")
own.addHandler(logging.StreamHandler(sys.stderr))
aside, duplicate = sys.stdout, os.fdopen(os.dup(1), "w")

from airflow import DAG
from airflow.models import Variable
from airflow.operators.python import PythonOperator

def body():
    key = Variable.get("api_key")
%s

with DAG("hides", schedule=None) as dag:
    PythonOperator(task_id="t", python_callable=body)
"""


def start(tmp_path, body, head=HEAD, **kwargs):
    write(tmp_path, "hides.py", head % "\n".join("    " + line for line in body.strip().splitlines()))
    settings = {"variables": {"api_key": SECRET, "other_token": "t-of-other"}}
    env = dict(os.environ, OSTRO_DAGTEST_SETTINGS=json.dumps(settings))
    kwargs.setdefault("stderr", subprocess.STDOUT)
    return subprocess.Popen([sys.executable, "-m", "ostro.dagtest", "--file", str(tmp_path / "hides.py")], env=env, cwd=ROOT,
                            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, **kwargs)


def output(tmp_path, body, code=0, **kwargs):
    """Run a task in a local run; return what was printed, in which there is no secret."""
    process = start(tmp_path, body, **kwargs)
    out, err = process.communicate(timeout=60)
    assert SECRET.encode() not in out + (err or b"") and process.returncode == code, (process.returncode, out, err)
    return out


@pytest.mark.parametrize("how", [
    "own.warning('says %s', key)", "aside.write('says ' + key + '\\n')", "print('says', key, file=duplicate, flush=True)",
    "os.write(1, b'says ' + key.encode())", "os.system('echo says $KEY')",
    "subprocess.run([sys.executable, '-c', 'import os; print(\"says\", os.environ[\"KEY\"])'])",
    "pid = os.fork()\nif pid == 0:\n    os.write(2, b'says ' + key.encode())\n    os._exit(0)\nos.waitpid(pid, 0)",
    "os.write(1, b'says k-123'); time.sleep(0.05); os.write(1, b'45-abc')",
    "sys.stdout.buffer.write(b'says ' + key.encode())", "sys.__stdout__.write('says ' + key)",
    "Variable.get('other_token'); os.write(1, b'says k-12345-abc t')",
])
def test_whoever_prints_a_secret_it_is_masked(tmp_path, how):
    assert b"says ***" in output(tmp_path, "os.environ['KEY'] = key\n" + how)


def test_the_standard_streams_of_a_task_are_pythons_own(tmp_path):
    body = """
sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
assert sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2 and sys.stdout.encoding == "utf-8" and sys.stdout.line_buffering
raw = sys.stdout.detach()
raw.write(b"bytes\\xff\\n")
raw.flush()
sys.stdout = open(1, "w", closefd=False)
"""
    assert b"bytes\xff\n" in output(tmp_path, body)


def test_both_streams_into_one_place_keep_their_order(tmp_path):
    text = output(tmp_path, "for n in range(200):\n    os.write(1 + n % 2, b'line %d\\n' % n)").decode()
    assert [line for line in text.splitlines() if line.startswith("line ")] == ["line %d" % n for n in range(200)]


def test_each_stream_goes_where_it_belongs(tmp_path):
    process = start(tmp_path, "os.write(1, b'one ' + key.encode()); os.write(2, b'two ' + key.encode())", stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert b"one ***" in out and b"two ***" in err and b"two" not in out


@pytest.mark.parametrize("end, code", [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -signal.SIGABRT)])
def test_a_run_that_dies_loses_no_output_and_its_end_is_told(tmp_path, end, code):
    text = output(tmp_path, "os.write(1, b'x' * 300000 + b' last words ' + key.encode())\n" + end, code=code)
    assert text.count(b"x") >= 300000 and b" last words ***" in text


def test_a_program_that_outlives_the_run_does_not_hold_it_up_and_is_masked_still(tmp_path):
    gate = str(tmp_path / "gate")
    script = "while [ ! -e %s ]; do sleep 0.01; done; echo late $KEY; echo over" % gate
    process = start(tmp_path, "os.environ['KEY'] = key\nsubprocess.Popen(['sh', '-c', %r])" % script)
    assert process.wait(60) == 0
    write(tmp_path, "gate", "")
    text = process.stdout.read()
    assert b"late ***" in text and b"over" in text and SECRET.encode() not in text


def test_a_run_that_is_killed_leaves_nothing_of_the_xcom_of_a_pod(tmp_path):
    write(tmp_path, "pods.py", """
        import os, signal
        from airflow import DAG
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        code = "import os; open(os.environ['AT'], 'w').write(os.environ['OSTRO_XCOM_PATH']); os.kill(os.getppid(), 9)"
        with DAG("pods", schedule=None) as dag:
            KubernetesPodOperator(task_id="t", image="img", cmds=["python", "-c", code], do_xcom_push=True)
        """)
    settings = {"pods": {"mode": "process", "images": {"img": {"dir": ""}}}}
    os.mkdir(str(tmp_path / "tmp"))
    env = dict(os.environ, OSTRO_DAGTEST_SETTINGS=json.dumps(settings), TMPDIR=str(tmp_path / "tmp"), AT=str(tmp_path / "at"))
    done = subprocess.run([sys.executable, "-m", "ostro.dagtest", "--file", str(tmp_path / "pods.py")], env=env, cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert (tmp_path / "at").read_text().startswith(env["TMPDIR"] + os.sep) and done.returncode == -9, done
    assert os.listdir(env["TMPDIR"]) == []


def test_an_interrupt_reaches_the_run_once(tmp_path):
    body = """
import signal
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
print("ready", flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.1)
print("interrupts:", len(count))
"""
    process = start(tmp_path, body, start_new_session=True)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(process.stdout.fileno(), 4096)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert b"interrupts: 1\n" in out and process.returncode == 0


def test_the_run_dies_with_what_passes_on_its_output(tmp_path):
    process = start(tmp_path, "print('pid', os.getpid(), flush=True)\ntime.sleep(1000)")
    seen = b""
    while b"pid " not in seen or not seen.partition(b"pid ")[2].endswith(b"\n"):
        seen += os.read(process.stdout.fileno(), 4096)
    run = int(seen.partition(b"pid ")[2])
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 30
    while os.path.exists("/proc/%d" % run) and open("/proc/%d/stat" % run).read().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
    process.stdout.close()


def test_what_is_held_back_never_cuts_a_whole_secret():
    masker = Masker()
    masker.add("second line", "e-token")
    assert masker.safe("the second line") == 4 and masker.safe("plain text e") == len("plain text ")
    assert masker.safe("plain") == 5


def test_a_masked_stream_has_what_programs_ask_of_standard_output(tmp_path):
    with open(str(tmp_path / "out"), "w", encoding="latin-1") as target:
        stream = MaskedStream(target, Masker())
        stream.reconfigure(line_buffering=True, encoding="utf-8")
        assert stream.line_buffering and stream.encoding == "utf-8" and stream.fileno() == target.fileno()
        assert stream.name == target.name and stream.mode == "w" and stream.newlines is None and not stream.closed
        stream.detach().write(b"bytes\n")
        stream.writelines(["a\n", "b"])
        stream.finish()
        with pytest.raises(AttributeError):
            getattr(stream, "no_such_thing")  # noqa: B009
    assert (tmp_path / "out").read_text() == "bytes\na\nb"


def test_many_threads_and_forks_may_tell_of_large_secrets_at_once():
    out, into = os.pipe()
    if os.fork() == 0:
        try:
            os.close(out)
            tell, pids = maskedrun._Relay(into), []
            for name in "abcd":
                pids.append(os.fork())
                threads = [threading.Thread(target=tell, args=([name * 70000, str(one)], 3)) for one in range(3)]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join()
                if pids[-1] == 0:
                    os._exit(0)
            for pid in pids:
                os.waitpid(pid, 0)
        finally:
            os._exit(0)
    os.close(into)
    with open(out, "rb") as pipe:
        told = [json.loads(line) for line in pipe]
    os.wait()
    assert len(told) == 24 and all(set(values[0]) == {values[0][0]} and least == 3 for values, least in told)


def test_many_secrets_are_found_whole_and_where_they_may_begin():
    masker = Masker()
    masker.add_all([["secret-%d-%s" % (i, "x" * i)], 3] for i in range(300))
    assert masker.mask("a secret-7-xxxxxxx b") == "a *** b"
    assert masker.begun("nothing") == 0 and masker.begun("it ends in sec") == 3 and masker.begun("sse") == 2
    assert masker.safe("say secret-290-" + "x" * 20) == 4


def test_a_task_that_ends_the_whole_process_does_not_pass_for_one_that_succeeded(tmp_path):
    out = output(tmp_path, "os._exit(0)", code=1)
    assert b"the run has not come to its end" in out


def test_a_task_that_crashes_the_process_ends_the_run_as_it_crashed_and_what_it_printed_is_there(tmp_path):
    crash = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); print('so far'); ctypes.string_at(0)"
    out = output(tmp_path, "import ctypes, resource; " + crash, code=-signal.SIGSEGV)
    assert b"so far" in out and b"success" not in out


def unread(tmp_path, body, head=HEAD, after=b"\n", **kwargs):
    """Run a task whose output nobody takes after a word; return how the run ended and what came on standard error."""
    process = start(tmp_path, body, head, **kwargs)
    if process.stdout is not None:
        assert any(line.endswith(after) for line in process.stdout)
        process.stdout.close()
    return process.wait(60), process.stderr.read()


PRINTS = "print('begun')\nwhile True: print('more')"
WAITS = """
try:
    print("begun")
    sys.stdout.write('x' * 100000)
    sys.stdout.flush()
    time.sleep(1000)
finally:
    open(%r, 'w').close()
"""
STARTS = """
from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG("starts", schedule=None) as dag:
%s
"""


@pytest.mark.parametrize("body", [PRINTS, WAITS], ids=["it prints", "it waits"])
def test_a_run_whose_output_nobody_reads_ends_without_a_word_like_other_programs(tmp_path, body):
    told = tmp_path / "told"
    body = body % str(told) if "%r" in body else body
    assert unread(tmp_path, body, after=b"begun\n", stderr=subprocess.PIPE) == (-signal.SIGPIPE, b"")
    assert body == PRINTS or told.exists()


@pytest.mark.parametrize("body", [PRINTS, "print('a word')"], ids=["more and more", "a word"])
def test_a_run_whose_output_no_disk_takes_ends_with_a_sentence(tmp_path, body, monkeypatch):
    real = subprocess.Popen
    with open("/dev/full", "wb") as full:
        monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: real(*args, **dict(kwargs, stdout=full)))
        code, err = unread(tmp_path, body, stderr=subprocess.PIPE)
    assert (code, err) == (7, b"ostro: write the output: no space left on device\n")


def test_what_a_task_has_started_ends_with_a_run_whose_output_nobody_reads(tmp_path):
    pid = tmp_path / "pid"
    body = "BashOperator(task_id='t', bash_command='echo $$ > %s; echo begun; yes | head -c 100000; exec sleep 1000')" % pid
    assert unread(tmp_path, body, STARTS, b"begun\n", stderr=subprocess.PIPE) == (-signal.SIGPIPE, b"")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_child_that_a_task_has_forked_does_not_go_on_as_the_run(tmp_path):
    out = output(tmp_path, "if os.fork() == 0:\n    return\nos.wait()\nprint('once')")
    assert out.count(b"once") == 1 and out.count(b"DAG run ") == 1 and b"came back from its function; it ends here" in out


RETRIED = """
import time
from airflow import DAG
from airflow.operators.python import PythonOperator

def t():
%s

with DAG("retried", schedule=None, default_args={"retries": 3}) as dag:
    PythonOperator(task_id="t", python_callable=t) >> PythonOperator(task_id="next", python_callable=lambda: print("no"))
"""


def test_ctrl_c_ends_a_run_and_not_one_try_of_a_task_only(tmp_path):
    process = start(tmp_path, "print('begun')\ntime.sleep(1000)", RETRIED, start_new_session=True)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.endswith(b"begun\n"):
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    assert [line.split()[:3] for line in seen if line.startswith((b"t  ", b"next"))] == [[b"t", b"failed", b"1"]]
    assert b"no\n" not in seen and seen[-1].endswith(b": failed\n")
