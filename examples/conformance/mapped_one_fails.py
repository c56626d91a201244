# rule: each mapped instance fails for itself; what follows all of them judges all of them
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_one_fails():
    @task
    def check(n):
        if n == 2:
            raise ValueError("as planned")
        return n

    checked = check.expand(n=[1, 2, 3])
    checked >> EmptyOperator(task_id="strict")
    checked >> EmptyOperator(task_id="one_success", trigger_rule="one_success")
    checked >> EmptyOperator(task_id="all_done", trigger_rule="all_done")


mapped_one_fails()
