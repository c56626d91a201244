# rule: labels on edges change nothing about the order
# order: a b c
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Label

with DAG("labels", schedule=None):
    a, b, c = (PythonOperator(task_id=name, python_callable=lambda: None) for name in "abc")
    a >> Label("first") >> b
    b >> Label("then") >> c
