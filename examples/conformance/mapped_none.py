# rule: a task mapped over None cannot be expanded
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_none():
    @task
    def nothing():
        return None

    @task
    def show(n):
        return n

    @task
    def after(values):
        return list(values)

    after(show.expand(n=nothing()))


mapped_none()
