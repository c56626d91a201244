# rule: one failed or upstream_failed leaf fails the run, but everything else is finished first
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def run_state_one_leaf_fails():
    @task
    def bad():
        raise ValueError("as planned")

    @task
    def good():
        return 1

    bad() >> EmptyOperator(task_id="below")
    good() >> good.override(task_id="good2")() >> EmptyOperator(task_id="end")


run_state_one_leaf_fails()
