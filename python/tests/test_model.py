"""What an author can declare, and how mistakes are told."""

import datetime
from datetime import timedelta

import pytest

from airflow import DAG
from airflow.decorators import dag as dag_decorator
from airflow.decorators import setup, task, task_group, teardown
from airflow.exceptions import AirflowDagCycleException, AirflowException, DuplicateTaskIdFound
from airflow.models.baseoperator import BaseOperator, chain, chain_linear, cross_downstream
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.sdk import Asset, AssetAlias, Param
from airflow.utils.edgemodifier import Label
from airflow.utils.task_group import TaskGroup
from airflow.utils.trigger_rule import TriggerRule
from support import START, described, task_of


def upstream(dag):
    return {one["task_id"]: one.get("upstream", []) for one in described(dag)["tasks"]}


def test_an_unknown_dag_argument_names_the_nearest():
    with pytest.raises(TypeError, match=r"DAG\('d'\) got an unexpected argument 'schedul' \(did you mean 'schedule'\?\)"):
        DAG("d", schedul="@daily")


def test_a_group_that_does_not_prefix_leaves_out_those_around_it_too():
    with DAG("d", schedule=None, start_date=START) as flow:
        with TaskGroup("a"):
            EmptyOperator(task_id="w")
            with TaskGroup("b", prefix_group_id=False) as inner:
                EmptyOperator(task_id="x")
                with TaskGroup("c"):
                    EmptyOperator(task_id="y")
    assert flow.task_ids == ["a.w", "x", "c.y"]
    assert inner.group_id == "a.b"


def test_a_dag_has_a_task_decorator_of_its_own():
    flow = DAG("d", schedule=None, start_date=START)

    @flow.task
    def one():
        return 1

    @flow.task(task_id="second", retries=2)
    def two(number):
        return number + 1

    two(one())
    assert upstream(flow) == {"one": [], "second": ["one"]}
    assert flow.get_task("second").retries == 2


def test_an_unknown_task_argument_names_the_nearest():
    with DAG("d"), pytest.raises(TypeError, match=r"'retires' \(did you mean 'retries'\?\)"):
        EmptyOperator(task_id="a", retires=3)


def test_an_unknown_argument_of_a_subclass_names_the_nearest():
    with DAG("d"), pytest.raises(TypeError, match=r"'bash_comand' \(did you mean 'bash_command'\?\)"):
        BashOperator(task_id="a", bash_comand="x")


def test_airflow_2_arguments_are_accepted_with_a_warning():
    from ostro import settings

    dag = DAG("d", schedule_interval="@daily", concurrency=3, default_view="graph", orientation="LR",
              sla_miss_callback=print, fail_stop=True)
    assert (dag.max_active_tasks, dag.fail_fast, described(dag)["schedule"]["expression"]) == (3, True, "@daily")
    assert [text.split(": ", 1)[1] for text in settings.warnings] == [
        "default_view= of DAG 'd' has no effect: views were removed in Airflow 3",
        "orientation= of DAG 'd' has no effect: the graph's direction is chosen in the UI",
        "sla_miss_callback= of DAG 'd' has no effect: SLAs were removed from Airflow 3; use deadline=",
    ]


def test_two_schedules_are_refused():
    with pytest.raises(ValueError, match="at most one of schedule"):
        DAG("d", schedule="@daily", schedule_interval="@hourly")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 251])
def test_a_bad_dag_id_is_refused(name):
    with pytest.raises(AirflowException):
        DAG(name)


def test_default_args_merge_from_the_dag_over_groups_to_the_task():
    with DAG("d", default_args={"owner": "dag", "retries": 1, "pool": "p", "unknown": 1}) as dag, \
            TaskGroup("g", default_args={"retries": 2, "queue": "q"}):
        EmptyOperator(task_id="a")
        EmptyOperator(task_id="b", retries=4, default_args={"pool": "own", "retries": 3})
    a, b = task_of(dag, "g.a"), task_of(dag, "g.b")
    assert (a["owner"], a["retries"], a["pool"], a["queue"]) == ("dag", 2, "p", "q")
    assert (b["retries"], b["pool"]) == (4, "own")


def test_default_args_reach_the_arguments_of_a_subclass():
    class Mine(BaseOperator):
        def __init__(self, *, bucket, **kwargs):
            super().__init__(**kwargs)
            self.bucket = bucket

    with DAG("d", default_args={"bucket": "b"}):
        assert Mine(task_id="a").bucket == "b"
    with DAG("e"), pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'bucket'"):
        Mine(task_id="a")


def test_every_base_argument_reaches_the_description():
    with DAG("d", start_date=START) as dag:
        EmptyOperator(
            task_id="a", owner="me", retries=2, retry_delay=timedelta(seconds=90), retry_exponential_backoff=True,
            max_retry_delay=timedelta(hours=1), depends_on_past=True, wait_for_downstream=True, priority_weight=5,
            weight_rule="upstream", queue="q", pool="p", pool_slots=2, execution_timeout=timedelta(minutes=1),
            trigger_rule="none_failed_or_skipped", max_active_tis_per_dag=3, max_active_tis_per_dagrun=2,
            executor="local", executor_config={"isolation": "spawn"}, do_xcom_push=False, inlets=Asset("in"),
            outlets=[Asset("s3://b/k")], doc_md="words", task_display_name="A task",
            on_failure_callback=[print, print], params={"x": Param(3, type="integer", minimum=1)},
            resources={"cpu": 2, "memory": "1Gi", "gpu": 1}, start_date=datetime.datetime(2024, 2, 1))
    assert task_of(dag, "a") == {
        "task_id": "a", "operator": "EmptyOperator", "operator_name": "EmptyOperator", "label": "a",
        "module": "airflow.providers.standard.operators.empty", "task_display_name": "A task", "owner": "me",
        "retries": 2, "retry_delay": 90, "retry_exponential_backoff": 2, "max_retry_delay": 3600,
        "depends_on_past": True, "wait_for_downstream": True, "priority_weight": 5, "weight_rule": "upstream",
        "queue": "q", "pool": "p", "pool_slots": 2, "execution_timeout": 60,
        "trigger_rule": "none_failed_min_one_success", "max_active_tis_per_dag": 3, "max_active_tis_per_dagrun": 2,
        "executor": "local", "executor_config": {"isolation": "spawn"}, "isolation": "spawn",
        "inlets": [{"name": "in", "uri": "in", "group": "asset"}],
        "outlets": [{"name": "s3://b/k", "uri": "s3://b/k", "group": "asset"}], "doc_md": "words",
        "callbacks": {"on_failure": True}, "params": {"x": {"value": 3, "schema": {"type": "integer", "minimum": 1}}},
        "resources": {"cpu": 2, "memory": 1 << 30, "gpus": 1}, "start_date": "2024-02-01T00:00:00Z",
        "ui_color": "#e8f7e4", "ui_fgcolor": "#000",
    }


def test_an_empty_task_needs_no_process_unless_something_runs_with_it():
    with DAG("d") as dag:
        EmptyOperator(task_id="plain")
        EmptyOperator(task_id="told", on_success_callback=print)
        EmptyOperator(task_id="asset", outlets=[Asset("x")])
    assert [task.get("kind") for task in described(dag)["tasks"]] == ["empty", None, None]


@pytest.mark.parametrize("wrong, words", [
    ({"retries": "many"}, "retries of task 'a' must be a whole number"),
    ({"trigger_rule": "sometimes"}, "trigger rule must be one of"),
    ({"weight_rule": "sideways"}, "weight rule must be"),
    ({"pool_slots": 0}, "pool_slots of task 'a'"),
    ({"execution_timeout": 30}, "execution_timeout of task 'a' must be a timedelta"),
    ({"retry_delay": "soon"}, "retry_delay of task 'a'"),
])
def test_a_wrong_value_is_told_with_the_task(wrong, words):
    with DAG("d"), pytest.raises((AirflowException, ValueError, TypeError), match=words):
        EmptyOperator(task_id="a", **wrong)


def test_arrows_lists_chains_and_crosses():
    with DAG("d") as dag:
        a, b, c, e, f, g, h = (EmptyOperator(task_id=name) for name in "abcefgh")
        a >> [b, c] >> e
        f << e
        cross_downstream([f], [g, h])
    assert upstream(dag) == {"a": [], "b": ["a"], "c": ["a"], "e": ["b", "c"], "f": ["e"], "g": ["f"], "h": ["f"]}


def test_chain_pairs_lists_and_chain_linear_crosses_them():
    with DAG("d") as dag:
        a, b, c, e = (EmptyOperator(task_id=name) for name in "abce")
        chain([a, b], [c, e])
    assert upstream(dag) == {"a": [], "b": [], "c": ["a"], "e": ["b"]}
    with DAG("d2") as dag:
        a, b, c, e = (EmptyOperator(task_id=name) for name in "abce")
        chain_linear([a, b], [c, e])
    assert upstream(dag) == {"a": [], "b": [], "c": ["a", "b"], "e": ["a", "b"]}
    with DAG("d3"), pytest.raises(ValueError, match="different length"):
        a, b, c = (EmptyOperator(task_id=name) for name in "abc")
        chain([a, b], [c])


def test_a_label_stands_on_its_edge():
    with DAG("d") as dag:
        a, b, c = (EmptyOperator(task_id=name) for name in "abc")
        a >> Label("new") >> b
        [a, b] >> Label("all") >> c
    assert described(dag)["edge_labels"] == [
        {"from": "a", "to": "b", "label": "new"}, {"from": "a", "to": "c", "label": "all"},
        {"from": "b", "to": "c", "label": "all"}]


def test_a_circle_is_told_as_a_path():
    with DAG("d") as dag:
        a, b, c = (EmptyOperator(task_id=name) for name in "abc")
        a >> b >> c >> a
    with pytest.raises(AirflowDagCycleException, match="a → b → c → a"):
        described(dag)


def test_a_chain_longer_than_pythons_stack_is_sorted():
    with DAG("d") as dag:
        chain(*(EmptyOperator(task_id="t%d" % number) for number in range(3000)))
    assert [task.task_id for task in dag.topological_sort()] == ["t%d" % number for number in range(3000)]


def test_two_tasks_with_one_id_are_refused():
    with DAG("d"), pytest.raises(DuplicateTaskIdFound, match="task id 'a' has already been added to the DAG 'd'"):
        EmptyOperator(task_id="a")
        EmptyOperator(task_id="a")


def test_tasks_of_different_dags_cannot_be_linked():
    with DAG("d"):
        a = EmptyOperator(task_id="a")
    with DAG("e"), pytest.raises(RuntimeError, match="'a' in DAG 'd' and 'b' in DAG 'e'"):
        a >> EmptyOperator(task_id="b")


def test_groups_prefix_ids_and_stand_for_their_roots_and_leaves():
    with DAG("d") as dag:
        start, end = EmptyOperator(task_id="start"), EmptyOperator(task_id="end")
        with TaskGroup("outer", tooltip="tip") as outer:
            a = EmptyOperator(task_id="a")
            with TaskGroup("inner", prefix_group_id=False):
                b = EmptyOperator(task_id="b")
            a >> b
        start >> outer >> end
    assert upstream(dag) == {"start": [], "end": ["b"], "outer.a": ["start"], "b": ["outer.a"]}
    assert described(dag)["task_groups"] == [
        {"group_id": "outer", "tooltip": "tip"}, {"group_id": "outer.inner", "parent": "outer", "prefix_off": True}]
    assert task_of(dag, "b")["group"] == "outer.inner"


def test_a_decorated_group_gets_a_suffix_when_it_is_called_again():
    @task
    def f(x):
        return x

    @task_group
    def g(x):
        """Twice."""
        return f(x)

    with DAG("d") as dag:
        g(1) >> g(2)
    assert upstream(dag) == {"g.f": [], "g__1.f": ["g.f"]}


def test_a_function_called_twice_becomes_two_tasks():
    @task
    def f():
        pass

    with DAG("d") as dag:
        f()
        f()
        f.override(task_id="other", retries=3)()
    assert list(upstream(dag)) == ["f", "f__1", "other"]
    assert task_of(dag, "other")["retries"] == 3


def test_results_passed_on_become_dependencies_at_any_depth():
    @task
    def make():
        return {"a": 1}

    @task
    def use(x, y=None):
        pass

    with DAG("d") as dag:
        first = make()
        use([{"k": first["a"]}], y=(make(),))
        BashOperator(task_id="bash", bash_command="echo %s" % first, env={"X": first})
    assert upstream(dag) == {"make": [], "make__1": [], "use": ["make", "make__1"], "bash": ["make"]}
    assert task_of(dag, "bash")["fields"]["bash_command"] == (
        "echo {{ task_instance.xcom_pull(task_ids='make', dag_id='d', key='return_value') }}")


def test_a_missing_argument_is_told_at_the_call_but_not_when_the_context_has_it():
    @task
    def f(data, ds, execution_date: str):
        pass

    with DAG("d"):
        f("x")
        with pytest.raises(TypeError, match=r"f\(\) is missing a required argument: 'data'"):
            f()
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'dat' \(did you mean 'data'\?\)"):
            f(dat=1)


def test_multiple_outputs_follow_from_the_annotation():
    from typing import Any, Dict

    def plain():
        pass

    def builtin() -> dict:
        pass

    def generic() -> Dict[str, Any]:
        pass

    def text() -> "dict[str, int]":
        pass

    def other() -> str:
        pass

    with DAG("d") as dag:
        for function in (plain, builtin, generic, text, other):
            task(function)()
        task(multiple_outputs=False)(builtin)()
    assert {one["task_id"]: one.get("multiple_outputs", False) for one in described(dag)["tasks"]} == {
        "plain": False, "builtin": True, "generic": True, "text": True, "other": False, "builtin__1": False}


def test_mapping_is_described_with_its_sources():
    @task
    def numbers():
        return [1, 2]

    @task
    def add(x, y, z=0):
        return x + y

    with DAG("d") as dag:
        n = numbers()
        add.partial(z=1).expand(x=[1, 2, 3], y=n)
        add.expand_kwargs(n.map(lambda i: {"x": i, "y": i}))
        add.expand_kwargs(n.zip(n, fillvalue=0))
        BashOperator.partial(task_id="bash", retries=2).expand(bash_command=["a", "b"])
        BashOperator.partial(task_id="bash2", retries=2).expand(bash_command=n.concat(n))
    xcom = {"op": "xcom", "task": "numbers", "key": "return_value"}
    assert {one["task_id"]: one.get("mapped") for one in described(dag)["tasks"]} == {
        "numbers": None,
        "add": {"kind": "expand", "args": [{"name": "x", "length": 3}, {"name": "y", "length": -1, "source": xcom}]},
        "add__1": {"kind": "expand_kwargs", "args": [
            {"name": "kwargs", "length": -1, "source": {"op": "map", "args": [xcom]}}]},
        "add__2": {"kind": "expand_kwargs", "args": [
            {"name": "kwargs", "length": -1, "source": {"op": "zip", "args": [xcom, xcom], "fillvalue": True}}]},
        "bash": {"kind": "expand", "args": [{"name": "bash_command", "length": 2}]},
        "bash2": {"kind": "expand", "args": [
            {"name": "bash_command", "length": -1, "source": {"op": "concat", "args": [xcom, xcom]}}]},
    }
    assert task_of(dag, "bash")["operator"] == "BashOperator" and task_of(dag, "bash")["retries"] == 2
    assert upstream(dag)["add"] == ["numbers"]


@pytest.mark.parametrize("wrong, words", [
    (lambda f: f.expand(), "no arguments"),
    (lambda f: f.expand(y=[1]), "unexpected keyword argument 'y'"),
    (lambda f: f.expand(x=3), "expand\\(\\) got an unexpected type 'int'"),
    (lambda f: BashOperator.partial(task_id="b", bash_command="x").expand(bash_command=["y"]), "already"),
    (lambda f: BashOperator.partial(task_id="b").expand(bash_cmd=["y"]), "did you mean 'bash_command'"),
    (lambda f: BashOperator.partial(task_id="b").expand(retries=[1]), "cannot differ"),
])
def test_wrong_mapping_is_told(wrong, words):
    @task
    def f(x):
        pass

    with DAG("d"), pytest.raises((TypeError, ValueError), match=words):
        wrong(f)


def test_setup_and_teardown():
    @setup
    def make():
        pass

    @teardown(on_failure_fail_dagrun=True)
    def drop():
        pass

    with DAG("d") as dag:
        s, t = make(), drop()
        with t:
            EmptyOperator(task_id="work1") >> EmptyOperator(task_id="work2")
        s >> t
        late = EmptyOperator(task_id="late")
        s2 = EmptyOperator(task_id="s2").as_setup()
        t2 = EmptyOperator(task_id="t2").as_teardown(setups=s2)
        s2 >> late >> t2
    drop_, t2_ = task_of(dag, "drop"), task_of(dag, "t2")
    assert (drop_["is_teardown"], drop_["on_failure_fail_dagrun"], drop_["trigger_rule"], drop_["setups"]) == (
        True, True, "all_done_setup_success", ["make"])
    assert task_of(dag, "make")["is_setup"] and t2_["setups"] == ["s2"]
    assert upstream(dag)["drop"] == ["make", "work2"]


def test_dag_decorator_gives_parameters_and_the_result_task():
    @dag_decorator(schedule=None, tags=["b", "a"])
    def my_dag(count: int = 3):
        """What it does."""

        @task
        def f(n):
            return n

        return f(count)

    dag = my_dag()
    out = described(dag)
    assert (out["dag_id"], out["doc_md"], out["tags"], out["result_task"]) == (
        "my_dag", "What it does.", ["a", "b"], "f")
    assert out["params"] == {"count": {"value": 3}}


def test_a_scheduled_dag_needs_valid_params():
    with DAG("d", schedule="@daily", params={"x": Param(type="string")}) as dag:
        EmptyOperator(task_id="a")
    with pytest.raises(AirflowException, match="param 'x' must have a valid default"):
        described(dag)


def test_fail_fast_allows_only_all_success():
    with DAG("d", fail_fast=True) as dag:
        EmptyOperator(task_id="a", trigger_rule=TriggerRule.ALL_DONE)
    with pytest.raises(AirflowException, match="fail_fast"):
        described(dag)


def test_decorators_that_are_not_built_can_be_declared_and_unknown_ones_are_told():
    @task.docker(image="x")
    def f():
        pass

    with DAG("d"):
        f()
    with pytest.raises(AttributeError, match=r"there is no decorator @task.bsh \(did you mean 'bash'\?\)"):
        task.bsh  # noqa: B018


def test_asset_expressions_schedule():
    a, b, c = Asset("a"), Asset(name="b", uri="s3://b"), AssetAlias("c")
    dag = DAG("d", schedule=(a | b) & c)
    assert described(dag)["schedule"]["assets"] == {"all": [
        {"any": [{"asset": {"name": "a", "uri": "a", "group": "asset"}},
                 {"asset": {"name": "b", "uri": "s3://b", "group": "asset"}}]}, {"alias": "c"}]}
    assert list(described(DAG("e", schedule=[a, b]))["schedule"]["assets"]) == ["all"]


def test_python_operator_wants_a_callable():
    with DAG("d"), pytest.raises(AirflowException, match="`python_callable` of task 'a' must be callable"):
        PythonOperator(task_id="a", python_callable=3)


def test_what_a_task_asks_of_its_machine():
    def asked(resources=None, config=None):
        with DAG("d", start_date=START) as dag:
            EmptyOperator(task_id="a", resources=resources, executor_config=config)
        return task_of(dag, "a").get("resources")

    assert asked({"cpu": 1.5, "memory": "4Gi", "gpus": 2}) == {"cpu": 1.5, "memory": 4 << 30, "gpus": 2}
    assert asked({"gpu_memory": "10Gi"}) == {"gpus": 1, "gpu_memory": 10 << 30}
    assert asked({"gpus": 2, "gpu_memory": 1 << 30}) == {"gpus": 2, "gpu_memory": 1 << 30}
    assert asked(None, {"resources": {"gpus": 1}}) == {"gpus": 1}
    assert asked({"cpus": 2, "ram": 512, "disk": 100, "gpus": 1}) == {"cpu": 2, "memory": 512 << 20, "gpus": 1}
    assert asked({"limit_gpu": 1, "request_memory": "1Gi"}) == {"gpus": 1, "memory": 1 << 30}
    assert asked({"limits": {"nvidia.com/gpu": "2"}}) == {"gpus": 2}
    assert asked({"gpus": 0}) is None
    assert asked() is None
    for resources, words in [
        ({"gpuz": 1}, r"resources= of task 'a': unknown key 'gpuz' \(did you mean"),
        ({"gpus": 0.5}, r"gpus must be a whole number, not 0.5; to share a GPU"),
        ({"gpus": -1}, r"must not be negative"),
        ({"gpus": 0, "gpu_memory": "1Gi"}, r"gpu_memory without a GPU"),
        ({"memory": "lots"}, r"memory: 'lots' is not a quantity"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            asked(resources)
        with pytest.raises((TypeError, ValueError), match=words):
            asked(None, {"resources": resources})


def test_a_mapped_task_asks_for_gpus_too():
    from airflow.sdk import task

    with DAG("d", start_date=START) as dag:
        @task(resources={"gpu_memory": "2Gi"})
        def fit(x):
            return x

        fit.expand(x=[1, 2])
    assert task_of(dag, "fit")["resources"] == {"gpus": 1, "gpu_memory": 2 << 30}
