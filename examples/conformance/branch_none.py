# rule: a branch that returns None skips everything below
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_none():
    @task.branch
    def branch():
        return None

    @task
    def step(name):
        return name

    branch() >> [step.override(task_id=name)(name) for name in "ab"]


branch_none()
