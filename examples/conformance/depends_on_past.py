# rule: depends_on_past holds a task back while it has not ended well in the run before
# run: {"logical_date": "2024-01-01T00:00:00Z", "conf": {"fail": false}}
# run: {"logical_date": "2024-01-02T00:00:00Z", "conf": {"fail": true}}
# run: {"logical_date": "2024-01-03T00:00:00Z", "conf": {"fail": false}, "until": {"beside": "success"}}
from airflow.sdk import dag, task


@dag(schedule=None)
def depends_on_past():
    @task(depends_on_past=True)
    def chained(dag_run=None):
        if dag_run.conf["fail"]:
            raise ValueError("as planned")
        return "done"

    @task
    def below():
        return "below"

    @task
    def beside():
        return "beside"

    chained() >> below()
    beside()


depends_on_past()
