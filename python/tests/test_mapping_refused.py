"""What Airflow refuses to map is refused here, with the same kind of exception."""

import pytest

from airflow.sdk import DAG, task, task_group

CASES = {
    "literal": lambda work, n: work.expand(x=[1, 2]),
    "argument of the group": lambda work, n: work.expand(x=n),
    "keywords": lambda work, n: work.expand_kwargs([{"x": 1}]),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("nested", [False, True])
def test_a_task_inside_a_mapped_group_cannot_be_mapped(case, nested):
    with DAG("d", schedule=None):
        @task
        def work(x):
            return x

        @task_group
        def box(n):
            if not nested:
                return CASES[case](work, n)

            @task_group
            def inner():
                CASES[case](work, n)

            return inner()

        with pytest.raises(NotImplementedError, match="inside a mapped task group is not supported"):
            box.expand(n=[[1], [2]])
