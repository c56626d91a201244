# rule: a task that returns text to a mapped task fails itself: text cannot be mapped over
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_string():
    @task
    def text():
        return "abc"

    @task
    def show(n):
        return n

    show.expand(n=text())


mapped_string()
