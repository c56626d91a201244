# rule: two tasks of one id are refused
# refused: DuplicateTaskIdFound
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("refused_duplicate_task", schedule=None):
    EmptyOperator(task_id="a")
    EmptyOperator(task_id="a")
