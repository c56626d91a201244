"""A command that leaves its XCom where a pod would, which as a local process is a place all tasks share."""

import logging

import pytest
from test_pod import pod, told

from ostro.operators import pod as operator


@pytest.fixture
def shared(tmp_path, monkeypatch):
    path = tmp_path / "return.json"
    monkeypatch.setattr(operator, "SIDECAR_PATH", str(path))
    return path


def run(path, text, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        comms = pod(code="open(%r, 'w').write(%r)" % (str(path), text), do_xcom_push=True)
    return comms, [record.getMessage() for record in caplog.records if "XCom" in record.getMessage()]


def test_an_xcom_written_where_a_pod_has_it_is_told_and_not_read(shared, caplog):
    for text in ("[1]", "[12]"):  # made, then changed
        comms, logged = run(shared, text, caplog)
        assert comms.terminal["type"] == "SucceedTask" and "xcoms" not in comms.terminal
        [notice] = told(comms)
        assert notice.startswith("no XCom: %s was written while the command ran" % shared)
        assert "Write to the path in the environment variable OSTRO_XCOM_PATH" in notice
        assert logged == [notice]


def test_what_another_command_left_there_is_not_held_against_this_one(shared, caplog, tmp_path):
    shared.write_text("[1]")
    comms, logged = run(tmp_path / "other", "[2]", caplog)
    assert (told(comms), logged) == ([], [])
    both = "import os; [open(p, 'w').write('[3]') for p in (%r, os.environ['OSTRO_XCOM_PATH'])]" % str(shared)
    comms = pod(code=both, do_xcom_push=True)
    assert told(comms) == [] and comms.terminal["xcoms"][0]["value"] == [3]
