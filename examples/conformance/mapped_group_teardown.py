# rule: setup and teardown inside a mapped group belong to one index
from airflow.sdk import dag, setup, task, task_group, teardown


@dag(schedule=None)
def mapped_group_teardown():
    @setup
    def create(n):
        if n == 1:
            raise ValueError("as planned")
        return n

    @task
    def work(n):
        return n * 10

    @teardown
    def delete(n):
        return n

    @task_group
    def box(n):
        made, gone = create(n), delete(n)
        made >> work(n) >> gone
        made >> gone

    box.expand(n=[0, 1])


mapped_group_teardown()
