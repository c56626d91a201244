# rule: partial gives every instance the same argument, which may be what a task returned
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_partial():
    @task
    def base():
        return 10

    @task
    def add(x, y):
        return x + y

    add.partial(y=base()).expand(x=[1, 2])
    BashOperator.partial(task_id="bash", env={"GREETING": "hello"}).expand(bash_command=["echo $GREETING a", "echo $GREETING b"])


mapped_partial()
