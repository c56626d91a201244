# rule: a false short circuit skips everything below, whatever the trigger rules
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG

with DAG("short_circuit", schedule=None):
    stop = ShortCircuitOperator(task_id="stop", python_callable=lambda: False)
    go = ShortCircuitOperator(task_id="go", python_callable=lambda: "yes")
    join = EmptyOperator(task_id="join", trigger_rule="all_done")
    stop >> EmptyOperator(task_id="below") >> join >> EmptyOperator(task_id="last", trigger_rule="all_done")
    go >> EmptyOperator(task_id="free") >> join
