# rule: a task that a branch skipped is skipped again when it alone is cleared
# run: {"then": [{"clear": {"only_failed": false, "task_ids": ["right"]}}]}
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def clear_branch():
    @task.branch
    def branch():
        return "left"

    branch() >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]


clear_branch()
