"""TaskFlow as teams write it: several outputs, overrides, groups, bash, branches, mapping, setup and teardown."""

from datetime import datetime, timedelta
from typing import Dict

from airflow.decorators import dag, setup, task, task_group, teardown
from airflow.exceptions import AirflowSkipException
from airflow.models.baseoperator import chain, cross_downstream
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import get_current_context
from airflow.utils.edgemodifier import Label

LOG = []


@dag(schedule="@hourly", start_date=datetime(2024, 1, 1), catchup=False, max_active_runs=1, tags=["taskflow"],
     default_args={"retries": 1, "retry_delay": timedelta(seconds=1)})
def taskflow_features(threshold: float = 0.5):
    @task(multiple_outputs=True)
    def split() -> Dict[str, int]:
        return {"train": 8, "test": 2}

    @task
    def show(n, ds=None, **context):
        LOG.append((get_current_context()["ti"].task_id, n, ds, context["params"]["threshold"]))
        return n

    parts = split()
    train = show.override(task_id="show_train", retries=0)(parts["train"])
    test = show(parts["test"])

    @task.bash
    def shell(n):
        return "echo rows=%d {{ ds_nodash }}" % n

    @task.branch
    def choose(limit, params=None):
        return ["small", "notify"] if params["threshold"] < limit else "big"

    small, big, notify = (EmptyOperator(task_id=name) for name in ("small", "big", "notify"))
    chosen = choose(0.9)
    chosen >> Label("below") >> small
    chosen >> Label("above") >> big
    chosen >> notify

    @task.short_circuit
    def enough(n):
        return n > 5

    after, later = EmptyOperator(task_id="after"), EmptyOperator(task_id="later", trigger_rule="all_done")
    chain(enough(parts["test"]), after, later)

    @task
    def fetch(region, table):
        if table == "none":
            raise AirflowSkipException("nothing there")
        return region + "." + table

    @task
    def collect(values):
        LOG.append(("collect", sorted(values)))

    @task_group(group_id="per_region")
    def per_region(region):
        @task
        def clean(region):
            return region.upper()

        return clean(region)

    fetched = fetch.partial(region="eu").expand(table=["orders", "items", "none"])
    collect(fetched)
    collect.override(task_id="collect_regions")(per_region.expand(region=["eu", "us"]))

    @setup
    def cluster():
        return "cluster-1"

    @teardown
    def drop(name):
        LOG.append(("drop", name))

    @task
    def work():
        raise RuntimeError("out of memory")

    name = cluster()
    with drop(name):
        work()

    shell(train) >> EmptyOperator(task_id="end", trigger_rule="none_failed")
    cross_downstream([train, test], [EmptyOperator(task_id="x1"), EmptyOperator(task_id="x2")])


taskflow_features()
