# rule: always runs at once, whatever happens upstream
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

with DAG("rule_always", schedule=None):

    @task
    def ok():
        pass

    @task
    def bad():
        raise ValueError("as planned")

    @task
    def skipped():
        raise AirflowSkipException("as planned")

    # One after the other, so that no rule depends on who is faster.
    first = [ok(), ok.override(task_id="ok2")(), bad(), bad.override(task_id="bad2")(), skipped(),
             skipped.override(task_id="skipped2")()]
    for before, after in zip(first, first[1:]):
        after.operator.trigger_rule = "all_done"
        before >> after
    upstream = {one.operator.task_id: one for one in first}
    upstream["upstream_failed"] = upstream["bad"] >> EmptyOperator(task_id="upstream_failed")

    for names in ("ok ok2", "ok bad", "ok skipped", "ok upstream_failed", "ok bad skipped", "bad bad2", "bad skipped",
                  "bad upstream_failed", "skipped skipped2", "skipped", "upstream_failed", ""):
        after = EmptyOperator(task_id="after_" + (names.replace(" ", "_and_") or "nothing"), trigger_rule="always")
        [upstream[name] for name in names.split()] >> after
