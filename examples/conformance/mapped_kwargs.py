# rule: expand_kwargs makes one instance a dict, from a literal or from a task
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_kwargs():
    @task
    def rows():
        return [{"a": 1, "b": 2}, {"a": 3}]

    @task
    def show(a, b="default", c=None):
        return "%s %s %s" % (a, b, c)

    show.override(task_id="literal").expand_kwargs([{"a": 1}, {"a": 2, "c": 3}])
    show.override(task_id="xcom").partial(c="fixed").expand_kwargs(rows())


mapped_kwargs()
