# rule: when a setup fails, what is in its scope is upstream_failed and so is its teardown
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, setup, teardown


@dag(schedule=None)
def setup_fails():
    @setup
    def create():
        raise ValueError("as planned")

    @teardown
    def delete():
        return "gone"

    made, gone = create(), delete()
    made >> EmptyOperator(task_id="work") >> EmptyOperator(task_id="more", trigger_rule="all_done") >> gone
    made >> gone
    gone >> EmptyOperator(task_id="after_teardown")


setup_fails()
