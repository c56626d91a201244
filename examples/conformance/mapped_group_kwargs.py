# rule: a group mapped with expand_kwargs
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_group_kwargs():
    @task
    def join(x, y):
        return "%s%s" % (x, y)

    @task_group
    def box(x, y):
        join(x, y)

    box.expand_kwargs([{"x": 1, "y": 2}, {"x": 3, "y": 4}])


mapped_group_kwargs()
