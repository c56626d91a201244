# rule: a teardown at the end of a task group is not what the group leads on from
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, setup, task, task_group, teardown


@dag(schedule=None)
def setup_group():
    @setup
    def create():
        return "made"

    @task
    def work():
        return 1

    @teardown
    def delete():
        raise ValueError("as planned")

    @task_group
    def box():
        made, gone = create(), delete()
        made >> work() >> gone
        made >> gone

    box() >> EmptyOperator(task_id="after")


setup_group()
