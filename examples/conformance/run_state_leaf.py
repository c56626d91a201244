# rule: the run's state is that of its leaves: a failure that a later task made good does not count
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def run_state_leaf():
    @task
    def bad():
        raise ValueError("as planned")

    bad() >> EmptyOperator(task_id="repairs", trigger_rule="one_failed")


run_state_leaf()
