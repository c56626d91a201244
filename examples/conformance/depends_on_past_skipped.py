# rule: a task that was skipped in the run before does not hold depends_on_past back
# run: {"logical_date": "2024-01-01T00:00:00Z", "conf": {"skip": true}}
# run: {"logical_date": "2024-01-02T00:00:00Z", "conf": {"skip": false}}
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def depends_on_past_skipped():
    @task(depends_on_past=True)
    def chained(dag_run=None):
        if dag_run.conf["skip"]:
            raise AirflowSkipException("as planned")
        return "done"

    chained()


depends_on_past_skipped()
