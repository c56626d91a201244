# rule: a teardown runs although the work failed, and does not decide about the run
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def setup_teardown():
    @setup
    def create():
        return "made"

    @task
    def work():
        raise ValueError("as planned")

    @task
    def after_work():
        return 1

    @teardown
    def delete():
        return "gone"

    made, gone = create(), delete()
    made >> work() >> after_work() >> gone
    made >> gone


setup_teardown()
