"""The document's two DAG files, as they stand in examples/."""

import hashlib
import json
import logging
import os

import pytest

from ostro.loader import load_file
from support import HERE, attempt, described, result

EXAMPLES = os.path.abspath(os.path.join(HERE, os.pardir, os.pardir, "examples", "fraud_detection", "dags"))
GOLDEN = os.path.join(HERE, "golden")


def load(file, folder=EXAMPLES, **kwargs):
    found = load_file(folder, file, **kwargs)
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
@pytest.mark.parametrize("file", ["fraud_detection_training", "ml_pipeline", "everything"])
def test_the_description_is_the_golden_one(file, compat):
    folder = os.path.join(HERE, "dags") if file == "everything" else EXAMPLES
    check("%s.%s" % (file, compat), described(load(file + ".py", folder, compat=compat)))


# Lines and SHA-256 of the document's text, without indentation, which it has lost, and without empty lines.
AS_IN_THE_DOCUMENT = {
    "fraud_detection_training": (77, "f7f95cee00ee938934c95d9dc4252c96e08a52167c719b9fdbaa951b58ed786a"),
    "ml_pipeline": (19, "b262bf95c9e5a39c3185c944bbeeb1e3f1489d84fe5134eec403f20f22d3aa3d"),
}
# All that stands in front of it: what supplies the names that the document leaves undefined.
SUPPLIED = ("from ml_names import ", "from datetime import datetime")


@pytest.mark.parametrize("file", sorted(AS_IN_THE_DOCUMENT))
def test_the_examples_are_the_documents_text_word_for_word(file):
    with open(os.path.join(EXAMPLES, file + ".py"), encoding="utf-8") as handle:
        lines = [line.strip() for line in handle if line.strip()]
    while lines[0].startswith(SUPPLIED):
        lines.pop(0)
    found = len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert found == AS_IN_THE_DOCUMENT[file]


def test_the_dates_of_a_taskflow_signature_are_filled_as_text():
    dag = load("ml_pipeline.py")
    comms = attempt(dag, "prepare_data")
    assert comms.terminal["xcoms"][0]["value"] == "s3://bucket/features/2024-01-01 00:00:00+00:00/"
    assert result(dag, "train_model", comms) == {"run_id": "xxx", "f1": 0.924}
    pushed = {one["key"]: (one["value"], one["map_length"]) for one in comms.terminal["xcoms"]}
    assert pushed == {"run_id": ("xxx", -1), "f1": (0.924, -1), "return_value": ({"run_id": "xxx", "f1": 0.924}, 2)}


def test_the_metrics_decide_the_promotion(caplog):
    caplog.set_level(logging.INFO)
    dag = load("ml_pipeline.py")
    comms = attempt(dag, "prepare_data")
    attempt(dag, "train_model", comms)
    assert attempt(dag, "promote_if_good", comms).terminal["type"] == "SucceedTask"
    assert "promoting the model of tracking run xxx to Staging" in caplog.text


def test_the_pods_of_the_pipeline_run_as_processes_with_rendered_arguments(tmp_path, capfd):
    for name in ("prepare_data", "train", "promote_model"):
        (tmp_path / (name + ".py")).write_text("import sys; print(sys.argv)")
    pods = {"mode": "process", "gpus": 0, "images": {"ml-pipeline*": {"dir": str(tmp_path)}}}
    dag = load("fraud_detection_training.py")
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


def test_the_gate_that_fails_calls_back_with_the_exception(monkeypatch, caplog):
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
    monkeypatch.delenv("SLACK_WEBHOOK_URL", raising=False)
    comms = attempt(load("fraud_detection_training.py"), "quality_gate")
    reason = "ValueError: Model quality too low: F1=0.500 < 0.90"
    assert {key: comms.terminal[key] for key in ("type", "reason", "callbacks")} == {
        "type": "RetryTask", "reason": reason, "callbacks": ["on_failure_callback"]}
    assert "quality_gate failed on try 1 of run r1: Model quality too low: F1=0.500 < 0.90" in caplog.text
    assert [message["type"] for message in comms.sent][-2:] == ["RetryTask", "CallbacksDone"]
