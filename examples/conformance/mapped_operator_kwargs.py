# rule: a classic operator maps with expand and expand_kwargs over what a task returned
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_operator_kwargs():
    @task
    def commands():
        return [{"bash_command": "echo $X", "env": {"X": "one"}}, {"bash_command": "echo two"}]

    @task
    def pairs():
        return [[1, 2], [3, 4]]

    BashOperator.partial(task_id="bash").expand_kwargs(commands())
    PythonOperator.partial(task_id="python", python_callable=lambda a, b: a * b).expand(op_args=pairs())


mapped_operator_kwargs()
