# rule: a mapped branch in a mapped group skips for its own index only
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def mapped_branch():
    @task.branch
    def choose(n):
        return "box.small" if n < 2 else "box.large"

    @task_group
    def box(n):
        choose(n) >> [EmptyOperator(task_id="small"), EmptyOperator(task_id="large")]

    box.expand(n=[1, 2, 3])


mapped_branch()
