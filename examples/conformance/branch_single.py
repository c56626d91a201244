# rule: a branch follows the task whose id it returns and skips its other direct downstream tasks
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG

with DAG("branch_single", schedule=None):
    branch = BranchPythonOperator(task_id="branch", python_callable=lambda: "left")
    left, right = EmptyOperator(task_id="left"), EmptyOperator(task_id="right")
    below_right = EmptyOperator(task_id="below_right")
    join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
    strict = EmptyOperator(task_id="strict")
    branch >> [left, right]
    right >> below_right
    [left, below_right] >> join
    [left, right] >> strict
