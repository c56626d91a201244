# rule: a teardown of two setups runs when one of them has succeeded
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, setup, task


@dag(schedule=None)
def setup_two():
    @setup
    def good():
        return 1

    @setup
    def broken():
        raise ValueError("as planned")

    @task
    def delete():
        return "gone"

    one, two = good(), broken()
    [one, two] >> EmptyOperator(task_id="work") >> delete().as_teardown(setups=[one, two])


setup_two()
