"""The names the two pipelines use without defining them.

The pipelines are kept as they were written; what they take for granted stands here, as a team would have it in a helper
module beside its DAG files.
"""

import logging
import os

log = logging.getLogger(__name__)

#: The MLflow experiment that train.py writes to and the quality gate reads from. train.py makes sure they are the same.
EXPERIMENT_ID = os.environ.get("FRAUD_EXPERIMENT_ID", "1")


def notify_on_slack(context):
    """Say in one message which task failed, in which run, and why.

    With the environment variable SLACK_WEBHOOK_URL the message is posted there; without it, it is only logged, so that
    the example runs on a machine without a network.
    """
    ti = context["ti"]
    text = (
        f":red_circle: {ti.dag_id}.{ti.task_id} failed on try {ti.try_number} "
        f"of run {context['run_id']}: {context.get('exception')}"
    )
    url = os.environ.get("SLACK_WEBHOOK_URL")
    if url:
        _post(url, text)
    log.warning("Slack%s: %s", "" if url else " (no SLACK_WEBHOOK_URL set, logged only)", text)


def _post(url, text):
    import json
    import urllib.request

    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def promote_to_staging(run_id):
    """Say which model would be promoted; ml_pipeline's run id is made up, so there is nothing real to move."""
    log.info("promoting the model of tracking run %s to Staging", run_id)
