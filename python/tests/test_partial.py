"""What partial() of a mapped task may hold: results of tasks at any depth, and templates."""

import pytest

from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator
from ostro.localcomms import LocalComms
from support import START, attempt, result

GIVEN = [
    (lambda one: one["a"], 1),
    (lambda one: one, {"a": 1}),
    (lambda one: [one["a"], 2], [1, 2]),
    (lambda one: {"k": [one["a"]], "one": one}, {"k": [1], "one": {"a": 1}}),
    (lambda one: "{{ ds }}", "2024-01-01"),
    (lambda one: ["{{ ds_nodash }}", {"k": "{{ ti.map_index }}"}], ["20240101", {"k": "1"}]),
]


@pytest.mark.parametrize("given, want", GIVEN, ids=["keyed", "plain", "list", "dict", "template", "nested template"])
def test_partial_takes_results_of_tasks_and_templates(given, want):
    seen = []
    with DAG("d", start_date=START) as dag:
        @task(multiple_outputs=True)
        def one():
            return {"a": 1}

        @task
        def decorated(x, off=0):
            seen.append((x, off))

        source = one()
        decorated.partial(off=given(source)).expand(x=[3, 4])
        PythonOperator.partial(task_id="classic", python_callable=lambda x, off: seen.append((x, off)),
                               op_kwargs={"off": given(source)}).expand(op_args=[[3], [4]])
    comms = LocalComms()
    attempt(dag, "one", comms)
    attempt(dag, "decorated", comms, map_index=1)
    attempt(dag, "classic", comms, map_index=1)
    assert seen == [(4, want), (4, want)]
    assert set(dag.task_dict) == {"one", "decorated", "classic"}
    assert dag.task_dict["decorated"].upstream_task_ids == dag.task_dict["classic"].upstream_task_ids


def test_partial_of_an_operator_takes_results_in_its_other_arguments():
    with DAG("d", start_date=START) as dag:
        word = PythonOperator(task_id="word", python_callable=lambda: "hello")
        BashOperator.partial(task_id="bash", env={"WORD": word.output, "DAY": "{{ ds }}"}, append_env=True).expand(
            bash_command=["echo $WORD", "echo $WORD $DAY"])
    comms = LocalComms()
    attempt(dag, "word", comms)
    assert dag.task_dict["bash"].upstream_task_ids == {"word"}
    assert result(dag, "bash", comms, map_index=1) == "hello 2024-01-01"


def test_an_element_that_a_mapped_function_cannot_take_is_the_matter_of_its_instance_alone():
    from ostro.xcomarg import _Joined, _Mapped, _Zipped

    def inverse(n):
        return 1 / n

    inverses = _Mapped([2, 0, 4], [inverse])
    assert len(inverses) == 3 and inverses[0] == 0.5 and inverses[-1] == 0.25
    zipped = _Zipped([inverses, ["a"]], "none")
    assert len(zipped) == 3 and zipped[2] == (0.25, "none")
    joined = _Joined([["x"], inverses])
    assert len(joined) == 4 and joined[1] == 0.5 and joined[:2] == ["x", 0.5]
    with pytest.raises(ZeroDivisionError):
        joined[2]
    with pytest.raises(IndexError):
        joined[4]


@pytest.mark.parametrize("value, why", [(None, "returned nothing"), ("abc", "returned str"), (3, "returned int")])
def test_a_task_that_returns_what_nobody_can_map_over_fails_itself(value, why):
    with DAG("d", start_date=START) as dag:
        @task
        def give():
            return value

        @task
        def take(n):
            return n

        take.expand(n=give())
    terminal = attempt(dag, "give").terminal
    assert terminal["type"] == "RetryTask" and why in terminal["reason"]
