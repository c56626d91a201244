"""Running a whole DAG in one process: dag.test() and python -m ostro.dagtest."""

import io
import json
import os
import subprocess
import sys

import pytest

from airflow import DAG
from airflow.decorators import setup, task, task_group, teardown
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from ostro.dagtest import decide, run_dag
from ostro.loader import load_file
from support import HERE, START, write


def states(dag, **kwargs):
    run = run_dag(dag, out=io.StringIO(), **kwargs)
    return run.state, {one.name: one.state for one in run.get_task_instances()}


def raises(fault):
    def function():
        raise fault

    return function


def test_values_flow_and_mapping_unfolds():
    seen = []
    with DAG("d", start_date=START) as dag:
        @task
        def numbers():
            return [1, 2, 3]

        @task
        def double(n):
            return n * 2

        @task_group
        def each(n):
            @task
            def inc(n):
                return n + 1

            inc(n)

        @task
        def total(values):
            seen.append(list(values))

        n = numbers()
        total(double.expand(n=n))
        each.expand(n=n)
    assert states(dag) == ("success", {
        "numbers": "success", "double[0]": "success", "double[1]": "success", "double[2]": "success",
        "each.inc[0]": "success", "each.inc[1]": "success", "each.inc[2]": "success", "total": "success"})
    assert seen == [[2, 4, 6]]


def test_an_empty_list_skips_and_a_failed_one_fails_upstream():
    with DAG("d", start_date=START) as dag:
        @task
        def none():
            return []

        @task
        def bad():
            raise ValueError("x")

        @task
        def f(x):
            pass

        f.expand(x=none())
        f.override(task_id="g").expand(x=bad())
    assert states(dag) == ("failed", {"none": "success", "bad": "failed", "f": "skipped", "g": "upstream_failed"})


def test_branches_skips_and_trigger_rules():
    with DAG("d", start_date=START) as dag:
        @task.branch
        def choose():
            return "a"

        join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
        choose() >> [EmptyOperator(task_id="a"), EmptyOperator(task_id="b")] >> join
        skip = PythonOperator(task_id="skip", python_callable=raises(AirflowSkipException("s")))
        skip >> EmptyOperator(task_id="after")
    assert states(dag) == ("success", {"choose": "success", "a": "success", "b": "skipped", "join": "success",
                                       "skip": "skipped", "after": "skipped"})


def test_retries_are_used_at_once_and_callbacks_run():
    tries, told = [], []

    def flaky(ti):
        tries.append(ti.try_number)
        if len(tries) < 3:
            raise ValueError("again")

    with DAG("d", start_date=START, on_success_callback=lambda context: told.append("dag")) as dag:
        PythonOperator(task_id="t", python_callable=flaky, retries=2, on_retry_callback=lambda context: told.append("retry"))
    assert states(dag) == ("success", {"t": "success"})
    assert (tries, told) == ([1, 2, 3], ["retry", "retry", "dag"])


def test_a_teardown_runs_after_a_failure_and_does_not_hide_it():
    ran = []
    with DAG("d", start_date=START) as dag:
        @setup
        def make():
            pass

        @teardown
        def drop():
            ran.append(True)

        work = PythonOperator(task_id="work", python_callable=raises(ValueError("x")))
        s, t = make(), drop()
        s >> work >> t
        s >> t
    assert states(dag) == ("failed", {"make": "success", "work": "failed", "drop": "success"})
    assert ran == [True]


def test_dag_test_prints_progress_and_a_table(capsys):
    with DAG("d", start_date=START) as dag:
        PythonOperator(task_id="t", python_callable=lambda ds, params: print(ds), params={"x": 1})
    run = dag.test(logical_date=START, run_conf={"x": 2})
    out = capsys.readouterr().out
    assert run.state == "success" and "2024-01-01" in out and "✓ t success" in out and "TASK  STATE" in out


@pytest.mark.parametrize("rule, upstream, want", [
    ("all_success", "success success", "run"), ("all_success", "success failed", "upstream_failed"),
    ("all_success", "success skipped", "skipped"), ("all_failed", "failed upstream_failed", "run"),
    ("all_failed", "failed success", "skipped"), ("all_done", "failed skipped", "run"),
    ("one_success", "failed success", "run"), ("one_success", "failed skipped", "upstream_failed"),
    ("one_failed", "failed success", "run"), ("one_failed", "success", "skipped"), ("one_done", "skipped", "skipped"),
    ("one_done", "failed", "run"), ("none_failed", "success skipped", "run"), ("none_failed", "failed", "upstream_failed"),
    ("none_failed_min_one_success", "skipped", "skipped"), ("none_skipped", "success skipped", "skipped"),
    ("none_skipped", "failed", "run"), ("always", "failed", "run"), ("all_skipped", "skipped", "run"),
    ("all_skipped", "success", "skipped"), ("all_done_min_one_success", "failed success", "run"),
])
def test_trigger_rules(rule, upstream, want):
    plain = EmptyOperator(task_id="x")
    assert decide(rule, [(state, plain) for state in upstream.split()]) == want


def command(*arguments, settings=None):
    env = dict(os.environ, PYTHONPATH=os.path.dirname(HERE), OSTRO_DAGTEST_SETTINGS=json.dumps(settings or {}))
    return subprocess.run([sys.executable, "-m", "ostro.dagtest", *arguments], env=env, capture_output=True, text=True)


def test_the_command_runs_a_file_with_its_settings(tmp_path):
    write(tmp_path, "a.py", """
        from airflow.decorators import dag, task
        from airflow.models import Variable
        @dag
        def mine():
            @task
            def f(dag_run, ds):
                print("got", Variable.get("v"), dag_run.conf["c"], ds)
            f()
        mine()
    """)
    done = command("--bundle", str(tmp_path), "--file", "a.py", "--dag-id", "mine", "--logical-date", "2024-05-01",
                   "--conf", '{"c": 3}', settings={"variables": {"v": "V"}})
    assert done.returncode == 0 and "got V 3 2024-05-01" in done.stdout and ": success" in done.stdout, done


def test_the_command_tells_what_is_wrong(tmp_path):
    write(tmp_path, "bad.py", "x = 1 / 0\n")
    write(tmp_path, "two.py", "from airflow import DAG\na = DAG('one')\nb = DAG('two')\n")
    write(tmp_path, "fails.py", """
        from airflow.decorators import dag, task
        @dag
        def d():
            @task
            def f():
                raise ValueError("broken")
            f()
        d()
    """)
    bad = command("--file", str(tmp_path / "bad.py"))
    assert bad.returncode == 1 and "ZeroDivisionError" in bad.stderr
    two = command("--file", str(tmp_path / "two.py"))
    assert two.returncode == 2 and "declares one, two; choose with --dag-id" in two.stderr
    unknown = command("--file", str(tmp_path / "two.py"), "--dag-id", "on")
    assert unknown.returncode == 3 and "did you mean 'one'?" in unknown.stderr
    perhaps = command("--file", str(tmp_path / "two.py"), "--dag-id", "on", "--perhaps")
    assert (perhaps.returncode, perhaps.stdout, perhaps.stderr) == (4, "", "")
    fails = command("--file", str(tmp_path / "fails.py"))
    assert fails.returncode == 1 and "ValueError: broken" in fails.stdout and "ostro/runner.py" not in fails.stdout
    conf = command("--file", str(tmp_path / "fails.py"), "--conf", "[1]")
    assert conf.returncode == 2 and "must be a JSON object" in conf.stderr


def test_a_file_reads_the_homes_variables_and_connections_at_its_top_level(tmp_path):
    write(tmp_path, "d.py", """
from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.python import PythonOperator
env, host = Variable.get("env"), BaseHook.get_connection("db").host
with DAG("d_" + env, schedule=None):
    PythonOperator(task_id="t", python_callable=lambda: print("host is", host))
""")
    settings = {"variables": {"env": "prod"}, "connections": {"db": {"conn_type": "postgres", "host": "h.example"}}}
    env = {**os.environ, "PYTHONPATH": os.path.dirname(HERE), "OSTRO_DAGTEST_SETTINGS": json.dumps(settings)}
    command = [sys.executable, "-m", "ostro.dagtest", "--file", str(tmp_path / "d.py")]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, env=env)
    assert done.returncode == 0 and "host is h.example" in done.stdout, done.stdout


def test_one_task_runs_alone_and_once():
    from ostro.dagtest import LocalRun

    ran = []
    with DAG("d", start_date=START) as dag:
        @task
        def before():
            ran.append("before")

        @task(retries=3)
        def fails():
            ran.append("fails")
            raise ValueError("no good")

        before() >> fails()
    one = LocalRun(dag).run_one("fails")
    assert (one.state, one.tries, ran) == ("failed", 1, ["fails"])


SECRETIVE = """
import logging, os, sys
from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

print("at import", Variable.get("api_key"))

def show():
    key, db = Variable.get("api_key"), BaseHook.get_connection("db")
    sys.stdout.write(key[:5]); sys.stdout.flush(); sys.stdout.write(key[5:] + "\\n")
    print(Variable.get("settings", deserialize_json=True)["token"], db.password, db.get_uri(), [db.extra], file=sys.stderr)
    print(Variable.get("env_password"), Variable.get("pem_secret"))
    sys.stdout.buffer.write(key.encode())
    logging.getLogger("x").warning("a record %s", key)
    print("held", end="")
    raise ValueError("no luck with " + key)

with DAG("hides", schedule=None) as dag:
    PythonOperator(task_id="show", python_callable=show)
    BashOperator(task_id="bash", bash_command="echo {{ var.value.api_key }} {{ conn.db.password }}; echo \\$E",
                 env={"E": "{{ var.value.api_key }}"})
"""


@pytest.mark.parametrize("more", [[], ["--task", "show"], ["--task", "bash"]])
def test_what_is_tested_here_prints_no_secret(tmp_path, more):
    write(tmp_path, "hides.py", SECRETIVE)
    settings = {"variables": {"api_key": "k-12345-abc", "settings": '{"token": "t-of-settings"}',
                              "pem_secret": "first line of it\nsecond line of it"},
                "connections": {"db": "postgres://u:p%40ss%2Fword@h/s?secret=in-extra"}}
    env = dict(os.environ, OSTRO_DAGTEST_SETTINGS=json.dumps(settings), AIRFLOW_VAR_ENV_PASSWORD="from-the-env")
    done = subprocess.run([sys.executable, "-m", "ostro.dagtest", "--file", str(tmp_path / "hides.py"), *more], env=env,
                          cwd=os.path.dirname(HERE), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60)
    text = done.stdout.decode()
    for secret in ("k-12345", "345-abc", "t-of-settings", "p@ss", "p%40ss", "in-extra", "from-the-env", "line of it"):
        assert secret not in text, text
    assert "at import ***\n" in text and text.count("***") > 2, text


def test_dag_test_prints_no_secret(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("AIRFLOW_VAR_API_KEY", "k-12345-abc")
    write(tmp_path, "d.py", """
        from airflow import DAG
        from airflow.models import Variable
        from airflow.operators.python import PythonOperator

        with DAG("d", schedule=None) as dag:
            PythonOperator(task_id="t", python_callable=lambda: print("saw", Variable.get("api_key")))
        """)
    out = io.StringIO()
    run_dag(load_file(str(tmp_path), "d.py").dags["d"], out=out)
    printed = capsys.readouterr()
    assert "saw ***" in printed.out and "k-12345" not in printed.out + printed.err + out.getvalue()
