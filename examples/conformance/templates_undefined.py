# rule: an undefined name in a template fails the task; without a logical date there is no ds
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("templates_undefined", schedule=None):
    BashOperator(task_id="unknown", bash_command="echo {{ no_such_name }}")
    BashOperator(task_id="no_date", bash_command="echo {{ ds }}")
    BashOperator(task_id="conf", bash_command="echo {{ dag_run.conf.get('x', 'unset') }}")
