# rule: prefix_group_id=False leaves the ids of tasks and inner groups as they are
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup

with DAG("group_prefix_off", schedule=None):
    with TaskGroup("outer", prefix_group_id=False):
        EmptyOperator(task_id="plain")
        with TaskGroup("inner"):
            EmptyOperator(task_id="prefixed")
        with TaskGroup("bare", prefix_group_id=False):
            EmptyOperator(task_id="also_plain")
