# rule: clearing a task also clears its setup and its teardown
# run: {"then": [{"clear": {"only_failed": false, "task_ids": ["work"]}}]}
from airflow.sdk import dag, setup, task, teardown


@dag(schedule=None)
def clear_teardown():
    @setup
    def create():
        return "made"

    @task
    def work():
        return 1

    @task
    def after():
        return 2

    @teardown
    def delete():
        return "gone"

    made, gone = create(), delete()
    made >> work() >> after() >> gone
    made >> gone


clear_teardown()
