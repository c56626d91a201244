# rule: default_args of a group go before those of the DAG, and a task's own before both
import datetime

from airflow.sdk import dag, task, task_group


@dag(schedule=None, default_args={"retries": 1, "retry_delay": datetime.timedelta(seconds=0.1), "priority_weight": 5})
def group_default_args():
    @task
    def tries(ti=None, task=None):
        return [ti.max_tries, task.priority_weight]

    @task_group(default_args={"retries": 2})
    def box():
        tries()
        tries.override(task_id="own", retries=3)()

    tries()
    box()


group_default_args()
