# rule: LatestOnlyOperator lets a run by hand go on
# run: {"logical_date": "2024-01-01T00:00:00Z"}
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import DAG

with DAG("latest_only_manual", schedule=None):
    LatestOnlyOperator(task_id="latest") >> EmptyOperator(task_id="below")
