"""Large XCom values travel as files."""

import hashlib
import json
import os

import pytest

from airflow import DAG
from airflow.operators.python import PythonOperator
from ostro import largexcom
from ostro.exceptions import CommsError
from ostro.localcomms import LocalComms
from support import START, attempt

VALUES = {
    "text": "é\"\n" * 200_000, "numbers": list(range(200_000)), "floats": [number / 7 for number in range(50_000)],
    "records": [{"id": number, "name": "n%d" % number} for number in range(20_000)], "lone surrogate": "\udc80" * 100_000,
    "nested": {"a": {"b": [(1, 2)] * 50_000}},
}


class Comms(LocalComms):
    """Keeps values in files, like the control plane."""

    by_file = True

    def __init__(self, folder):
        super().__init__()
        self.folder, self.largest = str(folder), 0

    def request(self, message):
        self._measure(message)
        return super().request(message)

    def send(self, message):
        self._measure(message)
        return super().send(message)

    def _measure(self, message):
        self.largest = max(self.largest, len(json.dumps(message)))

    def _SetXComFile(self, message):
        assert "value" not in message and message["file"] == os.path.basename(message["file"])
        with open(os.path.join(self.folder, "scratch", message["file"]), "rb") as given:
            data = given.read()
        name = hashlib.sha256(data).hexdigest()
        os.makedirs(os.path.join(self.folder, name[:2]), exist_ok=True)
        with open(os.path.join(self.folder, name[:2], name[2:]), "wb") as kept:
            kept.write(data)
        return super()._SetXCom(dict(message, value=os.path.join(self.folder, name[:2], name[2:])))

    def _GetXCom(self, message):
        answer = super()._GetXCom(message)
        value = answer["value"]
        if not isinstance(value, str) or not value.startswith(self.folder):
            return answer
        if message.get("files"):
            return dict(answer, value=None, file=value)
        with open(value) as kept:
            return dict(answer, value=json.load(kept))


def dag_of(value, seen):
    def push(ti):
        ti.xcom_push("pushed", value)

    def pull(ti):
        seen.extend([ti.xcom_pull(task_ids="returns"), ti.xcom_pull(task_ids="pushes", key="pushed")])

    with DAG("d", start_date=START) as dag:
        given = PythonOperator(task_id="returns", python_callable=lambda: value)
        PythonOperator(task_id="takes", python_callable=lambda taken: seen.append(taken), op_args=[given.output])
        PythonOperator(task_id="pushes", python_callable=push)
        PythonOperator(task_id="pulls", python_callable=pull)
    return dag


def run(tmp_path, comms, value):
    seen = []
    dag = dag_of(value, seen)
    for name in ("returns", "pushes", "pulls"):
        attempt(dag, name, comms, scratch=str(tmp_path / "scratch"))
        assert comms.terminal["type"] == "SucceedTask", comms.terminal
    return seen


@pytest.mark.parametrize("name", VALUES)
def test_a_large_value_passes_through_no_message_and_comes_back(tmp_path, name):
    comms = Comms(tmp_path)
    assert run(tmp_path, comms, VALUES[name]) == [VALUES[name]] * 2
    attempt(dag_of(VALUES[name], seen := []), "takes", comms, scratch=str(tmp_path / "scratch"))
    assert seen == [VALUES[name]] and len(json.dumps(comms.of("SetRenderedFields")[-1])) < 50_000
    assert comms.largest < 100_000 and os.listdir(str(tmp_path / "scratch")) == []
    kept = [message for message in comms.asked if message["type"] == "SetXComFile"]
    assert [one["map_length"] for one in kept] == [len(VALUES[name]) if name not in ("text", "lone surrogate") else -1] * 2


def test_a_small_value_goes_into_the_message(tmp_path):
    comms = Comms(tmp_path)
    assert run(tmp_path, comms, {"a": [1, 2]}) == [{"a": [1, 2]}] * 2
    assert not os.path.exists(str(tmp_path / "scratch"))


@pytest.mark.parametrize("hinders", ["an older server", "a full disk"])
def test_where_no_file_can_be_a_large_value_goes_into_the_message(tmp_path, monkeypatch, hinders):
    class Older(Comms):
        def _SetXComFile(self, message):
            raise CommsError("NOT_SUPPORTED", "the control plane does not know the request")

    def refuses(*args, **kwargs):
        raise OSError(28, "No space left on device")

    comms = Older(tmp_path)
    if hinders == "a full disk":
        comms = Comms(tmp_path)
        monkeypatch.setattr(largexcom.os, "makedirs", refuses)
    assert run(tmp_path, comms, VALUES["numbers"]) == [VALUES["numbers"]] * 2


def test_a_file_that_was_changed_is_not_believed(tmp_path):
    comms, seen = Comms(tmp_path), []
    dag = dag_of(VALUES["numbers"], seen)
    attempt(dag, "returns", comms, scratch=str(tmp_path / "scratch"))
    (path,) = comms.xcoms.values()
    with open(path, "w") as kept:
        kept.write("[1]")
    attempt(dag, "pulls", comms, scratch=str(tmp_path / "scratch"))
    assert seen[0] == [1] and [message.get("files") for message in comms.asked[-3:-1]] == [True, None]


def test_of_large_arguments_the_beginning_is_shown(tmp_path):
    with DAG("d", start_date=START) as dag:
        PythonOperator(task_id="t", python_callable=lambda *_: None,
                       op_args=[list(range(5000)), {"a": (1, 2)}, {number: number for number in range(5000)}])
        PythonOperator(task_id="small", python_callable=lambda *_: None, op_args=[[1, (2,)], {3}, {"a": {"b": []}}])
    shown = attempt(dag, "t").of("SetRenderedFields")[0]["rendered_fields"]["op_args"]
    assert shown[0][-2:] == [998, "… (4001 more)"] and shown[1] == "… (2 more)" and len(shown) == 2
    shown = attempt(dag, "small").of("SetRenderedFields")[0]["rendered_fields"]["op_args"]
    assert shown == [[1, [2]], [3], {"a": {"b": []}}]
