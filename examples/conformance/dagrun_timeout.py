# rule: dagrun_timeout fails the run; what has not ended is skipped
# notes: 1
import datetime
import time

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task
from conformance_notes import note


@dag(schedule=None, dagrun_timeout=datetime.timedelta(seconds=4),
     on_failure_callback=lambda context: note("dagrun_timeout", "failure %s" % context["reason"]))
def dagrun_timeout():
    @task
    def slow():
        time.sleep(120)

    slow() >> EmptyOperator(task_id="below")


dagrun_timeout()
