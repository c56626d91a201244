# rule: what BashOperator returns, and how its exit code counts
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

with DAG("bash", schedule=None):
    BashOperator(task_id="last_line", bash_command="echo one; echo two")
    BashOperator(task_id="silent", bash_command="true")
    BashOperator(task_id="no_push", bash_command="echo one", do_xcom_push=False)
    BashOperator(task_id="fails", bash_command="exit 3")
    BashOperator(task_id="pipe", bash_command="false | true")
    BashOperator(task_id="env", bash_command="echo $A$HOME_IS_UNSET", env={"A": "a"})
    BashOperator(task_id="append", bash_command='test -n "$PATH" && echo $A', env={"A": "a"}, append_env=True)
    BashOperator(task_id="processed", bash_command="echo '{\"a\": 1}'", output_processor=__import__("json").loads)
    BashOperator(task_id="stderr", bash_command="echo out; echo err >&2")

    @task.bash
    def decorated(name):
        return "echo hello " + name

    decorated("you")
