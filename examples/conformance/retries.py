# rule: a task is tried retries + 1 times
import datetime

from airflow.sdk import dag, task


@dag(schedule=None, default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=0.1)})
def retries():
    @task
    def third_time_lucky(ti=None):
        if ti.try_number < 3:
            raise ValueError("as planned")
        return ti.try_number

    @task
    def never():
        raise ValueError("as planned")

    @task(retries=0)
    def once():
        raise ValueError("as planned")

    third_time_lucky()
    never()
    once()


retries()
