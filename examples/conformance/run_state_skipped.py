# rule: a run all of whose leaves were skipped has succeeded
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def run_state_skipped():
    @task
    def skipped():
        raise AirflowSkipException("as planned")

    skipped() >> EmptyOperator(task_id="below")


run_state_skipped()
