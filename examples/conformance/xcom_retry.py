# rule: a new try begins without the XComs of the one before
import datetime

from airflow.sdk import dag, task


@dag(schedule=None)
def xcom_retry():
    @task(retries=1, retry_delay=datetime.timedelta(seconds=0.1))
    def work(ti=None):
        before = ti.xcom_pull(task_ids="work", key="try_%d" % (ti.try_number - 1))
        ti.xcom_push(key="try_%d" % ti.try_number, value=ti.try_number)
        if ti.try_number == 1:
            raise ValueError("as planned")
        return repr(before)

    work()


xcom_retry()
