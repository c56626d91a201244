# rule: expand over a literal list; the instances are numbered in its order
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_literal():
    @task
    def double(n):
        return 2 * n

    @task
    def total(values):
        return sum(values)

    total(double.expand(n=[3, 1, 2]))


mapped_literal()
