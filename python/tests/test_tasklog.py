"""What a task logs, and what is logged of it."""

import logging
import logging.config
import threading

import pytest
from test_runner import end

from airflow.exceptions import AirflowSkipException
from ostro.localcomms import LocalComms


class Comms(LocalComms):
    takes_logs = True


@pytest.fixture
def logging_as_it_was():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.disable(logging.NOTSET)
    for logger in [root.manager.loggerDict[name] for name in root.manager.loggerDict if name.startswith("airflow")]:
        logger.disabled, logger.level = False, logging.NOTSET


def test_records_of_the_logging_framework_travel_with_their_traceback(logging_as_it_was):
    def function():
        logging.getLogger("mine").warning("careful %d", 3)
        raise ValueError("x")

    comms = end(function, comms=Comms())
    records = comms.of("LogRecord")
    assert [(r["level"], r["logger"], r["event"]) for r in records] == [
        ("warning", "mine", "careful 3"), ("error", "airflow.task", "Task failed with exception")]
    assert "test_tasklog.py" in records[1]["error"] and "ostro/runner.py" not in records[1]["error"]


@pytest.mark.parametrize("silenced", [
    lambda: logging.config.dictConfig({"version": 1, "root": {"handlers": [], "level": "INFO"}}),
    lambda: logging.disable(logging.CRITICAL), lambda: logging.getLogger("airflow.task").setLevel(100),
])
def test_the_traceback_of_a_failure_is_logged_whatever_the_task_has_made_of_logging(silenced, logging_as_it_was):
    def function():
        silenced()
        raise ValueError("wanted")

    comms = end(function, comms=Comms())
    (record,) = comms.of("LogRecord")
    assert record["event"] == "Task failed with exception" and "ValueError: wanted" in record["error"]


@pytest.mark.parametrize("silenced", [
    lambda: logging.config.dictConfig({"version": 1, "root": {"handlers": [], "level": "INFO"}}),
    lambda: logging.getLogger("airflow").setLevel(logging.ERROR),
])
def test_what_the_runtime_says_of_a_task_is_logged_whatever_the_task_has_made_of_logging(silenced, logging_as_it_was):
    def function():
        silenced()
        return {"a": 1}

    (record,) = end(function, comms=Comms()).of("LogRecord")
    assert record["event"] == "Done. Returned value was: {'a': 1}" and record["level"] == "info"

    def skips():
        silenced()
        raise AirflowSkipException("not today")

    assert [one["event"] for one in end(skips, comms=Comms()).of("LogRecord")] == ["Task is skipped: not today"]


def test_a_large_value_is_not_logged_whole(logging_as_it_was):
    comms = end(lambda: "x" * 5_000_000, comms=Comms())
    (record,) = comms.of("LogRecord")
    assert len(record["event"]) < 100_000 and record["event"].endswith("more)")
    assert comms.terminal["xcoms"][0]["value"] == "x" * 5_000_000


def test_what_on_kill_logs_while_a_record_is_made_is_not_lost(logging_as_it_was):
    class Interrupted:
        def __str__(self):
            logging.getLogger("kills").info("on_kill was here")  # as the handler of a signal does that comes here
            return "first"

    class Endless:
        def __str__(self):
            logging.getLogger("kills").info("%s", self)
            return "again"

    def function():
        logging.getLogger("kills").info("%s", Interrupted())
        logging.getLogger("kills").info("%s", Endless())

    events = [one["event"] for one in end(function, comms=Comms()).of("LogRecord")]
    assert events[:2] == ["on_kill was here", "first"] and 2 < len(events) < 10


def test_a_traceback_is_waited_for_and_other_records_are_not(logging_as_it_was):
    class Waiting(Comms):
        answers_records = True

        def _LogRecord(self, message):
            return {"type": "OKResponse", "ok": True}

    def function():
        logging.getLogger("waits").info("before")
        raise ValueError("x")

    comms = end(function, comms=Waiting())
    assert [one["event"] for one in comms.of("LogRecord")] == ["before"]
    (record,) = [one for one in comms.asked if one["type"] == "LogRecord"]
    assert record["event"] == "Task failed with exception" and record["behind"]


def test_what_another_thread_logs_while_a_traceback_is_reported_is_not_waited_for(logging_as_it_was):
    class Waiting(Comms):
        answers_records = True

        def _LogRecord(self, message):
            return {"type": "OKResponse", "ok": True}

    class Between(logging.Filter):
        """Has another thread log between the call of the runtime and its record."""

        def filter(self, record):
            if record.exc_info:
                thread = threading.Thread(target=logging.getLogger("other").info, args=("of the other thread",))
                thread.start()
                thread.join()
                logging.getLogger("same").info("of the filter")
            return True

    def function():
        logging.getLogger("airflow.task").addFilter(between)
        raise ValueError("x")

    between = Between()
    try:
        comms = end(function, comms=Waiting())
    finally:
        logging.getLogger("airflow.task").removeFilter(between)
    assert [one["event"] for one in comms.of("LogRecord")] == ["of the other thread", "of the filter"]
    assert [one["event"] for one in comms.asked if one["type"] == "LogRecord"] == ["Task failed with exception"]
