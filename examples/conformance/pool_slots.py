# rule: a task that takes more slots than the pool has never starts
# pool: conformance_two 2
# run: {"until": {"fits": "success", "beside": "success"}}
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("pool_slots", schedule=None):
    PythonOperator(task_id="too_wide", python_callable=lambda: 1, pool="conformance_two", pool_slots=3)
    PythonOperator(task_id="fits", python_callable=lambda: 2, pool="conformance_two", pool_slots=2)
    PythonOperator(task_id="beside", python_callable=lambda: 3)
