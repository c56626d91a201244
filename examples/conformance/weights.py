# rule: priority weights by the rules downstream, upstream and absolute
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("weights", schedule=None):
    for rule in ("downstream", "upstream", "absolute"):
        a, b, c, d = (EmptyOperator(task_id="%s_%s" % (rule, name), weight_rule=rule, priority_weight=weight)
                      for name, weight in zip("abcd", (1, 2, 3, 4)))
        a >> [b, c] >> d
