# rule: a decorated group called twice gets a number; so does a task
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def group_called_twice():
    @task
    def work(n):
        return n

    @task_group
    def box(n):
        work(n)
        work(n)

    box(1)
    box(2)
    box(3)


group_called_twice()
