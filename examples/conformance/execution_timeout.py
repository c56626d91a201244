# rule: execution_timeout fails a try that takes longer; a retry has the time again
import datetime
import time

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def execution_timeout():
    @task(execution_timeout=datetime.timedelta(seconds=1), retries=1, retry_delay=datetime.timedelta(seconds=0.1))
    def slow_once(ti=None):
        if ti.try_number == 1:
            time.sleep(60)
        return "second try"

    @task(execution_timeout=datetime.timedelta(seconds=1))
    def slow():
        time.sleep(60)

    slow_once()
    slow()
    BashOperator(task_id="bash", bash_command="sleep 60", execution_timeout=datetime.timedelta(seconds=1))


execution_timeout()
