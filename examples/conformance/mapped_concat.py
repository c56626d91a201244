# rule: .concat puts lists one after the other, also those of mapped tasks
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_concat():
    @task
    def letters():
        return ["a", "b"]

    @task
    def square(n):
        return n * n

    @task
    def show(one):
        return one

    show.expand(one=letters().concat(square.expand(n=[2, 3])))


mapped_concat()
