# rule: a task whose start_date lies after the run takes no part in it
# run: {"logical_date": "2024-01-01T00:00:00Z"}
# run: {"logical_date": "2024-03-01T00:00:00Z"}
import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("start_date", schedule=None):
    EmptyOperator(task_id="early") >> EmptyOperator(task_id="late", start_date=datetime.datetime(2024, 2, 1))
    EmptyOperator(task_id="over", end_date=datetime.datetime(2024, 2, 1))
