# rule: chain pairs lists of one length; cross_downstream and chain_linear join all with all
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, chain, chain_linear, cross_downstream, task

with DAG("chains", schedule=None):

    def make(*names):
        return [EmptyOperator(task_id=name) for name in names]

    chain(*make("a"), make("b", "c"), make("d", "e"), *make("f"))
    cross_downstream(make("g", "h"), make("i", "j"))
    chain_linear(make("k", "l"), make("m", "n"), *make("o"))

    @task(trigger_rule="all_done")
    def edges(dag=None):
        return {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks if one.downstream_task_ids}

    edges()
