"""What a file is warned of when it is imported, so that nothing comes as a surprise when a task runs."""

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
