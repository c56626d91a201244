# rule: when the setup is skipped, its teardown is skipped
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, setup, teardown
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def setup_skipped():
    @setup
    def create():
        raise AirflowSkipException("as planned")

    @teardown
    def delete():
        return "gone"

    made, gone = create(), delete()
    made >> EmptyOperator(task_id="work") >> gone
    made >> gone


setup_skipped()
