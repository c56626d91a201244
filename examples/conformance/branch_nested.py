# rule: nested branches with joins of none_failed_min_one_success
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_nested():
    @task.branch
    def branch(way):
        return way

    inner = branch.override(task_id="inner")("inner_true")
    outer = branch.override(task_id="outer")("inner")
    skipped_inner = branch.override(task_id="skipped_inner")("never")
    join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
    other = EmptyOperator(task_id="other_join", trigger_rule="none_failed_min_one_success")
    outer >> [inner, skipped_inner]
    inner >> [EmptyOperator(task_id="inner_true"), EmptyOperator(task_id="inner_false")] >> join
    skipped_inner >> EmptyOperator(task_id="never") >> other


branch_nested()
