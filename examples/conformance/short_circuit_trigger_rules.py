# rule: with ignore_downstream_trigger_rules=False only what is directly below is skipped, then the rules decide
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def short_circuit_trigger_rules():
    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def stop():
        return []

    stop() >> EmptyOperator(task_id="below") >> [
        EmptyOperator(task_id="by_default"), EmptyOperator(task_id="all_done", trigger_rule="all_done")]


short_circuit_trigger_rules()
