"""What DAG files and tasks do with assets."""

import pytest

from ostro import live
from ostro.assetevents import InletEventsAccessors, OutletEventAccessors, TriggeringAssetEvents
from ostro.assets import Asset, AssetAlias, AssetAll, AssetAny
from ostro.localcomms import LocalComms
from support import attempt, described, load


def event(name="a", **more):
    return dict({"id": 1, "asset": {"name": name, "uri": "s3://" + name, "group": "asset", "extra": {}}, "extra": {"n": 1},
                 "source_dag_id": "p", "source_task_id": "t", "source_run_id": "r", "source_map_index": -1,
                 "source_aliases": [], "timestamp": "2024-01-02T03:04:05Z"}, **more)


@pytest.fixture
def comms(monkeypatch):
    made = LocalComms()
    monkeypatch.setattr(live, "comms", made)
    return made


def test_expressions_nest_and_flatten():
    a, b, c = Asset("a"), Asset("b"), AssetAlias("c")
    both = (a & b) | c
    assert both.expr() == {"any": [{"all": [a.expr(), b.expr()]}, {"alias": "c"}]}
    assert (a & b & Asset("d")).expr()["all"][2]["asset"]["name"] == "d"
    assert AssetAny(a, AssetAll(b, c)).expr()["any"][1] == {"all": [b.expr(), {"alias": "c"}]}
    with pytest.raises(TypeError):
        a & "b"


WATCHED = """
from airflow.sdk import DAG, Asset, AssetWatcher, task
from airflow.providers.standard.triggers.file import FileDeleteTrigger

Q = Asset("q", watchers=[AssetWatcher(name="w", trigger=FileDeleteTrigger(filepath="/in", poke_interval=1.0))])
with DAG("d", schedule=Q | Asset("r")):
    @task(outlets=[Q])
    def one():
        pass
    one()
"""


def test_watchers_are_described_with_the_trigger_that_makes_them(tmp_path):
    loaded = load(tmp_path, WATCHED)
    dag = described(loaded.dags["d"])
    watcher = {"name": "w", "classpath": "airflow.providers.standard.triggers.file.FileDeleteTrigger",
               "kwargs": {"filepath": "/in", "poke_interval": 1.0}}
    assert dag["schedule"]["assets"]["any"][0]["asset"] == {"name": "q", "uri": "q", "group": "asset", "watchers": [watcher]}
    assert dag["tasks"][0]["outlets"][0]["watchers"] == [watcher] and not loaded.warnings


def test_a_watcher_takes_a_trigger_of_events_and_nothing_else():
    from airflow.providers.standard.triggers.file import FileTrigger
    from airflow.sdk import AssetWatcher

    with pytest.raises(ValueError, match="must inherit BaseEventTrigger, unlike FileTrigger"):
        AssetWatcher("w", FileTrigger("/in"))
    with pytest.raises(TypeError, match="takes AssetWatcher"):
        Asset("q", watchers=[object()])


def test_outlet_events_are_found_by_every_reference_to_an_outlet():
    orders = Asset("orders", "s3://orders")
    events = OutletEventAccessors([orders, Asset.ref(uri="s3://other"), AssetAlias("found")])
    events[orders].extra["a"] = 1
    events[Asset.ref(name="orders")].extra["b"] = 2
    events.for_asset(uri="s3://orders").extra["c"] = 3
    events[Asset("x", "s3://other")].extra["d"] = 4
    events[AssetAlias("found")].add(Asset("new", "s3://new", group="g", extra={"owner": "me"}), extra={"e": 5})
    events[orders].add(Asset("ignored"))
    assert events.dump([orders, Asset.ref(uri="s3://other"), AssetAlias("found"), orders]) == [
        {"name": "orders", "uri": "s3://orders", "extra": {"a": 1, "b": 2, "c": 3}},
        {"name": "", "uri": "s3://other", "extra": {"d": 4}},
        {"name": "new", "uri": "s3://new", "extra": {"e": 5}, "alias": "found", "group": "g", "asset_extra": {"owner": "me"}}]
    with pytest.raises(TypeError):
        events[3]


def test_triggering_events_are_found_by_asset_reference_and_alias(comms):
    events = TriggeringAssetEvents([event(), event("b", source_aliases=[{"name": "l"}]), event()])
    assert [len(events[key]) for key in (Asset("a", "s3://a"), Asset.ref(name="b"), AssetAlias("l"))] == [2, 1, 1]
    assert set(events) == {Asset("a", "s3://a"), Asset("b", "s3://b"), AssetAlias("l")}
    first = next(iter(events.values()))[0]
    assert (first.asset.uri, first.extra, first["extra"], first.source_run_id) == ("s3://a", {"n": 1}, {"n": 1}, "r")
    assert first.timestamp.year == 2024
    comms.xcoms["p", "r", "t", -1, "return_value"] = 7
    assert first.source_task_instance.xcom_pull() == 7
    assert first.source_task_instance.xcom_pull(key="k", default="d") == "d"
    with pytest.raises(KeyError):
        events[Asset("nothing")]
    assert events.for_asset_alias("l")[0].asset.name == "b"


def test_inlet_events_are_asked_for_when_they_are_looked_at(comms):
    answered = [event(), event(extra={"n": 2})]
    comms._GetAssetEventByAsset = lambda message: {"asset_events": answered}
    events = InletEventsAccessors([Asset("a", "s3://a"), AssetAlias("l")])
    found = events[Asset.ref(name="a")].after("2024-01-01").limit(5).ascending(False)
    assert not comms.asked
    assert [one.extra["n"] for one in found] == [1, 2] and found[-1].extra == {"n": 2} and len(found) == 2
    assert comms.asked == [{"type": "GetAssetEventByAsset", "name": "a", "uri": "s3://a", "limit": 5, "ascending": False,
                            "after": "2024-01-01T00:00:00Z"}]
    assert list(events[AssetAlias("l")]) == list(events[1]) == []
    with pytest.raises(KeyError):
        events[Asset("other")]


FILE = """
from airflow.sdk import Asset, AssetAlias, asset
from airflow.datasets import Dataset

@asset(schedule="@daily", uri="s3://raw", group="g")
def raw(context, outlet_events, limit=3):
    outlet_events[Asset("raw", "s3://raw")].extra["rows"] = limit

@asset(schedule=raw)
def clean(self, raw):
    return [self.name, raw.uri]

@asset.multi(schedule=raw | Asset("other"), outlets=[Asset("x"), Asset("y")], dag_id="both")
def many(self):
    return len(self.objects)

from airflow.sdk import DAG, task
with DAG("old", schedule=[Dataset("s3://d"), Dataset("s3://e")]) as old:
    task(task_id="t", inlets=[Dataset("s3://d")], outlets=[AssetAlias("l")])(lambda: None)()
"""


def test_asset_functions_become_dags_of_one_task(tmp_path, comms):
    dags = load(tmp_path, FILE).dags
    shown = {dag_id: described(dag) for dag_id, dag in dags.items()}
    assert sorted(shown) == ["both", "clean", "old", "raw"]
    raw = {"name": "raw", "uri": "s3://raw", "group": "g"}
    assert shown["clean"]["schedule"]["assets"] == {"asset": raw}
    one = shown["clean"]["tasks"][0]
    assert (one["task_id"], one["inlets"], one["outlets"][0]["name"]) == ("clean", [{"name": "raw"}], "clean")
    assert [out["name"] for out in shown["both"]["tasks"][0]["outlets"]] == ["x", "y"]
    assert len(shown["old"]["schedule"]["assets"]["all"]) == 2
    for dag_id, task_id, value in (("raw", "raw", None), ("clean", "clean", ["clean", "raw"]), ("both", "many", 2)):
        ended = attempt(dags[dag_id], task_id, comms).terminal
        assert ended["type"] == "SucceedTask", comms.sent
        assert [one["value"] for one in ended.get("xcoms", ())] == ([] if value is None else [value])
    assert comms.of("SucceedTask")[0]["outlet_events"] == [{"name": "raw", "uri": "s3://raw", "extra": {"rows": 3}}]


@pytest.mark.parametrize("text, says", [
    ("def f(*a): pass", "wildcard"), ("def f(**k): pass", "wildcard"), ("def f(x, /): pass", "positional-only")])
def test_functions_that_cannot_be_assets_are_refused(text, says):
    from ostro.assetdecorators import asset

    space = {}
    exec(text, space)
    with pytest.raises(TypeError, match=says):
        asset(schedule=None)(space["f"])


def test_partitions_are_refused_by_name():
    from ostro.exceptions import AirflowException

    events = OutletEventAccessors([Asset("a")])
    with pytest.raises(AirflowException, match="partitions of assets are not built"):
        events[Asset("a")].add_partitions("2024-01-01")
