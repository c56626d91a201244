# rule: conf overrides params, and a task's own params override the DAG's
# run: {}
# run: {"conf": {"n": 5, "extra": "new"}}
from airflow.sdk import Param, dag, task


@dag(schedule=None, params={"n": Param(3, type="integer", minimum=0), "s": "text"})
def params():
    @task
    def show(params=None):
        return dict(params)

    show()
    show.override(task_id="own", params={"s": "mine", "t": 1})()


params()
