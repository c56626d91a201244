# rule: the import paths of Airflow 2
from datetime import datetime, timedelta

from airflow import DAG
from airflow.decorators import task
from airflow.models.baseoperator import chain
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.utils.task_group import TaskGroup
from airflow.utils.trigger_rule import TriggerRule

with DAG("airflow2_spelling", start_date=datetime(2024, 1, 1), schedule=None, catchup=False,
         default_args={"owner": "me", "retries": 0, "retry_delay": timedelta(minutes=1)}) as dag:
    with TaskGroup("box") as box:
        python = PythonOperator(task_id="python", python_callable=lambda: 1)
    bash = BashOperator(task_id="bash", bash_command="echo hello")
    chain(box, bash, EmptyOperator(task_id="end", trigger_rule=TriggerRule.ALL_DONE))
