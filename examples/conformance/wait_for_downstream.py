# rule: wait_for_downstream also waits for what is directly below the task in the run before
# run: {"logical_date": "2024-01-01T00:00:00Z", "conf": {"fail": true}}
# run: {"logical_date": "2024-01-02T00:00:00Z", "conf": {"fail": false}, "until": {"beside": "success"}}
from airflow.sdk import dag, task


@dag(schedule=None)
def wait_for_downstream():
    @task(wait_for_downstream=True)
    def first():
        return 1

    @task
    def below(value, dag_run=None):
        if dag_run.conf["fail"]:
            raise ValueError("as planned")
        return value

    @task
    def beside():
        return "beside"

    below(first())
    beside()


wait_for_downstream()
