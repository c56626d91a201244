"""Operators that ask a person."""

import datetime

import pytest

from airflow import DAG
from airflow.exceptions import ParamValidationError
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from airflow.sdk import Param
from support import START, attempt

AT = datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)


def event(*options, **params):
    return {"chosen_options": list(options), "params_input": params, "responded_at": AT, "responded_by_user": None}


def test_asking_ends_the_attempt_with_the_form_and_calls_the_notifiers():
    told = []
    with DAG("d", start_date=START) as dag:
        HITLOperator(task_id="t", subject="on {{ ds }}", options=["a", "b"], defaults="b", params={"n": Param(1, type="integer")},
                     assigned_users={"id": 7, "name": "Ana"}, notifiers=lambda context: told.append(context["ti"].task_id),
                     response_timeout=datetime.timedelta(minutes=1))
    terminal = attempt(dag, "t").terminal
    assert terminal["type"] == "DeferTask" and terminal["next_method"] == "execute_complete"
    assert terminal["trigger_timeout"] == 60
    assert terminal["input"] == {
        "subject": "on 2024-01-01", "body": "", "options": ["a", "b"], "defaults": ["b"], "multiple": False,
        "params": {"n": {"value": 1, "description": None, "schema": {"type": "integer"}}},
        "assigned_users": [{"id": "7", "name": "Ana"}]}
    assert told == ["t"]


def test_an_answer_is_the_result_and_must_fit():
    one = HITLEntryOperator(task_id="t", subject="s", params={"n": Param(type="integer")})
    assert one.execute_complete({}, event("OK", n=3))["params_input"] == {"n": 3}
    with pytest.raises(ParamValidationError):
        one.execute_complete({}, event("OK", n="three"))
    with pytest.raises(ValueError):
        one.execute_complete({}, event("Else", n=3))
    with pytest.raises(HITLTimeoutError):
        one.execute_complete({}, {"error": "too late", "error_type": "timeout"})


def test_a_rejection_can_fail_the_task():
    one = ApprovalOperator(task_id="t", subject="s", fail_on_reject=True)
    assert one.execute_complete({}, event("Approve"))["chosen_options"] == ["Approve"]
    with pytest.raises(HITLRejectException):
        one.execute_complete({}, event("Reject"))


@pytest.mark.parametrize("make", [
    lambda: HITLOperator(task_id="t", subject="s", options=[]),
    lambda: HITLOperator(task_id="t", subject="s", options=["a"], defaults=["b"]),
    lambda: HITLOperator(task_id="t", subject="s", options=["a", "b"], defaults=["a", "b"]),
    lambda: HITLOperator(task_id="t", subject="s", options=["a"], params={"_options": 1}),
    lambda: HITLBranchOperator(task_id="t", subject="s", options=["a"], options_mapping={"b": "x"}),
    lambda: HITLBranchOperator(task_id="t", subject="s", options=["a"], options_mapping={"a": 1}),
    lambda: ApprovalOperator(task_id="t", subject="s", options=["a"]),
])
def test_what_cannot_be_asked_is_refused(make):
    with pytest.raises(ValueError):
        make()
