package app_test

import (
	"net/http"
	"strings"
	"testing"
)

const timetables = `
from datetime import datetime, timedelta, timezone
from airflow.sdk import DAG, task
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

class EveryTenDays(Timetable):
    def infer_manual_data_interval(self, *, run_after):
        return DataInterval(run_after - timedelta(days=10), run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        last = last_automated_data_interval
        start = restriction.earliest if last is None else last.end
        if start > restriction.latest:
            return None
        return DagRunInfo.interval(start, start + timedelta(days=10))

class Broken(Timetable):
    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        raise LookupError("no calendar")

START = datetime(2024, 1, 1, tzinfo=timezone.utc)

with DAG("tens", schedule=EveryTenDays(), start_date=START, end_date=START + timedelta(days=30), catchup=True):
    @task
    def work(data_interval_start=None, data_interval_end=None):
        assert data_interval_end - data_interval_start == timedelta(days=10)
    work()

with DAG("broken", schedule=Broken(), start_date=START):
    pass
`

func TestATimetableOfTheFilesOwnIsAskedInItsProcess(t *testing.T) {
	cfg := newConfig(t)
	writeDAG(t, cfg, "timetables.py", timetables)
	s := start(t, cfg)
	for _, date := range []string{"2024-01-11", "2024-01-21", "2024-01-31", "2024-02-10"} {
		s.wait("tens", "scheduled__"+date+"T00:00:00+00:00", "success")
	}
	code, body := s.call("POST", "/api/v2/dags/tens/dagRuns", `{"dag_run_id": "by_hand", "logical_date": "2024-06-11T00:00:00Z"}`)
	if code != http.StatusOK || !strings.Contains(body, `"data_interval_start":"2024-06-01T00:00:00Z"`) {
		t.Errorf("a run by hand: %d %s", code, body)
	}
	s.wait("tens", "by_hand", "success")
	await(t, "the fault of the broken timetable", func() bool {
		code, body := s.call("GET", "/api/v2/dagWarnings?dag_id=broken", "")
		return code == http.StatusOK && strings.Contains(body, "Broken of DAG broken failed: LookupError: no calendar")
	})
}
