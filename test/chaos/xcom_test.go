package chaos

import (
	"strings"
	"testing"
	"time"
)

const valuesDAG = `
from datetime import datetime
from airflow import DAG
from airflow.decorators import task

class Odd:
    def __repr__(self):
        return "<odd>"

with DAG("values", schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0}):
    @task
    def large():
        return "0123456789" * 1_000_000

    @task
    def measures(value):
        assert value == "0123456789" * 1_000_000
        return len(value)

    @task
    def strange():
        return {"nan": float("nan"), "inf": float("-inf"), "huge": 2 ** 200, "text": "ünï\u2028 \U0001f600 \x00",
                "bytes": b"\xff\x00", "tuple": (1, 2), "set": {3}, "lone": "\ud800"}

    @task
    def compares(v):
        assert v["nan"] != v["nan"] and v["inf"] == float("-inf"), v
        assert v["huge"] == 2 ** 200 and v["text"] == "ünï\u2028 \U0001f600 \x00", v
        assert v["bytes"] == b"\xff\x00" and v["tuple"] == (1, 2) and v["set"] == {3}, v
        assert v["lone"] == "\ud800", v

    @task
    def unserialisable():
        return {"deep": [1, Odd()]}

    @task
    def bytes_in_the_error():
        raise ValueError(b"caf\xe9 \xff", "\ud800 ümlaut\x00")

    measures(large())
    compares(strange())
    unserialisable()
    bytes_in_the_error()
`

func TestValuesOfAllSizesAndKindsPassBetweenTasksOrFailInWords(t *testing.T) {
	in := newInstallation(t, hostileConfiguration, map[string]string{"values.py": valuesDAG})
	in.trigger("values", "r")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("values", "r") == "failed" })
	failures := map[string][]string{
		"unserialisable":     {"Odd", "deep"},
		"bytes_in_the_error": {"ValueError", "caf", "ümlaut"},
	}
	for _, ti := range in.taskInstances("values", "r") {
		words, fails := failures[ti.TaskID]
		if want := map[bool]string{true: "failed", false: "success"}[fails]; ti.State != want {
			t.Errorf("%s ended as %s, want %s: %s", ti.TaskID, ti.State, want, ti.Ostro.Reason)
		}
		for _, w := range words {
			if !strings.Contains(ti.Ostro.Reason, w) {
				t.Errorf("the reason of %s does not say %q: %q", ti.TaskID, w, ti.Ostro.Reason)
			}
		}
	}
	for _, path := range []string{"strange/xcomEntries/return_value", "large/xcomEntries/return_value?stringify=true", "measures/xcomEntries/return_value"} {
		var entry map[string]any
		if err := in.call("GET", "/api/v2/dags/values/dagRuns/r/taskInstances/"+path, nil, &entry); err != nil {
			t.Errorf("%s: %.300s", path, err)
		}
	}
}
