# rule: a branch may return the id of a task group: its roots are followed
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def branch_group():
    @task.branch
    def branch():
        return "first"

    @task
    def step(name):
        return name

    @task_group
    def first():
        step.override(task_id="a")("a") >> step.override(task_id="b")("b")
        step.override(task_id="c")("c")

    @task_group
    def second():
        step.override(task_id="a")("a")

    branch() >> [first(), second()]


branch_group()
