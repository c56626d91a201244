# rule: AirflowSkipException skips the task, all_success below it is skipped too, and the run succeeds
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException


@dag(schedule=None)
def skip_exception():
    @task(retries=2)
    def skips():
        raise AirflowSkipException("not today")

    @task
    def below(value):
        return value

    @task(trigger_rule="none_failed")
    def tolerant(value):
        return repr(value)

    value = skips()
    below(value)
    tolerant(value)
    BashOperator(task_id="exit_99", bash_command="exit 99")
    BashOperator(task_id="exit_7", bash_command="exit 7", skip_on_exit_code=[7, 8])


skip_exception()
