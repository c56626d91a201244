package app_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

const producers = `
from airflow.sdk import DAG, Asset, AssetAlias, asset, task

@asset(schedule=None, uri="s3://lake/raw", group="lake")
def raw(outlet_events):
    outlet_events[Asset("raw", "s3://lake/raw")].extra["rows"] = 3
    return "the value"

with DAG("finds", schedule=None):
    @task(outlets=[AssetAlias("found")])
    def find(outlet_events):
        outlet_events[AssetAlias("found")].add(Asset("new", "s3://lake/new"), extra={"by": "find"})
    find()
`

const consumers = `
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow.operators.bash import BashOperator

RAW = Asset("raw", "s3://lake/raw")

with DAG("both", schedule=(RAW & AssetAlias("found"))):
    shown = BashOperator(task_id="shown", bash_command="echo {{ (triggering_asset_events.values() | first | first).source_run_id }}"
                         "/{{ (triggering_asset_events.values() | first | first).source_dag_run.run_type }}")

    @task(inlets=[RAW], outlets=[Asset("clean")])
    def check(triggering_asset_events, inlet_events, ti, dag_run, **context):
        assert dag_run.logical_date is None and dag_run.run_type == "asset_triggered", dag_run.run_type
        raw, = triggering_asset_events[RAW]
        assert raw.extra == {"rows": 3}, raw.extra
        assert raw.source_task_instance.xcom_pull() == "the value"
        new, = triggering_asset_events[AssetAlias("found")]
        assert (new.asset.name, new.extra) == ("new", {"by": "find"}), new
        assert [event.extra["rows"] for event in inlet_events[RAW]] == [3], list(inlet_events[RAW])
        assert ti.xcom_pull(task_ids="shown") == raw.source_run_id + "/manual", ti.xcom_pull(task_ids="shown")

    shown >> check()

with DAG("after", schedule=Asset("clean")):
    BashOperator(task_id="last", bash_command="true")
`

func TestAssetsStartRunsOfDAGsInOtherFiles(t *testing.T) {
	cfg := newConfig(t)
	writeDAG(t, cfg, "producers.py", producers)
	writeDAG(t, cfg, "consumers.py", consumers)
	s := start(t, cfg)
	s.trigger("raw", "r1")
	s.wait("raw", "r1", "success")
	s.trigger("finds", "f1")
	s.wait("finds", "f1", "success")
	for _, id := range []string{"both", "after"} {
		s.wait(id, s.onlyRun(id), "success")
	}
}

// onlyRun waits until a DAG has one run and returns its id.
func (s *server) onlyRun(dagID string) (id string) {
	s.t.Helper()
	await(s.t, "a run of "+dagID, func() bool {
		code, body := s.call("GET", "/api/v2/dags/"+dagID+"/dagRuns", "")
		var out struct {
			Runs []struct {
				ID string `json:"dag_run_id"`
			} `json:"dag_runs"`
		}
		if code != http.StatusOK || json.Unmarshal([]byte(body), &out) != nil {
			s.t.Fatalf("%d %s", code, body)
		}
		if len(out.Runs) == 1 {
			id = out.Runs[0].ID
		}
		return id != ""
	})
	return id
}
