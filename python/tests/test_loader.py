"""What a DAG file may do at import, and how each fault is told."""

import os
import sys

from ostro.loader import load_file
from ostro.serialize import describe
from support import load, write

DAG = """
from airflow import DAG
from airflow.operators.empty import EmptyOperator
with DAG("%s"):
    EmptyOperator(task_id="a")
"""


def only_error(result):
    assert len(result.errors) == 1, result.errors
    return result.errors[0]


def test_dags_of_globals_and_of_with_blocks_are_found(tmp_path):
    result = load(tmp_path, """
        from airflow import DAG
        from airflow.decorators import dag
        first = DAG("first")
        def make():
            with DAG("second"):
                pass
            with DAG("hidden", auto_register=False):
                pass
        make()
        @dag
        def third():
            pass
        third()
    """)
    assert (sorted(result.dags), result.errors) == (["first", "second", "third"], [])


def test_helpers_of_the_bundle_are_imported_and_listed(tmp_path):
    write(tmp_path, "helpers/__init__.py", "")
    write(tmp_path, "helpers/names.py", "ID = 'from_helper'")
    result = load(tmp_path, "from helpers.names import ID\nfrom airflow import DAG\nd = DAG(ID)", "sub/a.py")
    assert list(result.dags) == ["from_helper"]
    assert result.modules == ["helpers/__init__.py", "helpers/names.py", "sub/a.py"]
    for name in ("helpers", "helpers.names"):
        del sys.modules[name]


def test_an_exception_is_told_with_the_line_and_only_the_authors_frames(tmp_path):
    error = only_error(load(tmp_path, """
        from airflow import DAG

        def broken():
            DAG("d", schedul="@daily")

        broken()
    """, shown_path="/dags"))
    assert (error["file"], error["line"]) == ("a_dag.py", 4)
    assert error["message"].startswith("TypeError: DAG('d') got an unexpected argument 'schedul'")
    assert 'File "/dags/a_dag.py", line 4, in broken' in error["traceback"]
    assert str(tmp_path) not in error["traceback"] and "ostro/dag.py" not in error["traceback"]


def test_an_error_in_a_helper_names_the_line_that_imports_it(tmp_path):
    write(tmp_path, "helper_bad.py", "x = 1\ny = 1 / 0\n")
    result = load(tmp_path, "import os\nimport helper_bad\n")
    error = only_error(result)
    assert (error["line"], error["message"]) == (2, "ZeroDivisionError: division by zero")
    assert 'helper_bad.py", line 2' in error["traceback"]
    assert result.modules == ["a_dag.py", "helper_bad.py"]


def test_a_syntax_error_has_line_and_column(tmp_path):
    error = only_error(load(tmp_path, "x = 1\ny = (2,\nz = )\n"))
    assert error["line"] in (2, 3) and "column" in error["message"] and error["message"].startswith("SyntaxError")


def test_a_syntax_error_in_a_helper_is_told_with_both_files(tmp_path):
    write(tmp_path, "helper_syn.py", "def f(:\n")
    result = load(tmp_path, "x = 1\nimport helper_syn\n")
    error = only_error(result)
    assert error["line"] == 2 and "helper_syn.py" in error["message"] and "helper_syn.py" in result.modules


def test_what_is_not_utf8_is_told_with_its_position(tmp_path):
    error = only_error(load(tmp_path, b"x = 1\ny = '\xff'\n"))
    assert error["message"] == "the file is not UTF-8: byte 0xff at line 2, column 6" and error["line"] == 2


def test_a_declared_encoding_is_read(tmp_path):
    text = "# -*- coding: latin-1 -*-\nfrom airflow import DAG\nd = DAG('d', description='\xe9')\n"
    result = load(tmp_path, text.encode("latin-1"))
    assert result.errors == [] and result.dags["d"].description == "\xe9"


def test_null_bytes_are_told(tmp_path):
    error = only_error(load(tmp_path, b"x = 1\x00\n"))
    assert "null bytes" in error["message"]


def test_sys_exit_and_interrupts_at_import_are_errors(tmp_path):
    assert only_error(load(tmp_path, "import sys\nsys.exit(1)\n"))["message"] == (
        "the file calls sys.exit(1) at import, line 2")
    assert only_error(load(tmp_path, "raise KeyboardInterrupt\n"))["message"] == (
        "the import was interrupted (KeyboardInterrupt), line 1")


def test_a_file_that_is_gone_is_an_error(tmp_path):
    assert only_error(load_file(str(tmp_path), "none.py"))["message"].startswith("cannot read the file: No such file")


def test_two_dags_with_one_id_are_told_with_both_lines(tmp_path):
    result = load(tmp_path, "from airflow import DAG\na = DAG('d')\n\nb = DAG('d')\nc = DAG('other')\n")
    error = only_error(result)
    assert error["message"] == "two DAGs of this file have the id 'd': line 2 and line 4"
    assert (error["dag_id"], error["line"], sorted(result.dags)) == ("d", 4, ["d", "other"])


def test_one_bad_dag_does_not_hide_the_others(tmp_path):
    result = load(tmp_path, """
        from airflow import DAG
        from airflow.operators.empty import EmptyOperator
        with DAG("good"):
            EmptyOperator(task_id="a")
        with DAG("bad"):
            a = EmptyOperator(task_id="a")
            b = EmptyOperator(task_id="b")
            a >> b >> a
    """)
    assert list(result.dags) == ["good"]
    assert only_error(result)["message"] == (
        "AirflowDagCycleException: the tasks of DAG 'bad' depend on each other in a circle: a → b → a")
    assert only_error(result)["line"] == 5


def test_misspelt_names_of_the_surface_are_corrected(tmp_path):
    assert "(did you mean 'PythonOperator'?)" in only_error(
        load(tmp_path, "from airflow.operators.python import PythonOperater\n"))["message"]
    message = only_error(load(tmp_path, "x = 1\nimport airflow.operators.pyton\n"))["message"]
    assert "no module named 'airflow.operators.pyton' in Ostro, wanted by" in message
    assert message.endswith("a_dag.py:2 (did you mean 'airflow.operators.python'?)")


def test_a_missing_package_is_told_with_the_interpreter(tmp_path):
    assert sys.executable in only_error(load(tmp_path, "import a_package_nobody_has\n"))["message"]


def test_warnings_carry_file_and_line_as_people_know_them(tmp_path):
    result = load(tmp_path, """
        from airflow import DAG
        d = DAG("d",
                default_view="grid")
    """, shown_path="/dags")
    assert result.warnings[0].startswith("/dags/a_dag.py:") and "default_view=" in result.warnings[0]


def test_equal_file_names_in_two_folders_do_not_meet(tmp_path):
    first = load(tmp_path, DAG % "one", "x/same.py")
    second = load(tmp_path, DAG % "two", "y/same.py")
    assert (list(first.dags), list(second.dags)) == (["one"], ["two"])
    assert first.dags["one"].__module__ == second.dags["two"].__module__


def test_the_bundle_comes_first_on_the_path(tmp_path):
    load(tmp_path, "import sys\n")
    assert sys.path[0] == os.path.abspath(str(tmp_path))


def test_compat_and_defaults_fill_what_the_author_left_out(tmp_path):
    text = DAG.replace('DAG("%s")', 'DAG("d", schedule="@daily")')
    three = load(tmp_path, text, defaults={"default_retries": 2, "default_retry_delay": 7, "owner": "team"}).dags["d"]
    two = load(tmp_path, text, compat="airflow2").dags["d"]
    task = three.get_task("a")
    assert (task.retries, task.retry_delay.total_seconds(), task.owner, three.catchup) == (2, 7, "team", False)
    assert (two.catchup, two.timetable.wire()["kind"], three.timetable.wire()["kind"]) == (
        True, "cron_interval", "cron_trigger")
    assert load(tmp_path, DAG % "d", compat="airflow2").dags["d"].timetable.wire()["kind"] == "delta_interval"


def test_date_like_and_bundle_names_do_not_leak_between_loads(tmp_path):
    load(tmp_path, DAG % "one")
    result = load(tmp_path, "x = 1\n")
    assert (result.dags, result.warnings) == ({}, [])


def test_a_misspelt_default_argument_is_a_warning(tmp_path):
    loaded = load(tmp_path, """
        from datetime import datetime
        from airflow import DAG
        from airflow.operators.empty import EmptyOperator
        with DAG("d", start_date=datetime(2024, 1, 1), default_args={"retrys": 2, "team": "ml"}):
            EmptyOperator(task_id="a")
    """)
    assert [text.partition("default_args")[2] for text in loaded.warnings] == [
        " of DAG 'd' has 'retrys', which none of its tasks takes (did you mean 'retries'?)"]


def test_misspelt_words_are_errors_with_the_nearest_right_one(tmp_path):
    for text, want in (
        ("EmptyOperator(task_id='a', trigger_rule='all_sucess')", "(did you mean 'all_success'?)"),
        ("EmptyOperator(task_id='a', weight_rule='upsteam')", "(did you mean 'upstream'?)"),
        ("DAG('e', start_date='2024-13-01')", "start_date of DAG 'e' is not a date: '2024-13-01'"),
        ("EmptyOperator(task_id='a') >> 'b'", "received str 'b'"),
    ):
        loaded = load(tmp_path, "from airflow import DAG\nfrom airflow.operators.empty import EmptyOperator\n"
                                "with DAG('d'):\n    " + text)
        assert want in loaded.errors[0]["message"] and loaded.errors[0]["line"] == 4, loaded.errors


def test_a_dag_of_a_helper_module_belongs_to_the_file_that_was_loaded(tmp_path):
    write(tmp_path, "helpers/__init__.py", "")
    write(tmp_path, "helpers/make.py", "from airflow import DAG\ndef make(name):\n    return DAG(name)\n")
    loaded = load(tmp_path, "from helpers.make import make\n\nd = make('made')\n", "team/a_dag.py")
    dag = loaded.dags["made"]
    assert (dag.fileloc, dag.lineno) == (str(tmp_path / "team" / "a_dag.py"), 3)
    assert describe(dag)["file"] == "team/a_dag.py"
