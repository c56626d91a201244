"""The names the document's DAG files use without defining them."""

import os

EXPERIMENT_ID = "1"


def _note(line):
    if os.environ.get("SEED_NOTES"):
        with open(os.environ["SEED_NOTES"], "a") as notes:
            notes.write(line + "\n")


def notify_on_slack(context):
    _note("failed %s: %s" % (context["ti"].task_id, context.get("exception")))


def promote_to_staging(run_id):
    _note("promoted " + run_id)
