# rule: TriggerDagRunOperator starts a run of another DAG and may wait for its end
# run: {"conf": {"depth": 1}}
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task

with DAG("trigger_dag_run", schedule=None):

    @task.short_circuit
    def outermost(dag_run=None):
        return dag_run.conf["depth"] == 1

    @task
    def conf(dag_run=None):
        return dag_run.conf

    conf()
    outermost() >> TriggerDagRunOperator(task_id="trigger", trigger_dag_id="trigger_dag_run", trigger_run_id="inner",
                                         conf={"depth": 2}, wait_for_completion=True, poke_interval=1)
