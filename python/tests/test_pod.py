"""KubernetesPodOperator as a local process: what runs, what is said, what is refused."""

import os
import sys

import pytest

from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from ostro.operators.pod import WITHOUT_EFFECT, match_image
from support import START, attempt, described, write


def pod(pods=None, code="pass", scratch="", **kwargs):
    kwargs.setdefault("image", "img:1")
    kwargs.setdefault("cmds", ["python", "-c", code])
    with DAG("d", start_date=START) as dag:
        KubernetesPodOperator(task_id="t", **kwargs)
    settings = {"mode": "process", "gpus": 0, "images": {"img*": {"dir": ""}}, "config_file": "/home/me/ostro.yaml"}
    settings.update(pods or {})
    return attempt(dag, "t", pods=None if pods is False else settings, scratch=scratch)


def told(comms):
    return [message["text"] for message in comms.of("AddNotice")]


def test_output_and_errors_go_to_their_streams_unmodified(capfd):
    pod(code="import sys; print('out {{ ds }}'); print('err', file=sys.stderr)")
    assert capfd.readouterr() == ("out 2024-01-01\n", "err\n")


def test_folder_environment_and_python_come_from_the_image(tmp_path, capfd, monkeypatch):
    write(tmp_path, "main.py", "import os, sys; print(os.getcwd(), os.environ['A'], os.environ['B'], os.environ['C'], "
                               "os.environ.get('PYTHONPATH'), sys.argv[1:])")
    monkeypatch.setenv("C", "task")
    monkeypatch.setenv("PYTHONPATH", "/runtime")
    pod({"images": {"img:*": {"dir": str(tmp_path), "python": sys.executable, "env": {"A": "image", "B": "image"}}}},
        cmds=["python3", "main.py"], arguments="{{ ds }}", env_vars={"B": "own-{{ ds }}"})
    assert capfd.readouterr().out == "%s image own-2024-01-01 task None ['2024-01-01']\n" % tmp_path


@pytest.mark.parametrize("code, reason", [
    ("raise SystemExit(3)", "AirflowException: the command of image img:1 failed with exit code 3"),
    ("import os; os.kill(os.getpid(), 9)", "AirflowException: the command of image img:1 failed with exit code -9 (ended by "
     "SIGKILL: somebody killed it, most often the kernel because memory ran out)"),
])
def test_exit_codes_are_told_in_words(code, reason):
    terminal = pod(code=code).terminal
    assert (terminal["type"], terminal["reason"]) == ("RetryTask", reason)


def test_an_exit_code_may_mean_skipped():
    assert pod(code="raise SystemExit(42)", skip_on_exit_code=42).terminal["state"] == "skipped"


WRITE = "import os, json; json.dump({'a': [1]}, open(os.environ['OSTRO_XCOM_PATH'], 'w'))"


def test_what_is_written_to_the_return_path_is_the_xcom():
    comms = pod(code=WRITE, do_xcom_push=True)
    assert comms.terminal["xcoms"] == [{"key": "return_value", "value": {"a": [1]}, "map_length": 1}]
    assert "xcoms" not in pod().terminal
    assert "xcoms" not in pod(do_xcom_push=True).terminal


def test_a_pod_without_do_xcom_push_has_no_place_for_an_xcom_as_in_a_cluster(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import os; print(sorted(name for name in os.environ if name.endswith('XCOM_PATH')), os.listdir(%r))" % str(tmp_path)
    assert pod(code=code + "; assert not any('XCOM_PATH' in n for n in os.environ)").terminal["type"] == "SucceedTask"
    with caplog.at_level("WARNING"):
        terminal = pod(code="open('/airflow/xcom/return.json', 'w')").terminal
    assert terminal["type"] == "RetryTask" and "is there in a pod with do_xcom_push=True" in caplog.text
    assert os.listdir(str(tmp_path)) == []


def test_what_a_pod_has_for_its_xcom_is_in_the_attempts_own_folder(tmp_path):
    scratch = tmp_path / "run" / "scratch" / "a-1"
    code = "import os; open(os.environ['OSTRO_XCOM_PATH'], 'w').write('\"%s\"' % os.environ['OSTRO_XCOM_PATH'])"
    comms = pod(code=code, do_xcom_push=True, scratch=str(scratch))
    assert comms.terminal["xcoms"][0]["value"].startswith(str(scratch) + os.sep)
    assert os.listdir(str(scratch)) == []


def test_the_xcom_is_pushed_on_failure_too_and_must_be_json():
    failed = pod(code=WRITE + "; raise SystemExit(1)", do_xcom_push=True).terminal
    assert failed["type"] == "RetryTask" and failed["xcoms"][0]["value"] == {"a": [1]}
    bad = pod(code="import os; open(os.environ['AIRFLOW_XCOM_PATH'], 'w').write('{')", do_xcom_push=True).terminal
    assert "the XCom that image img:1 wrote is not JSON" in bad["reason"]


def test_two_attempts_at_once_do_not_see_each_others_return_path(monkeypatch):
    import threading

    monkeypatch.setattr("ostro.live.comms", None)  # each attempt puts back what it found, which may be the other's
    code = ("import os, json, time; path = os.environ['AIRFLOW_XCOM_PATH']; "
            "json.dump('{{ params.n }}', open(path, 'w')); time.sleep(0.5)")
    found = {}

    def one(n):
        found[n] = pod(code=code, do_xcom_push=True, params={"n": n}).terminal["xcoms"][0]["value"]

    threads = [threading.Thread(target=one, args=(n,)) for n in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": "a", "b": "b"}


def test_a_command_that_writes_to_the_path_of_a_pod_is_told_of_the_other(tmp_path, monkeypatch):
    path = str(tmp_path / "xcom" / "return.json")
    monkeypatch.setattr("ostro.operators.pod.SIDECAR_PATH", path)
    comms = pod(code="open(%r, 'w')" % path, do_xcom_push=True)
    assert comms.terminal["reason"].endswith("failed with exit code 1")
    assert told(comms)[0].startswith("no XCom: %s is a pod's; it is not there, and to local processes" % path)


def test_a_command_that_fails_for_another_reason_is_told_nothing_of_xcoms(caplog):
    import logging

    with caplog.at_level(logging.INFO):
        comms = pod(code="import sys; print('oops', file=sys.stderr); sys.exit(2)", do_xcom_push=True)
    assert told(comms) == [] and "XCom" not in caplog.text


def test_an_old_spelling_is_said_once_a_file():
    from ostro import settings

    settings.configure()
    with DAG("d", start_date=START):
        for name in "abc":
            KubernetesPodOperator(task_id=name, image="i", cmds=["x"], resources={"request_memory": "1Gi"})
    assert len([text for text in settings.warnings if "resources= of a pod is the old spelling" in text]) == 1
    settings.configure()


def test_an_image_that_is_not_mapped_shows_the_lines_to_add():
    terminal = pod({"images": {}}, image="repo/ml:2.1").terminal
    assert terminal["type"] == "RetryTask"
    with DAG("d", start_date=START) as dag:
        task = KubernetesPodOperator(task_id="t", image="repo/ml:2.1", cmds=["x"])
    with pytest.raises(Exception, match="is not mapped") as told_:
        task._settings({"mode": "process", "images": {}, "config_file": "/home/me/ostro.yaml"})
    assert str(told_.value).startswith(
        "image repo/ml:2.1 (task 't') is not mapped to a folder of this machine: add to /home/me/ostro.yaml images: "
        '{"repo/ml:*": {dir: /path/to/the/folder}}, and start the server again\nIn full:\nimages:\n  "repo/ml:*":\n'
        "    dir: /path/to")
    assert dag
    # The first line, which is what people see in tables, has what is needed; the lines to add follow.
    first, rest = pod(image="repo/ml:2.1").terminal["reason"].split("\n", 1)
    assert '\n  "repo/ml:*":\n    dir: /path/to' in rest
    assert first == (
        "AirflowException: image repo/ml:2.1 (task 't') is not mapped to a folder of this machine: under images: in "
        '/home/me/ostro.yaml add "repo/ml:*": {dir: /path/to/the/folder}, and start the server again')


def test_an_image_in_a_pod_template_is_not_read_and_that_is_said():
    terminal = pod(image=None, full_pod_spec={"spec": {}}).terminal
    assert terminal["reason"].startswith("AirflowException: task 't' gives no image=; as a local process it needs one")


def test_without_pods_configured_the_error_shows_the_setting():
    with DAG("d", start_date=START):
        task = KubernetesPodOperator(task_id="t", image="i", cmds=["x"])
    with pytest.raises(Exception, match="add to ostro.yaml two lines, pods: process and images: "):
        task._settings(None)
    assert "has no cluster to run in" in pod(False).terminal["reason"]


@pytest.mark.parametrize("image, want", [
    ("ml:latest", 1), ("ml:v2", 2), ("ml", 1), ("other:1", None), ("repo:5000/ml:v2", 3), ("repo:5000/ml", 3)])
def test_the_longest_glob_wins(image, want):
    images = {"ml:*": 1, "ml:v*": 2, "repo:5000/*": 3}
    assert match_image(image, images) == want


def test_every_argument_without_effect_is_listed_once():
    values = {
        "tolerations": [{"key": "x"}], "annotations": {"a": "b"}, "namespace": "ns", "volumes": ["v"],
        "labels": {"a": "b"}, "is_delete_operator_pod": False, "on_finish_action": "keep_pod", "node_selectors": {"a": "b"},
        "service_account_name": "sa", "startup_timeout_seconds": 5, "hostnetwork": True, "image_pull_secrets": "a,b",
        "reattach_on_restart": False, "deferrable": True, "kubernetes_conn_id": "other",
    }
    notices = told(pod(**values))
    assert sorted(text.split(" has no effect")[0] for text in notices) == sorted(
        name.replace("node_selectors", "node_selector") for name in values)
    assert told(pod()) == []


def test_every_known_argument_is_either_used_or_listed():
    arguments = set(KubernetesPodOperator.__init__.__wrapped__.__kwdefaults__)
    used = {"image", "cmds", "arguments", "env_vars", "get_logs", "do_xcom_push", "skip_on_exit_code", "resources",
            "container_resources", "node_selectors", "xcom_push"}
    assert arguments - used == set(WITHOUT_EFFECT)


def test_gpus_that_are_not_there_are_said_and_do_not_fail():
    gpu = {"limits": {"nvidia.com/gpu": 2}}
    assert told(pod(container_resources=gpu)) == [
        "2 GPUs asked for, this machine has none; the task runs all the same"]
    assert told(pod({"gpus": 4}, container_resources=gpu)) == []


def test_what_is_asked_for_and_does_not_bind_is_said_in_full():
    legacy = {"request_cpu": "2", "request_memory": "4Gi", "limit_memory": "8Gi", "limit_cpu": "2",
              "request_ephemeral_storage": "1Gi"}
    assert told(pod(resources=legacy)) == [
        "resources are advisory as a local process (resources: strict makes them binding): 2 CPU, 4 GiB memory, "
        "at most 8Gi memory, 1Gi ephemeral-storage"]
    legacy.update(request_cpu="1", request_memory="1Mi")
    assert told(pod({"strict": True}, resources=legacy)) == [
        "the limit of cpu has no effect as a local process: it may use every core",
        "ephemeral-storage has no effect as a local process: it is not measured"]


def test_strict_resources_refuse_what_the_machine_does_not_have_and_do_not_retry():
    assert pod({"strict": True}, resources={"limit_gpu": 1}, retries=3).terminal["state"] == "failed"
    assert "asks for 10000 CPU" in pod({"strict": True}, resources={"request_cpu": "10000"}).terminal["reason"]
    assert "asks for 1.049e+06 GiB memory" in pod({"strict": True}, resources={"request_memory": "1Pi"}).terminal["reason"]
    assert "1 GPU asked for, this machine has none (resources: strict)" in pod(
        {"strict": True}, resources={"limit_gpu": 1}).terminal["reason"]


def test_a_strict_memory_limit_binds():
    code = "x = bytearray(400 << 20)"
    limits = {"limits": {"memory": "200Mi"}}
    assert pod(container_resources=limits, code=code).terminal["type"] == "SucceedTask"
    assert "exit code 1" in pod({"strict": True}, container_resources=limits, code=code).terminal["reason"]


def test_legacy_spellings():
    with DAG("d", start_date=START) as dag, pytest.raises(TypeError, match=r"unknown key 'request_mem' \(did you mean"):
        KubernetesPodOperator(task_id="bad", resources={"request_mem": "1Gi"})
    with DAG("d", start_date=START) as dag:
        KubernetesPodOperator(task_id="t", image="i", xcom_push=True, resources={"limit_memory": "1Gi", "limit_cpu": "500m"})
    task = described(dag)["tasks"][0]
    assert task["do_xcom_push"] and task["resources"] == {"cpu": 0.5, "memory": 1 << 30, "pod": True}


def test_models_of_the_kubernetes_client_are_rendered_inside():
    class V1EnvVar:
        def __init__(self, name, value=None, value_from=None):
            self.name, self.value, self.value_from = name, value, value_from

    class V1ResourceRequirements:
        def __init__(self, requests=None, limits=None):
            self.requests, self.limits = requests, limits

    comms = pod(code="import os; raise SystemExit(0 if os.environ['D'] == '2024-01-01' else 1)",
                env_vars=[V1EnvVar("D", "{{ ds }}"), V1EnvVar("S", value_from="secret")],
                container_resources=V1ResourceRequirements(limits={"memory": "{{ '1Gi' }}"}))
    assert comms.terminal["type"] == "SucceedTask"
    assert sorted(told(comms)) == [
        "env_vars: S takes its value from the cluster, which is not here; it is not set",
        "resources are advisory as a local process (resources: strict makes them binding): 1 GiB memory"]


def test_a_missing_program_or_folder_is_told(tmp_path):
    assert "cannot run 'no-such-program' for image img:1: no such program" in pod(cmds=["no-such-program"]).terminal["reason"]
    assert "the folder of image img:1 does not exist: /none" in pod({"images": {"img*": {"dir": "/none"}}}).terminal["reason"]
    assert "gives no cmds=" in pod(cmds=[]).terminal["reason"]


def test_a_pod_is_ended_when_the_time_is_up(tmp_path):
    import datetime

    marker = str(tmp_path / "pid")
    code = "import os, time; open(%r, 'w').write(str(os.getpid())); time.sleep(60)" % marker
    comms = pod(code=code, execution_timeout=datetime.timedelta(seconds=3))
    assert comms.terminal["reason"].startswith("AirflowTaskTimeout")
    with pytest.raises(ProcessLookupError):
        os.kill(int(open(marker).read()), 0)


class V1Container:
    """Looks like the Kubernetes client's: a class of that name whose to_dict lists every field there could be."""

    def to_dict(self):
        return {"name": "x", "image": None, "env": [{"name": "A", "value_from": None}]}


def test_kubernetes_objects_are_shown_without_the_fields_nobody_gave():
    from ostro.serialize import shown

    assert shown([V1Container()]) == [{"name": "x", "env": [{"name": "A"}]}]
