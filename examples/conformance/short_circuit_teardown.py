# rule: a short circuit between setup and teardown leaves the teardown alone
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def short_circuit_teardown():
    @setup
    def create():
        return "made"

    @task.short_circuit
    def stop():
        return False

    @task
    def work():
        return 1

    @teardown
    def delete():
        return "gone"

    made, gone = create(), delete()
    made >> stop() >> work() >> gone
    made >> gone


short_circuit_teardown()
