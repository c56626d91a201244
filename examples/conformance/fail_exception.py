# rule: AirflowFailException fails at once, however many retries are left
import datetime

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException


@dag(schedule=None)
def fail_exception():
    @task(retries=3, retry_delay=datetime.timedelta(seconds=0.1))
    def gives_up():
        raise AirflowFailException("as planned")

    gives_up()


fail_exception()
