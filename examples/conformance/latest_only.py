# rule: LatestOnlyOperator skips what is directly below it in all but the newest scheduled run
# scheduled: 2
import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import DAG

with DAG("latest_only", schedule="0 0 1 1 *", catchup=True, start_date=datetime.datetime(2024, 1, 1),
         end_date=datetime.datetime(2025, 1, 1), is_paused_upon_creation=False):
    latest = LatestOnlyOperator(task_id="latest")
    latest >> EmptyOperator(task_id="below") >> EmptyOperator(task_id="far_all_done", trigger_rule="all_done")
    EmptyOperator(task_id="beside")
