# rule: fail_fast fails what runs and skips what has not begun when one task fails
import time

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None, fail_fast=True)
def fail_fast():
    @task
    def bad():
        time.sleep(2)
        raise ValueError("as planned")

    @task
    def slow():
        time.sleep(60)

    @task
    def quick():
        return 1

    bad() >> EmptyOperator(task_id="below")
    slow() >> EmptyOperator(task_id="below_slow")
    quick()


fail_fast()
