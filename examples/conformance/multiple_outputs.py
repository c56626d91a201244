# rule: multiple_outputs pushes each key and the whole; an annotation of dict does so by itself
from typing import Dict

from airflow.sdk import dag, task


@dag(schedule=None)
def multiple_outputs():
    @task(multiple_outputs=True)
    def explicit():
        return {"a": 1, "b": [2, 3]}

    @task
    def annotated() -> Dict[str, int]:
        return {"x": 1}

    @task
    def plain():
        return {"a": 1}

    @task(multiple_outputs=True)
    def not_a_dict():
        return [1]

    @task
    def add(x, y):
        return x + y

    add(explicit()["a"], annotated()["x"])
    plain()
    not_a_dict()


multiple_outputs()
