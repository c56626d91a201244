# rule: max_consecutive_failed_dag_runs pauses the DAG after so many failed runs in a row
# run: {"logical_date": "2024-01-01T00:00:00Z", "conf": {"fail": true}}
# run: {"logical_date": "2024-01-02T00:00:00Z", "conf": {"fail": false}}
# run: {"logical_date": "2024-01-03T00:00:00Z", "conf": {"fail": true}}
# run: {"logical_date": "2024-01-04T00:00:00Z", "conf": {"fail": true}}
from airflow.sdk import dag, task


@dag(schedule=None, max_consecutive_failed_dag_runs=2)
def max_consecutive_failed():
    @task
    def work(dag_run=None):
        if dag_run.conf["fail"]:
            raise ValueError("as planned")

    work()


max_consecutive_failed()
