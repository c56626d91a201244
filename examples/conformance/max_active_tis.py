# rule: max_active_tis_per_dagrun=1 runs the instances of a mapped task one at a time
from airflow.sdk import dag, task


@dag(schedule=None)
def max_active_tis():
    @task(max_active_tis_per_dagrun=1)
    def work(n, ti=None):
        return ti.get_num_running_task_instances(None) if hasattr(ti, "session") else n

    @task
    def one_by_one(ti=None):
        return len(list(ti.xcom_pull(task_ids="work")))

    work.expand(n=[1, 2, 3]) >> one_by_one()


max_active_tis()
