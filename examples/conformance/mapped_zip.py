# rule: .zip pairs elements, the shortest decides; fillvalue makes the longest decide
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_zip():
    @task
    def letters():
        return ["a", "b", "c"]

    @task
    def numbers():
        return [1, 2]

    @task
    def show(pair):
        return list(pair)

    show.override(task_id="shortest").expand(pair=letters().zip(numbers()))
    show.override(task_id="longest").expand(pair=letters().zip(numbers(), fillvalue="none"))


mapped_zip()
