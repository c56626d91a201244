# rule: what a branch says of a task that is not directly downstream of it
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_not_direct():
    @task.branch
    def branch():
        return "far"

    branch() >> EmptyOperator(task_id="near") >> EmptyOperator(task_id="far")


branch_not_direct()
