# rule: a branch that returns an empty list skips everything below
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_empty_list():
    @task.branch
    def branch():
        return []

    @task
    def step(name):
        return name

    branch() >> [step.override(task_id=name)(name) for name in "ab"]


branch_empty_list()
