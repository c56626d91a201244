# rule: a DAG's callbacks run once when the run has ended
# run: {"conf": {"fail": false}}
# run: {"conf": {"fail": true}}
# notes: 2
from airflow.sdk import dag, task
from conformance_notes import note


def say(kind):
    return lambda context: note("callbacks_dag", "%s %s %s" % (kind, context["dag_run"].run_id, context.get("reason")))


@dag(schedule=None, on_success_callback=say("success"), on_failure_callback=[say("failure")])
def callbacks_dag():
    @task
    def work(dag_run=None):
        if dag_run.conf["fail"]:
            raise ValueError("as planned")

    work()


callbacks_dag()
