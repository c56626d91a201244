# rule: a branch that also leads straight to the join does not skip what the followed task leads to
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def branch_to_join():
    @task.branch
    def branch():
        return "work"

    choice, work, join = branch(), EmptyOperator(task_id="work"), EmptyOperator(task_id="join")
    choice >> work >> join
    choice >> join
    choice >> EmptyOperator(task_id="other")


branch_to_join()
