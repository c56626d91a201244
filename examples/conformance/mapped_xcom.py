# rule: expand over what a task returned: a list, a dict (its pairs)
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_xcom():
    @task
    def listing():
        return ["a", "b", "c"]

    @task
    def table():
        return {"x": 1, "y": 2}

    @task
    def show(item):
        return repr(item)

    show.override(task_id="over_list").expand(item=listing())
    show.override(task_id="over_dict").expand(item=table())
    show.override(task_id="over_literal_dict").expand(item={"k": "v", "l": "w"})


mapped_xcom()
