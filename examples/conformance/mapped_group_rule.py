# rule: trigger rules inside a mapped group look at their own index
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task, task_group
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def mapped_group_rule():
    @task
    def work(n):
        if n == 1:
            raise ValueError("as planned")
        if n == 2:
            raise AirflowSkipException("as planned")

    @task_group
    def box(n):
        done = work(n)
        done >> EmptyOperator(task_id="all_success")
        done >> EmptyOperator(task_id="one_failed", trigger_rule="one_failed")
        done >> EmptyOperator(task_id="none_failed", trigger_rule="none_failed")
        done >> EmptyOperator(task_id="all_done", trigger_rule="all_done")

    box.expand(n=[0, 1, 2])


mapped_group_rule()
