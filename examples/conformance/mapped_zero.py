# rule: a task mapped over nothing is skipped, and so is what follows by all_success
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_zero():
    @task
    def nothing():
        return []

    @task
    def show(n):
        return n

    @task
    def after(values):
        return list(values)

    @task(trigger_rule="none_failed")
    def tolerant(values):
        return list(values)

    from_xcom = show.override(task_id="from_xcom").expand(n=nothing())
    after(from_xcom)
    tolerant(from_xcom)
    show.override(task_id="from_literal").expand(n=[])


mapped_zero()
