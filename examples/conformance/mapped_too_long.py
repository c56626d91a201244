# rule: a list longer than max_map_length (1024) cannot be mapped over
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_too_long():
    @task
    def many():
        return list(range(1025))

    @task
    def show(n):
        return n

    show.expand(n=many())


mapped_too_long()
