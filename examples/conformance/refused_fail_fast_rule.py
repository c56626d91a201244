# rule: fail_fast takes only tasks with all_success
# refused: FailFastDagInvalidTriggerRule
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("refused_fail_fast_rule", schedule=None, fail_fast=True):
    EmptyOperator(task_id="a", trigger_rule="all_done")
