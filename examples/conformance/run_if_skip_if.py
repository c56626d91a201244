# rule: @task.run_if and @task.skip_if decide by the context before the task runs
# run: {"conf": {"go": true}}
# run: {"conf": {"go": false}}
from airflow.sdk import dag, task


@dag(schedule=None)
def run_if_skip_if():
    def wanted(context):
        return context["dag_run"].conf["go"]

    @task.run_if(wanted, "not wanted")
    @task
    def only_if():
        return "ran"

    @task.skip_if(wanted)
    @task
    def only_unless():
        return "ran"

    @task.run_if(lambda context: (context["dag_run"].conf["go"], "says the pair"))
    @task.bash
    def bash():
        return "echo ran"

    only_if()
    only_unless()
    bash()


run_if_skip_if()
