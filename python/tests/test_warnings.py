"""What a file is warned of when it is imported, so that nothing comes as a surprise when a task runs."""

import sys

import pytest

from support import load

MAILS = """
from airflow import DAG
from airflow.operators.empty import EmptyOperator

for name in ("d", "e"):
    with DAG(name, default_args={%s}):
        EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
"""


@pytest.mark.parametrize("words", [
    "'email_on_failure': False, 'email_on_retry': False", "'email': None", "'email': []", "'email': ''",
    "'email': ['x@example.com'], 'email_on_failure': False, 'email_on_retry': False",
])
def test_mail_that_nobody_wants_is_no_warning(tmp_path, words):
    assert load(tmp_path, MAILS % words).warnings == []


def test_mail_that_is_wanted_is_one_warning_a_dag(tmp_path):
    warnings = load(tmp_path, MAILS % "'email': ['x@example.com']").warnings
    assert [text.partition(": ")[2].partition(", nor")[0] for text in warnings] == [
        "email= of DAG 'd', task 'a', has no effect", "email= of DAG 'e', task 'a', has no effect"]


IGNORED = """
from datetime import timedelta
from airflow import DAG
from airflow.operators.empty import EmptyOperator

class Mine:
    def get_weight(self, ti): return 1

for name, tasks in (("one", 1), ("two", 2), ("many", 5)):
    with DAG(name, default_args={"sla": timedelta(hours=1), "run_as_user": "me", "weight_rule": Mine()}):
        for n in range(tasks):
            if n % 2:
                EmptyOperator(task_id="t%d" % n)
            else:
                EmptyOperator(
                    task_id="t%d" % n)
"""


def test_an_argument_without_effect_is_one_warning_a_dag_that_names_the_tasks(tmp_path):
    warnings = [text.partition("a_dag.py:")[2].partition(": ")[2] for text in load(tmp_path, IGNORED).warnings]
    named = ["task 't0' of DAG 'one'", "tasks 't0', 't1' of DAG 'two'", "tasks 't0', 't1', 't2' and 2 more of DAG 'many'"]
    slas = ["sla= of %s has no effect: SLAs were removed from Airflow 3" % one for one in named]
    users = ["run_as_user= of %s has no effect: tasks run as the worker's user" % one for one in named]
    rule = ["weight_rule=Mine has no effect: strategies of one's own are not computed, downstream is used"]
    assert sorted(warnings) == sorted(slas + users + rule)


VENVS = """
from airflow import DAG
from airflow.decorators import task
from airflow.operators.python import ExternalPythonOperator, PythonVirtualenvOperator

with DAG("d"):
    PythonVirtualenvOperator(task_id="venv", python_callable=print, requirements=["x"])
    ExternalPythonOperator(task_id="other", python_callable=print, python="/p")
    ExternalPythonOperator.partial(task_id="many", python_callable=print, python="/p").expand(op_args=[[1], [2]])

    @task.virtualenv(requirements=["x"])
    def decorated(): ...

    decorated()

    @task.docker(image="x")
    def boxed(): ...

    boxed()
"""


def test_a_task_that_cannot_run_here_is_a_warning_at_import(tmp_path):
    loaded = load(tmp_path, VENVS)
    assert loaded.errors == []
    for warning, (line, name) in zip(loaded.warnings, [(6, "venv"), (7, "other"), (8, "many"), (13, "decorated"),
                                                       (18, "boxed")]):
        assert "a_dag.py:%d: " % line in warning and "task %r will fail when it runs: " % name in warning
        assert "use @task, @task.bash or KubernetesPodOperator" in warning
    assert len(loaded.warnings) == 5


TEMPLATES = """
from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator

@task
def shown(text, n=0): ...

with DAG("d"):
    BashOperator(task_id="plain", bash_command="echo {}")
    BashOperator(task_id="names", bash_command="echo {{ ds }}")
    BashOperator(task_id="a", bash_command="echo {{ ds | upper }}", env={"A": "{{ dag.dag_id }}"})
    BashOperator(task_id="script", bash_command="run.sh")
    shown(["{{ dag.dag_id }}"])
    shown.override(task_id="m").partial(text="{{ dag.dag_id }}").expand(n=[1])
    BashOperator.partial(task_id="n").expand(bash_command=["echo {{ dag.dag_id }}"])
"""


def test_templates_without_jinja_are_one_warning_a_dag_that_names_fields_and_tasks(tmp_path, monkeypatch):
    assert load(tmp_path, TEMPLATES).warnings == []
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("ostro.template._installed", lambda name: False)
    [warning] = load(tmp_path, TEMPLATES).warnings
    assert "Jinja2 is not installed in this Python (%s -m pip install jinja2): " % sys.executable in warning
    assert warning.endswith("'bash_command' of task 'a', 'env' of task 'a', 'bash_command' of task 'script' and 3 more")


@pytest.mark.parametrize("module, want", [
    ("kubernetes.client", "-m pip install kubernetes)"), ("yaml.nosuch", "-m pip install pyyaml)"),
    ("my_helpers", "neither a module of the bundle nor installed in this Python; if it is a package's: "),
])
def test_a_missing_package_comes_with_what_to_install(tmp_path, monkeypatch, module, want):
    for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    message = load(tmp_path, "import %s\n" % module).errors[0]["message"]
    assert want in message and sys.executable in message
