# rule: nested groups prefix the ids of their tasks, and arrows between groups join roots and leaves
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup

with DAG("group_nested", schedule=None):
    with TaskGroup("outer") as outer:
        first = EmptyOperator(task_id="first")
        with TaskGroup("inner") as inner:
            a, b = EmptyOperator(task_id="a"), EmptyOperator(task_id="b")
        first >> inner
    with TaskGroup("other") as other:
        EmptyOperator(task_id="c")
        EmptyOperator(task_id="d")
    outer >> other >> EmptyOperator(task_id="last")
