# rule: mapped instances are tried again one by one
import datetime

from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_retries():
    @task(retries=2, retry_delay=datetime.timedelta(seconds=0.1))
    def work(n, ti=None):
        if ti.try_number <= n:
            raise ValueError("as planned")
        return ti.try_number

    work.expand(n=[0, 1, 2, 3])


mapped_retries()
