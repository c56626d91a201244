# rule: with one slot the heavier task goes first
# pool: conformance_one 1
# order: heavy middle light
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("priority_order", schedule=None):
    gate = PythonOperator(task_id="gate", python_callable=lambda: 1)
    for name, weight in (("light", 1), ("heavy", 100), ("middle", 10)):
        gate >> PythonOperator(task_id=name, python_callable=lambda: None, priority_weight=weight, pool="conformance_one")
