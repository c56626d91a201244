# rule: xcom_push and xcom_pull with keys, several tasks, defaults; a pull without task ids asks this very task
from airflow.sdk import dag, task


@dag(schedule=None)
def xcom_push_pull():
    @task(do_xcom_push=False)
    def push(ti=None):
        ti.xcom_push(key="k", value=[1, 2])
        return "not kept"

    @task
    def give():
        return 7

    @task
    def pull(ti=None):
        ti.xcom_push(key="own", value="mine")
        return [ti.xcom_pull(task_ids="push", key="k"), ti.xcom_pull(task_ids="push"), ti.xcom_pull(task_ids=["give", "push"]),
                ti.xcom_pull(key="k"), ti.xcom_pull(key="own"),
                ti.xcom_pull(task_ids=["give", "nowhere"])]

    [push(), give()] >> pull()


xcom_push_pull()
