# rule: a group mapped over what a task returned, with several arguments and a fixed one
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_group_xcom():
    @task
    def names():
        return ["a", "b"]

    @task
    def join(x, y, z):
        return "%s%s%s" % (x, y, z)

    @task
    def shout(text):
        return text.upper()

    @task_group
    def box(x, y, z):
        shout(join(x, y, z))

    box.partial(z="!").expand(x=names(), y=[1, 2])


mapped_group_xcom()
