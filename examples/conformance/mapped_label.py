# rule: map_index_template names the instances
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, get_current_context, task


@dag(schedule=None)
def mapped_label():
    @task(map_index_template="{{ label }}")
    def work(name):
        get_current_context()["label"] = "work on " + name
        return name

    work.expand(name=["a", "b"])
    BashOperator.partial(task_id="bash", map_index_template="{{ task.bash_command }}").expand(bash_command=["echo 1", "echo 2"])


mapped_label()
