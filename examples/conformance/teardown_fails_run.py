# rule: a teardown with on_failure_fail_dagrun fails the run
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def teardown_fails_run():
    @setup
    def create():
        return "made"

    @task
    def work():
        return 1

    @teardown(on_failure_fail_dagrun=True)
    def delete():
        raise ValueError("as planned")

    made, gone = create(), delete()
    made >> work() >> gone
    made >> gone


teardown_fails_run()
