# rule: a mapped group inside a mapped group over the outer argument is refused
# refused: ValueError
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def refused_nested_mapped_groups():
    @task
    def work(n):
        return n

    @task_group
    def inner(n):
        work(n)

    @task_group
    def outer(n):
        inner.expand(n=n)

    outer.expand(n=[[1], [2]])


refused_nested_mapped_groups()
