"""The standard operators and sensors, each run for real."""

import datetime
import sys
import time

import pytest

from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.latest_only import LatestOnlyOperator
from airflow.operators.python import BranchPythonOperator, ShortCircuitOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
from airflow.sensors.filesystem import FileSensor
from airflow.sensors.python import PythonSensor
from airflow.utils.task_group import TaskGroup
from ostro.exceptions import error_for
from ostro.localcomms import LocalComms
from support import START, attempt, result


def bash(command, **kwargs):
    with DAG("d", start_date=START) as dag:
        BashOperator(task_id="t", bash_command=command, **kwargs)
    return attempt(dag, "t")


def pushed(comms, key="return_value"):
    return {one["key"]: one["value"] for one in comms.terminal.get("xcoms", ())}.get(key)


def test_bash_streams_its_output_and_pushes_the_last_line(capfd):
    comms = bash("echo one; echo two >&2; printf three")
    assert pushed(comms) == "three"
    assert capfd.readouterr().out == "one\ntwo\nthree"


def test_bash_without_output_pushes_the_empty_text():
    assert pushed(bash("true")) == ""


def test_bash_environment_is_replaced_or_appended(monkeypatch):
    monkeypatch.setenv("OUTER", "o")
    env = {"A": "a-{{ ds }}", "PATH": "/usr/bin:/bin"}
    assert pushed(bash('echo "$OUTER$A$AIRFLOW_CTX_TASK_ID"', env=env)) == "a-2024-01-01t"
    assert pushed(bash('echo "$OUTER$A"', env={"A": "a"}, append_env=True)) == "oa"


def test_bash_runs_in_a_folder_of_its_own_or_in_cwd(tmp_path):
    assert "airflowtmp" in pushed(bash("pwd"))
    assert pushed(bash("pwd", cwd=str(tmp_path))) == str(tmp_path)
    assert "cannot find the cwd" in bash("pwd", cwd=str(tmp_path / "none")).terminal["reason"]


@pytest.mark.parametrize("command, kwargs, want", [
    ("exit 99", {}, ("TaskState", "Bash command returned exit code 99. Skipping.")),
    ("exit 7", {"skip_on_exit_code": [7, 8]}, ("TaskState", "Bash command returned exit code 7. Skipping.")),
    ("exit 3", {}, ("RetryTask", "AirflowException: Bash command failed. The command returned a non-zero exit code 3.")),
    ("kill -9 $$", {}, ("RetryTask", "AirflowException: Bash command failed. The command returned a non-zero exit code "
                        "-9 (ended by SIGKILL: somebody killed it, most often the kernel because memory ran out).")),
])
def test_bash_exit_codes(command, kwargs, want):
    terminal = bash(command, **kwargs).terminal
    assert (terminal["type"], terminal["reason"]) == want


def test_bash_output_processor():
    assert pushed(bash("echo '[1]'", output_processor=__import__("json").loads)) == [1]


def test_bash_is_ended_with_its_children_when_the_time_is_up(tmp_path):
    marker = tmp_path / "pid"
    comms = bash("sleep 60 & echo $! > %s; wait" % marker, execution_timeout=datetime.timedelta(seconds=2))
    assert comms.terminal["reason"].startswith("AirflowTaskTimeout")
    pid = int(marker.read_text())
    with pytest.raises(ProcessLookupError):
        _gone(pid)


def _gone(pid):
    """Raise ProcessLookupError once a process has ended, be it still a zombie of init's."""
    import os
    import time

    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        try:
            with open("/proc/%d/stat" % pid) as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    raise ProcessLookupError(pid)
        except FileNotFoundError:
            raise ProcessLookupError(pid) from None


def test_a_bash_task_function_returns_the_command():
    with DAG("d", start_date=START) as dag:
        @task.bash
        def say(name):
            return "echo %s {{ ds }}" % name

        @task.bash
        def nothing():
            return 3

        say("hi")
        nothing()
    assert result(dag, "say") == "hi 2024-01-01"
    assert "must be a non-empty text" in attempt(dag, "nothing").terminal["reason"]


def branching(value):
    with DAG("d", start_date=START) as dag:
        branch = BranchPythonOperator(task_id="t", python_callable=lambda: value)
        join = EmptyOperator(task_id="join")
        with TaskGroup("g") as group:
            EmptyOperator(task_id="x")
        branch >> [EmptyOperator(task_id="a"), EmptyOperator(task_id="b"), group, join]
        dag.get_task("a") >> join
    return attempt(dag, "t")


@pytest.mark.parametrize("value, skipped, followed", [
    ("a", ["b", "g.x"], ["a", "join"]), (["a", "b"], ["g.x"], ["a", "b", "join"]), ("g", ["a", "b", "join"], ["g.x"]),
    (None, ["a", "b", "g.x", "join"], []),
])
def test_a_branch_skips_what_it_does_not_follow(value, skipped, followed):
    comms = branching(value)
    assert comms.of("SkipDownstreamTasks") == [{"type": "SkipDownstreamTasks", "tasks": skipped}]
    assert pushed(comms, "skipmixin_key") == {"followed": followed}


@pytest.mark.parametrize("value, words", [("c", "'c'"), (3, "returned 3")])
def test_a_wrong_branch_is_told(value, words):
    terminal = branching(value).terminal
    assert terminal["type"] == "RetryTask" and words in terminal["reason"]


def test_a_branch_inside_a_mapped_group_skips_its_own_instance():
    from airflow.decorators import task_group

    with DAG("d", start_date=START) as dag:
        @task_group
        def each(n):
            @task.branch
            def choose(n):
                return "each.left"

            choose(n) >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]

        each.expand(n=[1, 2])
    comms = attempt(dag, "each.choose", map_index=1)
    assert comms.of("SkipDownstreamTasks")[0]["tasks"] == [["each.right", 1]]


@pytest.mark.parametrize("condition, everything, want", [(1, True, None), (0, True, ["a", "b"]), (0, False, ["a"])])
def test_a_short_circuit_skips_all_or_the_next(condition, everything, want):
    with DAG("d", start_date=START) as dag:
        gate = ShortCircuitOperator(task_id="t", python_callable=lambda: condition,
                                    ignore_downstream_trigger_rules=everything)
        gate >> EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
    skips = attempt(dag, "t").of("SkipDownstreamTasks")
    assert (sorted(skips[0]["tasks"]) if skips else None) == want


def test_latest_only_skips_unless_the_run_is_the_newest():
    with DAG("d", start_date=START) as dag:
        LatestOnlyOperator(task_id="t") >> EmptyOperator(task_id="a")
    assert attempt(dag, "t", next_data_interval_end="2024-01-15T00:00:00Z").of("SkipDownstreamTasks")[0]["tasks"] == ["a"]
    assert attempt(dag, "t", next_data_interval_end="2124-01-15T00:00:00Z").of("SkipDownstreamTasks") == []


def trigger(comms=None, **kwargs):
    with DAG("d", start_date=START) as dag:
        TriggerDagRunOperator(task_id="t", trigger_dag_id="other", **kwargs)
    return attempt(dag, "t", comms)


def test_triggering_another_dag_sends_conf_and_remembers_the_run():
    comms = trigger(trigger_run_id="run-{{ ds }}", conf={"a": "{{ ds }}"}, execution_date="{{ logical_date }}", note="n",
                    wait_for_completion=True)
    assert comms.triggered == [{"type": "TriggerDagRun", "dag_id": "other", "conf": {"a": "2024-01-01"}, "note": "n",
                                "run_id": "run-2024-01-01", "logical_date": "2024-01-01T00:00:00Z"}]
    assert pushed(comms, "trigger_run_id") == "run-2024-01-01"


def test_a_run_triggered_without_a_date_is_for_now():
    before = datetime.datetime.now(datetime.timezone.utc)
    for kwargs in ({}, {"execution_date": None}):
        when = trigger(**kwargs).triggered[0]["logical_date"]
        assert before <= datetime.datetime.fromisoformat(when.replace("Z", "+00:00")) <= datetime.datetime.now(
            datetime.timezone.utc)
    assert "logical_date" not in trigger(logical_date=None).triggered[0]
    assert trigger(conf='{"a": "{{ ds }}"}').triggered[0]["conf"] == {"a": "2024-01-01"}
    assert "must be JSON" in trigger(conf="no: json").terminal["reason"]


def test_two_triggers_in_one_instant_make_two_runs():
    class Comms(LocalComms):
        refused = 0

        def _TriggerDagRun(self, message):
            if not self.refused:
                self.refused += 1
                raise error_for("DAGRUN_ALREADY_EXISTS", "the logical date is taken")
            return super()._TriggerDagRun(message)

    comms = trigger(Comms())
    assert comms.terminal["type"] == "SucceedTask" and comms.refused == 1


@pytest.mark.parametrize("compat, state", [("airflow3", "RetryTask"), ("airflow2", "SucceedTask")])
def test_a_run_without_a_date_has_the_date_it_is_due_in_airflow_2(compat, state):
    from ostro import settings

    settings.configure(compat)
    try:
        with DAG("d", start_date=START) as dag:
            @task
            def work(execution_date: str, ds=None):
                return "%s %s" % (execution_date, ds)

            work()
    finally:
        settings.configure()
    terminal = attempt(dag, "work", logical=None).terminal
    assert terminal["type"] == state
    if state == "SucceedTask":
        assert terminal["xcoms"][0]["value"].startswith("2024-01-01") and terminal["xcoms"][0]["value"].endswith(" 2024-01-01")


def test_triggering_waits_and_fails_with_the_run():
    class Comms(LocalComms):
        def _GetDagRunState(self, message):
            return {"type": "DagRunStateResult", "state": "failed"}

    assert trigger(Comms(), wait_for_completion=True).terminal["reason"] == (
        "AirflowException: other failed with failed states ['failed'] for run_ids ['manual__1']")


def test_triggering_what_exists_or_what_cannot_be():
    runs = {("other", "r"): "success"}
    assert "exists already" in trigger(LocalComms(runs=runs), trigger_run_id="r").terminal["reason"]
    skipped = trigger(LocalComms(runs=runs), trigger_run_id="r", skip_when_already_exists=True).terminal
    assert skipped["state"] == "skipped"
    assert "must be JSON" in trigger(conf={"a": object}).terminal["reason"]


def sensor(poke, **kwargs):
    class Mine(BaseSensorOperator):
        pass

    Mine.poke = poke
    context = {name: kwargs.pop(name) for name in ("first_start_date",) if name in kwargs}
    with DAG("d", start_date=START) as dag:
        Mine(task_id="t", **kwargs)
    return attempt(dag, "t", **context)


def test_a_sensor_pokes_until_it_is_done():
    answers = [False, False, PokeReturnValue(True, "x")]
    comms = sensor(lambda self, context: answers.pop(0), poke_interval=0)
    assert pushed(comms) == "x" and answers == []


def test_a_rescheduled_sensor_says_when_to_look_again():
    comms = sensor(lambda self, context: False, mode="reschedule", poke_interval=60, timeout=10**10)
    again = datetime.datetime.fromisoformat(comms.terminal["reschedule_date"].replace("Z", "+00:00"))
    left = (again - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert comms.terminal["type"] == "RescheduleTask" and 50 < left <= 60


@pytest.mark.parametrize("kwargs, want", [
    ({}, ("TaskState", "failed")), ({"soft_fail": True}, ("TaskState", "skipped")),
    ({"never_fail": True}, ("TaskState", "skipped")),
])
def test_a_sensor_gives_up_for_good(kwargs, want):
    comms = sensor(lambda self, context: False, poke_interval=0, timeout=0, **kwargs)
    assert (comms.terminal["type"], comms.terminal["state"]) == want
    rescheduled = sensor(lambda self, context: False, mode="reschedule", timeout=5,
                         first_start_date="2024-01-01T00:00:00Z", **kwargs)
    assert rescheduled.terminal["state"] == want[1]


@pytest.mark.parametrize("jump", [3 * 3600, -3 * 3600, 26 * 3600, -26 * 3600])
def test_a_sensor_times_out_neither_early_nor_late_when_the_clock_is_set(jump, monkeypatch):
    real, pokes = time.time, []

    def poke(self, context):
        monkeypatch.setattr("time.time", lambda: real() + jump)
        pokes.append(1)
        return len(pokes) == 3

    assert sensor(poke, poke_interval=0, timeout=600).terminal["type"] == "SucceedTask"
    late = sensor(lambda self, context: False, poke_interval=0.01, timeout=0.05)
    assert (late.terminal["type"], late.terminal["state"]) == ("TaskState", "failed")


def test_a_silent_sensor_goes_on_after_an_error():
    answers = [ValueError("x"), True]

    def poke(self, context):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert sensor(poke, poke_interval=0, silent_fail=True).terminal["type"] == "SucceedTask"


def test_python_and_file_sensors(tmp_path):
    (tmp_path / "f").write_text("x")
    with DAG("d", start_date=START) as dag:
        PythonSensor(task_id="p", python_callable=lambda ds, n: ds and n, op_kwargs={"n": 1})
        FileSensor(task_id="f", filepath=str(tmp_path / "*"))

        @task.sensor(poke_interval=1)
        def s():
            return PokeReturnValue(True, 7)

        s()
    assert attempt(dag, "p").terminal["type"] == "SucceedTask"
    assert attempt(dag, "f").terminal["type"] == "SucceedTask"
    assert result(dag, "s") == 7


def test_output_that_is_not_text_passes_unchanged(capfdbinary):
    bash(sys.executable + " -c \"import sys; sys.stdout.buffer.write(bytes([255, 10, 254]))\"")
    assert capfdbinary.readouterr().out == b"\xff\n\xfe"


def test_an_external_task_sensor_counts_what_it_waits_for():
    from airflow.sensors.external_task import ExternalTaskSensor

    class Comms(LocalComms):
        counts = {"failed": 0, "success": 1}

        def _GetTICount(self, message):
            assert message["logical_dates"] == ["2023-12-31T23:00:00Z"] and message["task_ids"] == ["x"]
            return {"type": "TICount", "count": self.counts[message["states"][0]]}

    with DAG("d", start_date=START) as dag:
        ExternalTaskSensor(task_id="t", external_dag_id="other", external_task_id="x", failed_states=["failed"],
                           execution_delta=datetime.timedelta(hours=1))
    assert attempt(dag, "t", Comms()).terminal["type"] == "SucceedTask"
    comms = Comms()
    comms.counts = {"failed": 1, "success": 0}
    assert "the external DAG other, task x failed" in attempt(dag, "t", comms).terminal["reason"]
