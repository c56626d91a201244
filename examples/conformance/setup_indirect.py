# rule: a task far below a failed setup does not run even with a rule that would let it
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, setup, task


@dag(schedule=None)
def setup_indirect():
    @setup
    def create():
        return "made"

    @setup
    def late():
        raise ValueError("as planned")

    @task
    def delete():
        return "gone"

    one, two = create(), late()
    near, far = EmptyOperator(task_id="near"), EmptyOperator(task_id="far", trigger_rule="all_done")
    [one, two] >> near >> far >> delete().as_teardown(setups=[one, two])


setup_indirect()
