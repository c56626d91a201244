# rule: every task of a group mapped over nothing is skipped
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_group_zero():
    @task
    def nothing():
        return []

    @task
    def work(n):
        return n

    @task_group
    def box(n):
        work.override(task_id="second")(work(n))

    box.expand(n=nothing()) >> work.override(task_id="after")(1)


mapped_group_zero()
