"""What a program that a task has started is told of what the task's file was answered."""

import json
import os

import pytest

from ostro import dagmodule
from ostro.comms import RemoteError

QUESTION = {"type": "GetVariable", "key": "factor"}
ANSWERS = [[QUESTION, {"type": "VariableResult", "key": "factor", "value": "10"}, None]]


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Publish the answers and return the place that the environment names."""
    monkeypatch.setenv(dagmodule.VARIABLE, "")

    def publish(answers=ANSWERS):
        dagmodule.publish(str(tmp_path), "dag.py", ["airflow3", {}], answers)
        return json.loads(os.environ[dagmodule.VARIABLE])

    yield publish
    publish([])


def asked(place):
    """Return what a program is answered."""
    return dagmodule._Replay(dagmodule._answers_of(place)).request(QUESTION)["value"]


def number_of(place):
    return int(place["answers"].rpartition("/")[2])


def test_the_answers_are_out_of_reach_of_who_closes_low_descriptors(publish):
    place = publish()
    assert number_of(place) >= 512 and asked(place) == "10"


def test_a_program_of_another_user_is_told_that_only_the_task_can_ask(publish, tmp_path):
    place = publish()
    if os.getuid() != 0:  # this user cannot become another; what it cannot read comes near
        place["answers"] = str(tmp_path / "theirs")
        os.close(os.open(place["answers"], os.O_CREAT, 0))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            asked(place)
        except RemoteError as fault:
            status = 0 if "only the task can ask" in str(fault) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_file_that_has_taken_the_answers_number_is_neither_read_nor_closed(publish, tmp_path):
    place = publish()
    (tmp_path / "mine").write_text("[[1, 2")
    mine = os.open(tmp_path / "mine", os.O_RDONLY)
    os.dup2(mine, number_of(place))
    with pytest.raises(RemoteError, match="only the task can ask"):
        asked(place)
    publish()
    assert os.read(number_of(place), 1) == b"["
    os.close(number_of(place))
    os.close(mine)


def test_answers_that_are_gone_are_not_missed_until_they_are_asked_for(publish):
    place = publish()
    publish([])
    assert dagmodule._answers_of(place) == []
