"""Timetables that authors write themselves."""

import datetime

import pytest

from airflow.exceptions import AirflowTimetableInvalid
from ostro import evaluation
from ostro.dag import DAG
from ostro.timetables import CronTriggerTimetable, DagRunInfo, DataInterval, Timetable
from support import described, load

FILE = """
from datetime import timedelta
from airflow.sdk import DAG, Asset
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

class Workdays(Timetable):
    active_runs_limit = 2

    def __init__(self, skip=("Sat", "Sun")):
        self.skip = list(skip)

    def serialize(self):
        return {"skip": self.skip}

    @property
    def summary(self):
        return "workdays"

    def infer_manual_data_interval(self, *, run_after):
        return DataInterval(run_after - timedelta(days=1), run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        assert isinstance(restriction, TimeRestriction)
        if last_automated_data_interval is not None:
            start = last_automated_data_interval.end
        else:
            start = restriction.earliest
        while start.strftime("%a") in self.skip:
            start = start + timedelta(days=1)
        if restriction.latest is not None and start > restriction.latest:
            return None
        return DagRunInfo.interval(start, start + timedelta(days=1))

with DAG("work", schedule=Workdays(), catchup=True):
    pass
with DAG("either", schedule=AssetOrTimeSchedule(timetable=Workdays(["Sun"]), assets=[Asset("a")])):
    pass
"""


def test_a_class_of_the_authors_is_described_and_asked(tmp_path):
    dags = load(tmp_path, FILE).dags
    schedule = described(dags["work"])["schedule"]
    assert schedule == {"kind": "custom", "expression": "workdays", "custom_args": {"skip": ["Sat", "Sun"]},
                        "custom": schedule["custom"], "active_runs_limit": 2}
    assert schedule["custom"].endswith(".Workdays")
    question = {"dag_id": "work", "earliest": "2024-01-04T00:00:00Z", "latest": "2024-01-09T00:00:00Z", "catchup": True,
                "limit": 16}
    found = evaluation.answer(dags["work"], question)
    assert [(one["start"][:10], one["run_after"][:10]) for one in found["slots"]] == [
        ("2024-01-04", "2024-01-05"), ("2024-01-05", "2024-01-06"), ("2024-01-08", "2024-01-09"),
        ("2024-01-09", "2024-01-10")]
    assert found["complete"]
    more = evaluation.answer(dags["work"], dict(question, limit=1, after={"start": "2024-01-04T00:00:00Z",
                                                                         "end": "2024-01-05T00:00:00Z"}))
    assert [one["start"] for one in more["slots"]] == ["2024-01-05T00:00:00Z"] and not more["complete"]
    by_hand = evaluation.answer(dags["work"], {"manual": "2024-01-04T00:00:00Z"})
    assert by_hand["manual"] == {"start": "2024-01-03T00:00:00Z", "end": "2024-01-04T00:00:00Z"}
    assert described(dags["either"])["schedule"]["time"]["kind"] == "custom"
    sixes = evaluation.answer(dags["either"], dict(question, earliest="2024-01-06T00:00:00Z", limit=2))
    assert [one["start"][:10] for one in sixes["slots"]] == ["2024-01-06", "2024-01-08"]


class Stuck(Timetable):
    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        return DagRunInfo.exact(datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))


class Naive(Timetable):
    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        return DagRunInfo.exact(datetime.datetime(2024, 1, 1))


class Derived(CronTriggerTimetable):
    def next_dagrun_info(self, **question):
        return super().next_dagrun_info(**question)


@pytest.mark.parametrize("timetable, says", [
    (Stuck(), "does not go on"), (Naive(), "needs a time zone"), (Derived("@daily"), "computed by the server")])
def test_what_goes_wrong_is_told(timetable, says):
    found = evaluation.answer(DAG("d", schedule=timetable), {"limit": 2})
    assert says in found["error"] and "Traceback" in found["traceback"]


def test_a_class_derived_from_one_of_airflows_is_the_authors_when_it_says_dates_itself():
    assert Derived("@daily").wire()["kind"] == "custom"

    class Named(CronTriggerTimetable):
        description = "mine"

    assert Named("@daily").wire()["kind"] == "cron_trigger"


def test_a_class_without_dates_is_refused():
    class Nothing(Timetable):
        pass

    with pytest.raises(AirflowTimetableInvalid, match="no method next_dagrun_info"):
        Nothing().wire()


def test_answers_come_from_a_child_that_is_ended_in_time(monkeypatch):
    class Slow(Timetable):
        def next_dagrun_info(self, *, last_automated_data_interval, restriction):
            import time

            time.sleep(60)

    class Gone(Timetable):
        def next_dagrun_info(self, *, last_automated_data_interval, restriction):
            import os

            os._exit(3)

    monkeypatch.setattr(evaluation, "LIMIT", 0.2)
    asked = evaluation.ask(DAG("d", schedule=Slow()), {"limit": 1}, lambda: None)
    assert "did not answer within" in asked["error"]
    assert "without an answer" in evaluation.ask(DAG("e", schedule=Gone()), {"limit": 1}, lambda: None)["error"]
    found = evaluation.ask(DAG("f", schedule=Stuck()), {"limit": 1}, lambda: None)
    assert found["slots"][0]["start"] == "2024-01-01T00:00:00Z"


def test_intervals_are_tuples_as_in_airflow():
    start, end = DataInterval.exact(1)
    assert start == end == 1 and DagRunInfo(2, None).logical_date is None

