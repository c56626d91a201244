"""The document's two DAG files, as they stand."""

import json
import os

import pytest

from ostro.loader import load_file
from support import HERE, attempt, described, result

DAGS = os.path.join(HERE, "dags")
GOLDEN = os.path.join(HERE, "golden")


def load(file, **kwargs):
    found = load_file(DAGS, file, **kwargs)
    assert found.errors == []
    return next(iter(found.dags.values()))


def check(name, value):
    path = os.path.join(GOLDEN, name + ".json")
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(text)
    with open(path, encoding="utf-8") as handle:
        assert text == handle.read()


@pytest.mark.parametrize("compat", ["airflow3", "airflow2"])
@pytest.mark.parametrize("file", ["fraud_detection", "ml_pipeline", "everything"])
def test_the_description_is_the_golden_one(file, compat):
    check("%s.%s" % (file, compat), described(load(file + ".py", compat=compat)))


def test_the_dates_of_a_taskflow_signature_are_filled_as_text():
    dag = load("ml_pipeline.py")
    comms = attempt(dag, "prepare_data")
    assert comms.terminal["xcoms"][0]["value"] == "s3://bucket/features/2024-01-01 00:00:00+00:00/"
    assert result(dag, "train_model", comms) == {"run_id": "xxx", "f1": 0.924}
    pushed = {one["key"]: (one["value"], one["map_length"]) for one in comms.terminal["xcoms"]}
    assert pushed == {"run_id": ("xxx", -1), "f1": (0.924, -1), "return_value": ({"run_id": "xxx", "f1": 0.924}, 2)}


def test_the_metrics_decide_the_promotion(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_NOTES", str(tmp_path / "notes"))
    dag = load("ml_pipeline.py")
    comms = attempt(dag, "prepare_data")
    attempt(dag, "train_model", comms)
    assert attempt(dag, "promote_if_good", comms).terminal["type"] == "SucceedTask"
    assert (tmp_path / "notes").read_text() == "promoted xxx\n"


def test_the_pods_of_the_pipeline_run_as_processes_with_rendered_arguments(tmp_path, capfd):
    for name in ("prepare_data", "train", "promote_model"):
        (tmp_path / (name + ".py")).write_text("import sys; print(sys.argv)")
    pods = {"mode": "process", "gpus": 0, "images": {"ml-pipeline*": {"dir": str(tmp_path)}}}
    dag = load("fraud_detection.py")
    comms = attempt(dag, "prepare_data", pods=pods)
    assert comms.terminal["type"] == "SucceedTask"
    assert eval(
        capfd.readouterr().out) == ["prepare_data.py", "--date=2024-01-01", "--output=s3://bucket/features/2024-01-01/"]
    assert [message["text"].split(" as a")[0] for message in comms.of("AddNotice")] == [
        "namespace has no effect", "is_delete_operator_pod has no effect", "resources are advisory"]
    comms = attempt(dag, "train_model", pods=pods)
    notices = [message["text"] for message in comms.of("AddNotice")]
    assert "1 GPU asked for, this machine has none; the task runs all the same" in notices
    assert {text.split(" has no effect")[0] for text in notices if "has no effect" in text} == {
        "namespace", "annotations", "tolerations"}
    comms.store({"dag_id": dag.dag_id, "run_id": "r1", "task_id": "quality_gate"}, [{"key": "run_id", "value": "abc"}])
    capfd.readouterr()
    attempt(dag, "promote_to_staging", comms, pods=pods)
    assert capfd.readouterr().out.strip() == "['promote_model.py', '--run-id=abc']"


def test_the_gate_that_fails_calls_back_with_the_exception(tmp_path, monkeypatch):
    class Run:
        class data:
            metrics = {"test_f1": 0.5}

    class Client:
        def search_runs(self, **kwargs):
            assert kwargs["filter_string"] == "tags.run_date = '2024-01-01'"
            return [Run]

    import sys
    import types

    mlflow = types.ModuleType("mlflow")
    mlflow.tracking = types.SimpleNamespace(MlflowClient=Client)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setenv("SEED_NOTES", str(tmp_path / "notes"))
    comms = attempt(load("fraud_detection.py"), "quality_gate")
    reason = "ValueError: Model quality too low: F1=0.500 < 0.90"
    assert {key: comms.terminal[key] for key in ("type", "reason", "callbacks")} == {
        "type": "RetryTask", "reason": reason, "callbacks": ["on_failure_callback"]}
    assert (tmp_path / "notes").read_text() == "failed quality_gate: Model quality too low: F1=0.500 < 0.90\n"
    assert [message["type"] for message in comms.sent][-2:] == ["RetryTask", "CallbacksDone"]
