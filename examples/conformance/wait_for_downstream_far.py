# rule: wait_for_downstream does not look further than one step
# run: {"logical_date": "2024-01-01T00:00:00Z", "conf": {"fail": true}}
# run: {"logical_date": "2024-01-02T00:00:00Z", "conf": {"fail": false}}
from airflow.sdk import dag, task


@dag(schedule=None)
def wait_for_downstream_far():
    @task(wait_for_downstream=True)
    def first():
        return 1

    @task
    def second(value):
        return value

    @task
    def third(value, dag_run=None):
        if dag_run.conf["fail"]:
            raise ValueError("as planned")
        return value

    third(second(first()))


wait_for_downstream_far()
