# rule: one key of a mapped task's several outputs
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_multiple_outputs():
    @task(multiple_outputs=True)
    def split(n):
        return {"half": n / 2, "double": n * 2}

    @task
    def gather(values):
        return list(values)

    gather(split.expand(n=[2, 4])["half"])


mapped_multiple_outputs()
