# rule: a task maps over the results of a mapped task, whose skipped instances give no element
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def mapped_from_mapped():
    @task
    def double(n):
        if n == 2:
            raise AirflowSkipException("as planned")
        return 2 * n

    @task(trigger_rule="none_failed")
    def show(n):
        return n

    @task(trigger_rule="none_failed")
    def total(values):
        return sum(values)

    doubled = double.expand(n=[1, 2, 3])
    show.expand(n=doubled)
    total(doubled)


mapped_from_mapped()
