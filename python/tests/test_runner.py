"""One attempt: every way it can end, what it sends, its context and its callbacks."""

import datetime
import time

import pytest

from airflow import DAG
from airflow.decorators import task, task_group
from airflow.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    XComNotFound,
)
from airflow.models.baseoperator import BaseOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator, get_current_context
from ostro import live, runner
from ostro.localcomms import LocalComms
from support import START, attempt, result, startup


def one(function, **kwargs):
    """A DAG of one PythonOperator."""
    with DAG("d", start_date=START, params=kwargs.pop("params", None)) as dag:
        PythonOperator(task_id="t", python_callable=function, **kwargs)
    return dag


def end(function, should_retry=False, comms=None, **kwargs):
    comms = attempt(one(function, **kwargs), "t", comms, should_retry=should_retry)
    assert len([message for message in comms.sent if message["type"] in comms.TERMINAL]) == 1
    return comms


def fail(fault):
    def function():
        raise fault

    return function


@pytest.mark.parametrize("fault, want", [
    (ValueError("bad\nmore\n"), {"type": "RetryTask", "reason": "ValueError: bad\nmore"}),
    (ValueError("bad\n" + "more\n" * 50),
     {"type": "RetryTask", "reason": "ValueError: bad\n" + "more\n" * 19 + "… (265 characters in all; the log has them)"}),
    (ValueError("bad\n" + "x" * 9000),
     {"type": "RetryTask", "reason": "ValueError: bad\n" + "x" * 3984 + "\n… (9 016 characters in all; the log has them)"}),
    (ValueError("x" * 6_000_000),
     {"type": "RetryTask", "reason": "ValueError: " + "x" * 3988 + "… (6 000 012 characters in all; the log has them)"}),
    (AirflowSkipException("x" * 5000),
     {"type": "TaskState", "state": "skipped", "reason": "x" * 4000 + "… (5 000 characters in all; the log has them)"}),
    (AirflowFailException("no"), {"type": "TaskState", "state": "failed", "reason": "AirflowFailException: no"}),
    (AirflowSensorTimeout("late"), {"type": "TaskState", "state": "failed", "reason": "AirflowSensorTimeout: late"}),
    (AirflowSkipException("not today"), {"type": "TaskState", "state": "skipped", "reason": "not today"}),
    (AirflowRescheduleException(datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)),
     {"type": "RescheduleTask", "reschedule_date": "2024-01-02T00:00:00Z"}),
    (SystemExit(0), {"type": "RetryTask", "reason": "the task called sys.exit(0)"}),
    (SystemExit(), {"type": "RetryTask", "reason": "the task called sys.exit()"}),
    (SystemExit(3), {"type": "RetryTask", "reason": "the task called sys.exit(3)"}),
    (KeyboardInterrupt(), {"type": "RetryTask", "reason": "KeyboardInterrupt"}),
    (MemoryError(), {"type": "RetryTask", "reason": "MemoryError"}),
    (RecursionError("deep"), {"type": "RetryTask", "reason": "RecursionError: deep"}),
], ids=repr)
def test_an_exception_becomes_its_message(fault, want):
    terminal = dict(end(fail(fault)).terminal)
    assert terminal.pop("end_date").endswith("Z")
    assert terminal == want


@pytest.mark.parametrize("code", [0, None])
def test_a_task_of_airflow_2_may_succeed_by_exiting(code):
    dag = one(fail(SystemExit(code)))
    dag.compat = "airflow2"
    assert attempt(dag, "t").terminal["type"] == "SucceedTask"


def test_the_return_value_is_an_xcom_and_none_is_not():
    assert end(lambda: [1, 2]).terminal["xcoms"] == [{"key": "return_value", "value": [1, 2], "map_length": 2}]
    assert "xcoms" not in end(lambda: None).terminal
    assert "xcoms" not in end(lambda: 1, do_xcom_push=False).terminal


def test_what_cannot_be_serialised_fails_the_task_and_says_why():
    terminal = end(lambda: {"a": object()}).terminal
    assert terminal["type"] == "RetryTask"
    assert "cannot store what task 't' returned: the element ['a'] is a builtins.object" in terminal["reason"]


@pytest.mark.parametrize("value, words", [(3, "must return a dict, not int"), ({1: 2}, "must be text, not 1")])
def test_multiple_outputs_wants_a_dict_with_text_keys(value, words):
    assert words in end(lambda: value, multiple_outputs=True).terminal["reason"]


def test_a_task_that_is_gone_from_the_dag_is_removed():
    comms = attempt(one(print), "other")
    assert comms.terminal["state"] == "removed" and "no task 'other'" in comms.terminal["reason"]


def test_callbacks_are_announced_run_after_the_end_and_confirmed():
    seen = []

    def told(context):
        seen.append((context["ti"].state, str(context.get("exception")), get_current_context()["ti"].task_id))

    comms = end(fail(ValueError("x")), on_failure_callback=[told, told], on_success_callback=told)
    assert comms.terminal["callbacks"] == ["on_failure_callback"]
    assert comms.sent[-1] == {"type": "CallbacksDone"}
    assert seen == [("failed", "x", "t")] * 2


@pytest.mark.parametrize("function, should_retry, kind", [
    (lambda: 1, False, "on_success_callback"), (fail(ValueError()), True, "on_retry_callback"),
    (fail(ValueError()), False, "on_failure_callback"), (fail(AirflowFailException()), True, "on_failure_callback"),
    (fail(AirflowSkipException()), False, "on_skipped_callback"),
])
def test_each_end_calls_its_own_callback(function, should_retry, kind):
    seen = []
    kinds = ("success", "retry", "failure", "skipped", "execute")
    given = {"on_%s_callback" % one: lambda context, one=one: seen.append(one) for one in kinds}
    comms = end(function, should_retry, **given)
    assert comms.terminal["callbacks"] == [kind]
    assert seen == ["execute", kind.split("_")[1]]


def test_a_callback_that_fails_is_reported_and_changes_nothing(caplog):
    def bad(context):
        raise RuntimeError("broken")

    ran = []
    comms = end(lambda: 1, on_success_callback=[bad, ran.append], on_execute_callback=bad)
    assert comms.terminal["type"] == "SucceedTask" and len(ran) == 1
    assert comms.sent[-1]["errors"] == [
        "on_success_callback test_a_callback_that_fails_is_reported_and_changes_nothing.<locals>.bad: RuntimeError: broken"]
    assert "RuntimeError: broken" in comms.of("AddNotice")[0]["text"]
    assert "RuntimeError: broken" in caplog.text


def test_an_owed_callback_runs_in_a_process_of_its_own():
    seen = []
    with DAG("d", on_failure_callback=lambda context: seen.append((context["reason"], context["dag_run"].run_id))) as dag:
        EmptyOperator(task_id="t", on_failure_callback=lambda context: seen.append(str(context["exception"])))
    comms = LocalComms()
    details = dict(startup(dag, "t"), kind="callback", callback={"kind": "on_failure_callback", "reason": "was killed"})
    runner.run_callback(details, comms, dag)
    details = dict(startup(dag, ""), kind="callback",
                   callback={"kind": "on_failure_callback", "dag": True, "reason": "task_failure"})
    runner.run_callback(details, comms, dag)
    assert seen == ["was killed", ("task_failure", "r1")]
    assert comms.sent == [{"type": "CallbacksDone"}] * 2


def test_execution_timeout_ends_the_task_even_through_except_exception():
    killed = []

    class Slow(BaseOperator):
        def execute(self, context):
            while True:
                try:
                    time.sleep(5)
                except Exception:
                    pass

        def on_kill(self):
            killed.append(True)

    with DAG("d") as dag:
        Slow(task_id="t", execution_timeout=datetime.timedelta(seconds=0.1))
    terminal = attempt(dag, "t").terminal
    assert terminal["reason"] == (
        "AirflowTaskTimeout: the task ran longer than its execution_timeout of 0:00:00.100000")
    assert terminal["type"] == "RetryTask" and killed == [True]


def test_being_asked_to_end_runs_on_kill_and_fails_the_attempt():
    from airflow.exceptions import AirflowTaskTerminated

    class Stopped(BaseOperator):
        def execute(self, context):
            runner.on_term()
            raise AirflowTaskTerminated("the task was asked to end (SIGTERM)")

        def on_kill(self):
            self.log.info("stopping")
            live.send({"type": "AddNotice", "text": "killed"})

    with DAG("d") as dag:
        Stopped(task_id="t")
    comms = attempt(dag, "t")
    assert comms.of("AddNotice") and comms.terminal["type"] == "RetryTask"
    runner.on_term()  # nothing runs: nothing happens


def test_hooks_run_around_execute_in_order():
    order = []

    class Mine(BaseOperator):
        def pre_execute(self, context):
            order.append("pre")

        def execute(self, context):
            order.append("execute")
            return 1

        def post_execute(self, context, result=None):
            order.append(("post", result))

    with DAG("d") as dag:
        Mine(task_id="t", pre_execute=lambda context: order.append("hook"),
             post_execute=lambda context, result: order.append("after"))
    attempt(dag, "t")
    assert order == ["hook", "pre", "execute", "after", ("post", 1)]


def test_the_context_has_every_name_of_both_airflows():
    seen = {}
    end(lambda **context: seen.update(context))
    from ostro.callables import CONTEXT_NAMES

    missing = CONTEXT_NAMES - set(seen) - {"exception", "reason", "templates_dict"}
    assert not missing
    assert (seen["ds"], str(seen["execution_date"]), seen["ti"].dag_id, seen["dag_run"].run_type) == (
        "2024-01-01", "2024-01-01 00:00:00+00:00", "d", "scheduled")
    assert str(seen["data_interval_end"]) == "2024-01-08 00:00:00+00:00"


def test_parameters_are_filled_from_the_context_by_name_and_dates_as_text_where_so_annotated():
    def function(a, ds, logical_date: str, execution_date, ti=None, *, run_id, other=5):
        return [a, ds, logical_date, type(execution_date).__name__, ti.task_id, run_id, other]

    assert end(function, op_args=[1]).terminal["xcoms"][0]["value"] == [
        1, "2024-01-01", "2024-01-01 00:00:00+00:00", "DateTime", "t", "r1", 5]


def test_params_merge_conf_over_task_over_dag_and_are_checked():
    from airflow.sdk import Param

    def function(params):
        return dict(params)

    params = {"a": Param(1, type="integer"), "b": "dag"}
    dag = one(function, params=params)
    dag.get_task("t").params["b"] = "task"
    assert result(dag, "t", conf={"a": 5, "c": "new"}) == {"a": 5, "b": "task", "c": "new"}
    reason = attempt(dag, "t", conf={"a": "x"}).terminal["reason"]
    assert reason == "ParamValidationError: invalid input for param a: 'x' is not of type 'integer'"


def test_xcoms_are_pushed_and_pulled_in_every_form():
    def push(ti):
        ti.xcom_push("k", (1, 2))
        ti.xcom_push(key="k2", value={"x": 1})

    comms = end(push)
    with DAG("d", start_date=START) as dag:
        EmptyOperator(task_id="t")

        def pull(ti):
            return [ti.xcom_pull(task_ids="t", key="k"), ti.xcom_pull("t", key="k2"), ti.xcom_pull(["t", "u"], key="k"),
                    ti.xcom_pull(task_ids="t", key="none", default="d"), ti.xcom_pull(task_ids="t", map_indexes=[0], key="k"),
                    ti.xcom_pull(key="own"), ti.xcom_pull(task_ids="t", dag_id="d", key="k", include_prior_dates=True)]

        PythonOperator(task_id="u", python_callable=pull)
    from ostro.xcom import decode

    assert decode(result(dag, "u", comms)) == [(1, 2), {"x": 1}, [(1, 2), None], "d", [None], None, (1, 2)]
    assert comms.asked[-1]["include_prior_dates"] is True


def test_a_bare_pull_asks_every_task_under_airflow_2(monkeypatch):
    from ostro import settings

    settings.configure("airflow2")
    with DAG("d", start_date=START) as dag:
        first = PythonOperator(task_id="first", python_callable=lambda: 1)
        first >> PythonOperator(task_id="second", python_callable=lambda ti: ti.xcom_pull(key="return_value"))
    comms = attempt(dag, "first")
    assert result(dag, "second", comms) == 1
    dag.compat = "airflow3"
    assert result(dag, "second", LocalComms(shared=attempt(dag, "first"))) is None


def test_a_missing_key_of_an_upstream_is_an_error_and_a_missing_return_value_is_none():
    with DAG("d", start_date=START) as dag:
        @task
        def up():
            return None

        @task
        def down(x):
            return [x]

        down(up())
        down(up()["key"])
    assert result(dag, "down") == [None]
    assert attempt(dag, "down__1").terminal["reason"].startswith(XComNotFound.__name__)


def test_mapped_instances_get_their_arguments():
    with DAG("d", start_date=START) as dag:
        @task
        def numbers():
            return [10, 20]

        @task(map_index_template="{{ task.op_kwargs['x'] }}")
        def add(x, y, z):
            return x + y + z

        @task
        def total(values):
            return [sum(values), len(values), values[0]]

        n = numbers()
        total(add.partial(z=100).expand(x=[1, 2], y=n))
        add.override(task_id="pairs").expand_kwargs(n.map(lambda v: {"x": v, "y": 1, "z": 0}))
        add.override(task_id="zipped").partial(z=0).expand(x=n.concat([5]), y=[0])
    comms = attempt(dag, "numbers")
    assert [result(dag, "add", comms, map_index=index) for index in range(4)] == [111, 121, 112, 122]
    assert comms.of("SetRenderedMapIndex")[-1]["rendered_map_index"] == "2"
    assert result(dag, "total", comms) == [466, 4, 111]
    assert result(dag, "pairs", comms, map_index=1) == 21
    assert result(dag, "zipped", comms, map_index=2) == 5


def test_a_mapped_classic_operator_and_a_mapped_group():
    from airflow.operators.bash import BashOperator

    with DAG("d", start_date=START) as dag:
        BashOperator.partial(task_id="bash", env={"A": "x"}).expand(bash_command=["echo {{ ds }}-$A", "echo 2"])

        @task_group
        def each(n):
            @task
            def first(n):
                return n * 2

            @task
            def second(m):
                return m + 1

            return second(first(n))

        @task
        def collect(values):
            return list(values)

        collect(each.expand(n=[5, 6]))
    assert result(dag, "bash", map_index=0) == "2024-01-01-x"
    comms = LocalComms()
    for index in (0, 1):
        attempt(dag, "each.first", comms, map_index=index)
        attempt(dag, "each.second", comms, map_index=index)
    assert result(dag, "collect", comms) == [11, 13]


def test_values_from_xcom_are_not_rendered_again_and_literals_are():
    with DAG("d", start_date=START) as dag:
        @task
        def up():
            return ["{{ ds }}"]

        @task
        def echo(x):
            return x

        u = up()
        echo(u)
        echo.expand(x=["{{ ds }}"])
    comms = attempt(dag, "up")
    assert result(dag, "echo", comms) == ["{{ ds }}"]
    assert result(dag, "echo__1", comms, map_index=0) == "2024-01-01"


def test_a_value_nested_too_deeply_is_a_failure_that_says_so():
    def function():
        deep = []
        for _ in range(5000):
            deep = [deep]
        return deep

    reason = end(function).terminal["reason"]
    assert "cannot store what task 't' returned" in reason and "too deep to be stored" in reason


def test_a_generator_that_is_returned_is_a_value_that_cannot_be_stored():
    def function():
        return (one for one in range(3))

    assert "generator" in end(function).terminal["reason"]


def test_a_map_index_template_that_fails_is_a_notice():
    with DAG("d") as dag:
        @task(map_index_template="{{ nothing }}")
        def f(x):
            return x

        f.expand(x=[1])
    comms = attempt(dag, "f", map_index=0)
    assert comms.terminal["type"] == "SucceedTask"
    assert "'nothing' is undefined" in comms.of("AddNotice")[0]["text"]


def test_tracebacks_show_the_folder_people_know():
    from ostro import trace

    dag = one(fail(ValueError("x")))
    details = dict(startup(dag, "t"), bundle_info={"path": __file__.rpartition("/")[0], "shown_path": "/dags"})
    runner.run_task(details, LocalComms(), dag)
    try:
        fail(ValueError("x"))()
    except ValueError as fault:
        assert 'File "/dags/test_runner.py"' in trace.format_exception(fault)
    trace.shown_paths[:] = []


def test_a_refusal_of_the_process_side_becomes_airflows_exception(monkeypatch):
    from airflow.models import Variable
    from ostro.comms import RemoteError

    class Comms:
        def request(self, message):
            raise RemoteError("VARIABLE_NOT_FOUND", "there is no variable")

    monkeypatch.setattr(live, "comms", Comms())
    assert Variable.get("x", default=1) == 1
    with pytest.raises(KeyError, match="Variable x does not exist"):
        Variable.get("x")


def test_asset_events_carry_their_extra():
    from airflow.sdk import Asset, Metadata

    asset = Asset("a")

    def function(outlet_events):
        outlet_events[asset].extra["rows"] = 3
        yield Metadata(asset, {"more": 1})

    terminal = end(function, outlets=[asset]).terminal
    assert terminal["outlet_events"] == [{"name": "a", "uri": "a", "extra": {"rows": 3, "more": 1}}]


def test_a_deferred_task_tells_its_trigger_and_goes_on_later():
    from airflow.triggers.base import BaseTrigger

    class Trigger(BaseTrigger):
        def serialize(self):
            return "mod.Trigger", {"n": 1}

    class Waits(BaseOperator):
        def execute(self, context):
            self.defer(trigger=Trigger(), method_name="later", kwargs={"k": (1,)}, timeout=datetime.timedelta(seconds=5))

        def later(self, context, k, event=None):
            return [k, event]

    with DAG("d") as dag:
        Waits(task_id="t")
    terminal = attempt(dag, "t").terminal
    assert (terminal["classpath"], terminal["trigger_kwargs"], terminal["next_method"], terminal["trigger_timeout"]) == (
        "mod.Trigger", {"n": 1}, "later", 5)
    done = attempt(dag, "t", next_method="later", next_kwargs=dict(terminal["next_kwargs"], event="e")).terminal
    assert done["xcoms"][0]["value"][1] == "e"
    failed = attempt(dag, "t", next_method="__fail__", next_kwargs={"error": "Trigger timeout"}).terminal
    assert failed["reason"].startswith("TaskDeferralTimeout")


def test_a_coroutine_function_is_run_to_its_end():
    async def function():
        return 5

    assert end(function).terminal["xcoms"][0]["value"] == 5


def test_the_log_url_and_other_attributes_of_ti():
    def function(ti, dag_run):
        return [ti.log_url, ti.task.task_id, ti.duration > 0, ti.map_index, dag_run.conf, str(dag_run.logical_date),
                ti.operator, ti.get_previous_ti() is None]

    assert end(function).terminal["xcoms"][0]["value"] == [
        "http://localhost:8080/dags/d/runs/r1/tasks/t?try_number=1", "t", True, -1, {},
        "2024-01-01 00:00:00+00:00", "PythonOperator", True]


def test_run_if_and_skip_if():
    with DAG("d") as dag:
        @task.run_if(lambda context: context["run_id"] == "other", skip_message="not that run")
        @task
        def a():
            return 1

        @task.skip_if(lambda context: False)
        @task
        def b():
            return 1

        a()
        b()
    assert attempt(dag, "a").terminal["reason"] == "not that run"
    assert attempt(dag, "b").terminal["type"] == "SucceedTask"


def test_an_unbuilt_operator_says_what_to_use():
    with DAG("d") as dag:
        @task.virtualenv(requirements=["x"])
        def f():
            pass

        f()
    assert "virtual environments per task are not built; use @task" in attempt(dag, "f").terminal["reason"]
