# rule: a task whose pool does not exist never starts
# run: {"until": {"beside": "success"}}
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("pool_missing", schedule=None):
    PythonOperator(task_id="lost", python_callable=lambda: 1, pool="conformance_no_such_pool")
    PythonOperator(task_id="beside", python_callable=lambda: 2)
