"""Calls a running server through the genuine apache-airflow-client: check.py URL TOKEN.

The client checks every answer against its own models, so an answer of another shape is an exception here.
"""

import datetime
import sys
import time

from airflow_client import client
from airflow_client.client import api, models
from airflow_client.client.exceptions import ApiException, NotFoundException


def until(what, call, good, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        value = call()
        if good(value):
            return value
        assert time.monotonic() < deadline, "%s: still %r" % (what, value)
        time.sleep(0.1)


def status_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as refused:
        return refused.status
    return 200


def dags(c):
    dag_api = api.DAGApi(c)
    until("the DAG", lambda: dag_api.get_dags().total_entries, lambda n: n == 4)
    dag = dag_api.get_dags(tags=["ml"]).dags[0]
    assert dag.dag_id == "etl" and dag.is_paused and dag.timetable_summary == "0 2 * * *", dag
    details = dag_api.get_dag_details("etl")
    assert details.params["depth"]["value"] == 3 and details.latest_dag_version.version_number == 1
    assert not dag_api.patch_dag("etl", models.DAGPatchBody(is_paused=False)).is_paused
    assert [t.task_id for t in api.TaskApi(c).get_tasks("etl").tasks] == ["double", "fail", "get"]
    assert api.TaskApi(c).get_task("etl", "fail").retries == 1
    assert api.DagVersionApi(c).get_dag_versions("etl").total_entries == 1
    assert "def etl" in api.DagSourceApi(c).get_dag_source("etl", accept="application/json").content
    assert dag_api.get_dag_tags().tags == ["ml"]
    broken = until("the import error", lambda: api.ImportErrorApi(c).get_import_errors().import_errors, bool)[0]
    assert broken.filename == "broken.py" and "nothing_like_this" in broken.stack_trace, broken
    assert status_of(dag_api.get_dag, "nope") == 404


def run(c):
    runs = api.DagRunApi(c)
    when = datetime.datetime(2024, 2, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    made = runs.trigger_dag_run("etl", models.TriggerDAGRunPostBody(dag_run_id="mine", logical_date=when, conf={"depth": 4}))
    assert made.dag_run_id == "mine" and made.logical_date == when and made.conf["depth"] == 4
    again = models.TriggerDAGRunPostBody(dag_run_id="mine", logical_date=None)
    assert status_of(runs.trigger_dag_run, "etl", again) == 409
    done = until("the run", lambda: runs.get_dag_run("etl", "mine").state, lambda s: s in ("failed", "success"))
    assert done == "failed", done
    listed = runs.get_dag_runs("~", state=["failed"], order_by=["-run_after"])
    assert any(one.dag_run_id == "mine" for one in listed.dag_runs)
    assert runs.get_list_dag_runs_batch("~", models.DAGRunsBatchBody(states=["failed"])).total_entries >= 1
    assert runs.patch_dag_run("etl", "mine", models.DAGRunPatchBody(note="seen")).note == "seen"


def instances(c):
    tis = api.TaskInstanceApi(c)
    by_name = {(ti.task_id, ti.map_index): ti for ti in tis.get_task_instances("etl", "mine").task_instances}
    assert {k: v.state for k, v in by_name.items()} == {
        ("get", -1): "success",
        ("fail", -1): "failed",
        ("double", 0): "success",
        ("double", 1): "success",
    }, by_name
    assert tis.get_task_instance("etl", "mine", "fail").try_number == 2
    assert tis.get_mapped_task_instance("etl", "mine", "double", 1).map_index == 1
    assert tis.get_mapped_task_instances("etl", "mine", "double").total_entries == 2
    assert [t.try_number for t in tis.get_task_instance_tries("etl", "mine", "fail").task_instances] == [1, 2]
    assert tis.get_task_instance_dependencies("etl", "mine", "fail").dependencies == []
    log = tis.get_log("etl", "mine", "get", 1, full_content=True, accept="application/json")
    assert any(line.event == "got it" for line in log.content.actual_instance), log
    cleared = tis.post_clear_task_instances("etl", models.ClearTaskInstancesBody(dag_run_id="mine", dry_run=True))
    assert cleared.total_entries >= 1
    assert status_of(tis.get_task_instance, "etl", "mine", "nope") == 404
    marked = tis.patch_task_instance("etl", "mine", "fail", models.PatchTaskInstanceBody(new_state="success"))
    assert marked.task_instances[0].state == "success"
    good = models.TaskInstancesBatchBody(state=["success"])
    assert tis.get_task_instances_batch("~", "~", good).total_entries >= 3


def xcoms(c):
    x, ti = api.XComApi(c), {"dag_id": "etl", "dag_run_id": "mine", "task_id": "get"}
    assert [e.key for e in x.get_xcom_entries(**ti).xcom_entries] == ["return_value"]
    value = x.get_xcom_entry(xcom_key="return_value", **ti).actual_instance.value
    assert value == {"f1": 0.92, "who": "it's me"}, value
    text = x.get_xcom_entry(xcom_key="return_value", stringify=True, **ti).actual_instance.value
    assert text == repr(value), text
    x.create_xcom_entry(x_com_create_body=models.XComCreateBody(key="k", value=[1, 2]), **ti)
    x.update_xcom_entry(xcom_key="k", x_com_update_body=models.XComUpdateBody(value=3), **ti)
    assert x.get_xcom_entry(xcom_key="k", **ti).actual_instance.value == 3
    x.delete_xcom_entry(xcom_key="k", **ti)


def administration(c):
    v = api.VariableApi(c)
    v.post_variable(models.VariableBody(key="a", value="1"))
    assert v.get_variable("a").value == "1" and v.get_variables().total_entries == 1
    v.patch_variable("a", models.VariableBody(key="a", value="2"))
    v.delete_variable("a")
    cn = api.ConnectionApi(c)
    wanted = models.ConnectionBody(connection_id="pg", conn_type="postgres", password="hush", extra='{"token": "t"}')
    made = cn.post_connection(wanted)
    assert made.password == "***" and made.extra == '{"token":"***"}', made
    cn.delete_connection("pg")
    p = api.PoolApi(c)
    assert p.post_pool(models.PoolBody(name="gpu", slots=2)).open_slots == 2
    assert p.patch_pool("gpu", models.PoolPatchBody(pool="gpu", slots=3, include_deferred=False)).slots == 3
    p.delete_pool("gpu")
    assert p.get_pools().pools[0].name == "default_pool"
    assert api.EventLogApi(c).get_event_logs(dag_id="etl").total_entries > 0
    assert api.DagStatsApi(c).get_dag_stats(dag_ids=["etl"]).dags[0].dag_id == "etl"
    assert status_of(api.ConfigApi(c).get_config) == 403


def assets(c):
    asset_api, runs = api.AssetApi(c), api.DagRunApi(c)
    by_name = until("the assets", lambda: {a.name: a for a in asset_api.get_assets(order_by=["name"]).assets}, len)
    raw = by_name["raw"]
    assert raw.uri == "s3://raw" and raw.group == "lake" and raw.extra == {"owner": "me"}, raw
    assert raw.producing_tasks[0].task_id == "make" and raw.scheduled_dags[0].dag_id == "reader", raw
    assert asset_api.get_asset(raw.id).consuming_tasks[0].dag_id == "reader"
    assert asset_api.get_asset_aliases(name_pattern="found%").asset_aliases[0].name == "found"
    assert status_of(asset_api.get_asset, 999) == 404
    event = asset_api.create_asset_event(models.CreateAssetEventsBody(asset_id=raw.id, extra={"n": 1}))
    assert event.extra == {"n": 1, "from_rest_api": True} and event.source_map_index == -1, event
    assert asset_api.get_asset_queued_events(raw.id).queued_events[0].dag_id == "reader"
    assert asset_api.get_dag_asset_queued_event("reader", raw.id).asset_id == raw.id
    asset_api.delete_dag_asset_queued_events("reader")
    assert asset_api.get_dag_asset_queued_events("reader").total_entries == 0
    assert status_of(asset_api.delete_asset_queued_events, raw.id) == 404
    made = asset_api.materialize_asset(raw.id)
    assert made.dag_id == "maker" and made.run_type == "asset_materialization", made
    asset_api.create_asset_event(models.CreateAssetEventsBody(asset_id=by_name["other"].id))
    read = until("the reader", lambda: runs.get_dag_runs("reader").dag_runs, len)[0]
    assert read.run_type == "asset_triggered" and read.logical_date is None, read
    consumed = asset_api_events(c, read)
    assert sorted(e.name for e in consumed) == ["other", "raw", "raw"], consumed
    assert consumed[-1].created_dagruns[0].run_id == read.dag_run_id
    assert asset_api.get_asset_events(source_dag_id="maker").asset_events[0].source_run_id == made.dag_run_id
    assert status_of(asset_api.materialize_asset, by_name["other"].id) == 404


def asset_api_events(c, run):
    return api.DagRunApi(c).get_upstream_asset_events(run.dag_id, run.dag_run_id).asset_events


def backfills(c):
    b = api.BackfillApi(c)
    first, last = (datetime.datetime(2024, 3, n, tzinfo=datetime.timezone.utc) for n in (1, 4))
    body = models.BackfillPostBody(dag_id="reader", from_date=first, to_date=last)
    assert status_of(b.create_backfill, body) == 422
    body = models.BackfillPostBody(
        dag_id="daily", from_date=first, to_date=last, max_active_runs=1, run_backwards=True, dag_run_conf={"x": 1}
    )
    assert [d.logical_date.day for d in b.create_backfill_dry_run(body).backfills] == [4, 3, 2, 1]
    made = b.create_backfill(body)
    assert made.reprocess_behavior == "none" and made.dag_run_conf == {"x": 1} and not made.is_paused, made
    assert status_of(b.create_backfill, body) == 409
    assert b.pause_backfill(made.id).is_paused and not b.unpause_backfill(made.id).is_paused
    until("the backfill", lambda: b.get_backfill(made.id).completed_at, bool)
    runs = api.DagRunApi(c).get_dag_runs("daily", run_type=["backfill"]).dag_runs
    assert len(runs) == 4 and all(r.state == "success" and r.conf == {"x": 1} for r in runs), runs
    assert b.list_backfills("daily").backfills[0].id == made.id
    assert status_of(b.cancel_backfill, made.id) == 409 and status_of(b.get_backfill, 99) == 404
    again = models.BackfillPostBody(dag_id="daily", from_date=first, to_date=last, reprocess_behavior="completed")
    cancelled = b.create_backfill(again)
    assert b.cancel_backfill(cancelled.id).completed_at


def main(url, token):
    configuration = client.Configuration(host=url)
    with client.ApiClient(configuration) as nobody:
        assert api.MonitorApi(nobody).get_health().metadatabase.status == "healthy"
        assert api.VersionApi(nobody).get_version().version
        assert status_of(api.DAGApi(nobody).get_dags) == 401
    configuration.access_token = token
    with client.ApiClient(configuration) as c:
        for step in (dags, run, instances, xcoms, administration, assets, backfills):
            step(c)
            print("ok:", step.__name__)


assert issubclass(NotFoundException, ApiException)
main(*sys.argv[1:])
