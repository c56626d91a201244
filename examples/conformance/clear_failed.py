# rule: clearing a failed task and what is below it runs them again, with a higher try number
# run: {"then": [{"clear": {"only_failed": true, "task_ids": ["bad"], "include_downstream": true}}]}
from airflow.sdk import dag, task


@dag(schedule=None)
def clear_failed():
    @task
    def good():
        return 1

    @task
    def bad(value, ti=None):
        if ti.try_number == 1:
            raise ValueError("as planned")
        return value

    @task
    def below(value):
        return value

    below(bad(good()))


clear_failed()
