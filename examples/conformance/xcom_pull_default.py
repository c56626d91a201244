# rule: the default of xcom_pull
from airflow.sdk import dag, task


@dag(schedule=None)
def xcom_pull_default():
    @task
    def give():
        return 7

    @task
    def pull(ti=None):
        return [ti.xcom_pull(task_ids="give", default="d"), ti.xcom_pull(task_ids="give", key="no", default="d")]

    give() >> pull()


xcom_pull_default()
