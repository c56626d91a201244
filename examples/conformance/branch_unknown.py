# rule: a branch that returns an id that does not exist fails
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_unknown():
    @task.branch
    def branch():
        return "nowhere"

    branch() >> EmptyOperator(task_id="somewhere")


branch_unknown()
