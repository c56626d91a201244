# rule: a teardown that fails leaves the run successful
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def teardown_fails():
    @setup
    def create():
        return "made"

    @task
    def work():
        return 1

    @teardown
    def delete():
        raise ValueError("as planned")

    made, gone = create(), delete()
    made >> work() >> gone
    made >> gone


teardown_fails()
