# rule: a branch may follow several tasks
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_multiple():
    @task.branch
    def branch():
        return ["a", "c"]

    @task
    def step(name):
        return name

    branch() >> [step.override(task_id=name)(name) for name in "abcd"]


branch_multiple()
