"""Every name of the import surface stands for something, and a genuine Airflow is never half-imported."""

import importlib
import os
import subprocess
import sys

import pytest

from ostro import surface
from support import HERE, write

PYTHON = os.path.dirname(HERE)


@pytest.mark.parametrize("module", sorted(surface.MODULES))
def test_every_module_imports_with_all_its_names(module):
    made = importlib.import_module(module)
    for name in surface.names(module):
        assert getattr(made, name, None) is not None or name in ("NEW_SESSION",), name


def test_star_imports_work():
    space = {}
    exec("from airflow.operators.python import *", space)
    assert "PythonOperator" in space and "ShortCircuitOperator" in space


def test_a_submodule_does_not_hide_a_name_of_its_package():
    import airflow.decorators
    from airflow.decorators import task_group
    from airflow.decorators.task_group import task_group as same

    assert task_group is same is airflow.decorators.task_group


def test_the_version_is_an_airflow_3():
    import airflow
    from airflow.version import version

    assert airflow.__version__ == version == "3.3.2"


def run(code, *paths):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([PYTHON] + [str(path) for path in paths]))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.fixture
def site(tmp_path):
    """A folder with a genuine-looking Airflow and one of its providers."""
    write(tmp_path, "airflow/__init__.py", "GENUINE = True\n__version__ = '2.0'\n")
    write(tmp_path, "airflow/www/__init__.py", "GENUINE = True\n")
    write(tmp_path, "airflow/models/__init__.py", "GENUINE = True\n")
    write(tmp_path, "airflow/models/serialized_dag.py", "GENUINE = True\n")
    write(tmp_path, "airflow/providers/acme/__init__.py", "")
    write(tmp_path, "airflow/providers/acme/hooks.py",
          "from airflow.hooks.base import BaseHook\nclass AcmeHook(BaseHook): pass\n")
    write(tmp_path, "airflow/providers/acme/needs.py", "\nimport airflow.www.views\n")
    write(tmp_path, "airflow/providers/cncf/kubernetes/operators/job.py", "KIND = 'job'\n")
    return tmp_path


def test_providers_may_be_installed_packages(site):
    code = "from airflow.providers.acme.hooks import AcmeHook; print(AcmeHook.__mro__[1].__module__)"
    assert run(code, site) == "ostro.connection\n"


def test_an_installed_provider_adds_to_ours_and_does_not_replace_it(site):
    code = ("from airflow.providers.cncf.kubernetes.operators.job import KIND\n"
            "from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator\n"
            "print(KIND, KubernetesPodOperator.__module__)")
    assert run(code, site) == "job ostro.operators.pod\n"


def test_everything_else_of_a_genuine_airflow_is_an_error_that_says_who_wanted_it(site):
    out = run("import airflow.providers.acme.needs", site)
    assert "no module named 'airflow.www' in Ostro, wanted by %s:1" % (site / "airflow/providers/acme/needs.py") in out
    assert "no module named 'airflow.models.serialized_dag'" in run("import airflow.models.serialized_dag", site)


def test_a_genuine_airflow_that_was_imported_first_is_evicted(site):
    code = ("import sys; sys.path.insert(0, %r)\nimport airflow, airflow.models; assert airflow.GENUINE\n"
            "from ostro import finder; finder.install(); finder.evict()\n"
            "import airflow; print(airflow.__version__)") % str(site)
    assert run(code) == "3.3.2\n"


def test_a_missing_provider_says_what_to_install():
    assert "pip install apache-airflow-providers-amazon" in run("import airflow.providers.amazon.aws.hooks.s3")
    assert "pip install apache-airflow-providers-common-sql" not in run("import airflow.operators.bash")


# What importing the authoring surface must not drag in: each costs milliseconds in every host and every parse.
HEAVY = ("inspect", "dataclasses", "typing", "asyncio", "urllib.request", "http.client", "json.decoder", "ssl",
         "subprocess", "logging", "tempfile", "jinja2", "pendulum", "pathlib", "unittest")


def test_a_small_dag_file_imports_nothing_heavy(tmp_path):
    write(tmp_path, "small.py", """
        from airflow import DAG
        from airflow.decorators import task
        from airflow.operators.bash import BashOperator
        from airflow.operators.python import PythonOperator
        with DAG("d", schedule="@daily"):
            @task
            def f():
                pass
            f() >> BashOperator(task_id="b", bash_command="x") >> PythonOperator(task_id="p", python_callable=print)
    """)
    code = "import sys\nimport small\nprint(sorted(set(%r) & set(sys.modules)))" % (HEAVY,)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([PYTHON, str(tmp_path)]))
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("statement, said", [
    ("from airflow.operators.subdag import SubDagOperator", "Airflow 3 has removed SubDAGs; use a TaskGroup"),
    ("from airflow.models import SubDagOperator", "Airflow 3 has removed SubDAGs; use a TaskGroup"),
    ("from airflow.contrib.operators.bigquery_operator import BigQueryOperator",
     "moved it to airflow.providers.google.cloud.operators.bigquery (pip install apache-airflow-providers-google)"),
    ("from airflow.contrib.hooks.gcs_hook import GoogleCloudStorageHook", "airflow.providers.google.cloud.hooks.gcs (pip"),
    ("import airflow.contrib.utils.weekday", "Airflow 2 has removed airflow.contrib"),
    ("from airflow.hooks.S3_hook import S3Hook", "airflow.providers.amazon.aws.hooks.s3 (pip install apache-airflow-providers-"
                                                "amazon)"),
    ("from airflow.operators.postgres_operator import PostgresOperator",
     "airflow.providers.common.sql.operators.sql (pip install apache-airflow-providers-common-sql)"),
    ("from airflow.operators.docker_operator import DockerOperator", "(pip install apache-airflow-providers-docker)"),
    ("from airflow.sensors.http_sensor import HttpSensor", "airflow.providers.http.sensors.http (pip"),
    ("import airflow.providers.google.cloud", "it comes with a provider: pip install apache-airflow-providers-google"),
    ("import airflow.providers.apache.spark", "it comes with a provider: pip install apache-airflow-providers-apache-…"),
    ("import airflow.www.app", "it belongs to Airflow's web server"),
    ("import airflow.executors.local_executor", "it belongs to Airflow's scheduler"),
    ("from airflow.operators import BashOperator", "BashOperator is in airflow.operators.bash"),
    ("import airflow.operators.pythn", "(did you mean 'airflow.operators.python'?)"),
])
def test_what_is_not_here_says_what_has_become_of_it(statement, said):
    with pytest.raises(ImportError) as fault:
        exec(statement, {})
    assert said in str(fault.value)


def test_the_hook_that_runs_commands(capfd, tmp_path):
    import threading

    from airflow.hooks.subprocess import SubprocessHook
    from airflow.providers.standard.hooks.subprocess import SubprocessHook as Same

    hook = SubprocessHook()
    assert hook is not Same() and SubprocessHook is Same
    code, last = hook.run_command(["sh", "-c", "echo one; echo $A; pwd"], env={"A": "two", "PATH": os.environ["PATH"]},
                                  cwd=str(tmp_path))
    assert (code, last) == (0, str(tmp_path)) and capfd.readouterr().out == "one\ntwo\n%s\n" % tmp_path
    assert hook.run_command(["sh", "-c", "exit 3"]).exit_code == 3
    hook.send_sigterm()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(hook.run_command(["sleep", "1000"]).exit_code))
    before = hook.sub_process
    thread.start()
    while hook.sub_process is before:
        thread.join(0.01)
    hook.send_sigterm()
    thread.join(20)
    assert ended == [-15]


def test_the_hook_of_a_folder(monkeypatch):
    from airflow.hooks.filesystem import FSHook

    monkeypatch.setenv("AIRFLOW_CONN_FS_DEFAULT", '{"conn_type": "fs", "extra": {"path": "/data"}}')
    assert FSHook().get_path() == "/data"
