# rule: a task mapped over a task that was skipped is skipped, over one that failed is upstream_failed
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def mapped_upstream_skipped():
    @task
    def skipped():
        raise AirflowSkipException("as planned")

    @task
    def failed():
        raise ValueError("as planned")

    @task
    def show(n):
        return n

    show.override(task_id="over_skipped").expand(n=skipped())
    show.override(task_id="over_failed").expand(n=failed())
    show.override(task_id="over_skipped_all_done", trigger_rule="all_done").expand(n=skipped.override(task_id="skipped2")())
    show.override(task_id="over_failed_all_done", trigger_rule="all_done").expand(n=failed.override(task_id="failed2")())


mapped_upstream_skipped()
