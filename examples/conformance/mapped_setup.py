# rule: a mapped teardown after mapped work
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def mapped_setup():
    @setup
    def create():
        return ["a", "b"]

    @task
    def work(name):
        if name == "b":
            raise ValueError("as planned")
        return name

    @teardown
    def delete(name):
        return name

    made = create()
    done = work.expand(name=made)
    gone = delete.expand(name=made)
    done >> gone


mapped_setup()
