# rule: a mapped task inside a mapped group is refused
# refused: NotImplementedError
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def refused_mapped_in_mapped_group():
    @task
    def work(a, b):
        return a + b

    @task_group
    def box(n):
        work.partial(a=n).expand(b=[1, 2])

    box.expand(n=[1, 2])


refused_mapped_in_mapped_group()
