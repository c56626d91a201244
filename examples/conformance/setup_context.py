# rule: `with setup >> teardown:` puts the tasks inside into the scope
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG


def fail():
    raise ValueError("as planned")


with DAG("setup_context", schedule=None):
    create = PythonOperator(task_id="create", python_callable=lambda: "made")
    delete = PythonOperator(task_id="delete", python_callable=lambda: "gone")
    with delete.as_teardown(setups=create):
        first = PythonOperator(task_id="first", python_callable=fail)
        second = PythonOperator(task_id="second", python_callable=lambda: 2)
        beside = PythonOperator(task_id="beside", python_callable=lambda: 3)
        first >> second
    outside = PythonOperator(task_id="outside", python_callable=lambda: 4)
    beside >> outside
