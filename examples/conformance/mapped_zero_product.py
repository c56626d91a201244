# rule: a product with an empty argument is empty
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_zero_product():
    @task
    def nothing():
        return []

    @task
    def show(a, b):
        return a

    show.expand(a=[1, 2], b=nothing())


mapped_zero_product()
