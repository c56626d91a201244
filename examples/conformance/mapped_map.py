# rule: .map applies functions to every element; one that raises AirflowSkipException skips that instance
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


def not_odd(n):
    if n % 2:
        raise AirflowSkipException("odd")
    return n


@dag(schedule=None)
def mapped_map():
    @task
    def numbers():
        return [1, 2, 3, 4]

    @task
    def show(n):
        return n

    found = numbers()
    show.override(task_id="twice").expand(n=found.map(lambda n: n * 10).map(lambda n: str(n)))
    show.override(task_id="even").expand(n=found.map(not_odd))


mapped_map()
