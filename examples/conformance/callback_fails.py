# rule: a callback that fails changes nothing about the task
from airflow.sdk import dag, task


def broken(context):
    raise RuntimeError("in the callback")


@dag(schedule=None)
def callback_fails():
    @task(on_success_callback=broken)
    def good():
        return 1

    @task(on_failure_callback=[broken])
    def bad():
        raise ValueError("as planned")

    @task(on_execute_callback=broken)
    def begun():
        return 2

    good()
    bad()
    begun()


callback_fails()
