# rule: which callbacks run when a task succeeds, fails, is tried again or is skipped
# notes: 10
import datetime

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from conformance_notes import note


def say(kind):
    def callback(context):
        fault = context.get("exception")
        note("callbacks", "%s %s try %d %s" % (kind, context["ti"].task_id, context["ti"].try_number,
                                               type(fault).__name__ if fault else "-"))
    return callback


every = {"on_execute_callback": say("execute"), "on_success_callback": say("success"), "on_failure_callback": say("failure"),
         "on_retry_callback": say("retry"), "on_skipped_callback": say("skipped")}


@dag(schedule=None, default_args={**every, "retry_delay": datetime.timedelta(seconds=0.1)})
def callbacks():
    @task
    def good():
        return 1

    @task
    def bad():
        raise ValueError("as planned")

    @task(retries=1)
    def again():
        raise KeyError("as planned")

    @task
    def skipped():
        raise AirflowSkipException("as planned")

    @task(trigger_rule="all_success")
    def never():
        return 1

    never() << bad()
    good()
    again()
    skipped()


callbacks()
