# rule: what follows a setup directly must have all_success
# refused: ValueError or must be all_success
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("refused_setup_rule", schedule=None):
    made = EmptyOperator(task_id="made").as_setup()
    made >> EmptyOperator(task_id="work", trigger_rule="all_done")
