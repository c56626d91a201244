# rule: a mapped group goes depth first: an instance follows its own index, and a failure stays in its index
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_group():
    @task
    def double(n):
        if n == 2:
            raise ValueError("as planned")
        return 2 * n

    @task
    def plus_one(n):
        return n + 1

    @task_group
    def box(n):
        return plus_one(double(n))

    @task(trigger_rule="all_done")
    def total(values):
        return sum(values)

    total(box.expand(n=[1, 2, 3]))


mapped_group()
