# rule: a plain group inside a mapped group is mapped with it
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_group_nested():
    @task
    def double(n):
        return 2 * n

    @task_group
    def inner(n):
        return double.override(task_id="again")(double(n))

    @task_group
    def outer(n):
        return inner(n)

    @task
    def total(values):
        return sum(values)

    total(outer.expand(n=[1, 2]))


mapped_group_nested()
