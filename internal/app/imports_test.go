package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const readsAtImport = `
from datetime import datetime
from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.python import PythonOperator

env = Variable.get("env")
secret = Variable.get("api_key")
db = BaseHook.get_connection("warehouse")

with DAG("reads_" + env, schedule=None, start_date=datetime(2024, 1, 1), catchup=False):
    PythonOperator(task_id="show", python_callable=lambda: print("saw", env, secret, db.host, db.password))
`

func TestADAGFileReadsVariablesAndConnectionsAtItsTopLevelAndFollowsTheirChanges(t *testing.T) {
	cfg := newConfig(t)
	s := start(t, cfg)
	s.writeDAG("reads.py", readsAtImport)
	await(t, "the import error that names the variable", func() bool {
		_, body := s.call("GET", "/api/v2/importErrors", "")
		return strings.Contains(body, "Variable env does not exist")
	})
	put := func(method, path, body string) {
		t.Helper()
		if code, answer := s.call(method, path, body); code != http.StatusOK && code != http.StatusCreated && code != http.StatusNoContent {
			t.Fatalf("%s %s: %d %s", method, path, code, answer)
		}
	}
	put("POST", "/api/v2/variables", `{"key": "env", "value": "dev"}`)
	put("POST", "/api/v2/variables", `{"key": "api_key", "value": "key-98765"}`)
	put("POST", "/api/v2/connections", `{"connection_id": "warehouse", "conn_type": "postgres", "host": "db.example", "password": "pass-43210"}`)
	exists := func(id string) func() bool {
		return func() bool { code, _ := s.call("GET", "/api/v2/dags/"+id, ""); return code == http.StatusOK }
	}
	show := func(id string) {
		t.Helper()
		await(t, "the DAG "+id, exists(id))
		put("PATCH", "/api/v2/dags/"+id, `{"is_paused": false}`)
		s.trigger(id, "r1")
		s.wait(id, "r1", "success")
		log, err := os.ReadFile(filepath.Join(cfg.Home, "logs", "dag_id="+id, "run_id=r1", "task_id=show", "attempt=1.log"))
		if want := "saw " + strings.TrimPrefix(id, "reads_") + " *** db.example ***"; err != nil || !strings.Contains(string(log), want) {
			t.Errorf("the log of %s lacks %q: %s %v", id, want, log, err)
		}
	}
	show("reads_dev")
	put("PATCH", "/api/v2/variables/env", `{"key": "env", "value": "prod"}`)
	show("reads_prod")
	await(t, "the DAG of the former value to go", func() bool {
		_, body := s.call("GET", "/api/v2/dags", "")
		return !strings.Contains(body, `"reads_dev"`) && strings.Contains(body, `"reads_prod"`)
	})
	put("DELETE", "/api/v2/connections/warehouse", "")
	await(t, "the import error that names the connection", func() bool {
		_, body := s.call("GET", "/api/v2/importErrors", "")
		return strings.Contains(body, "The conn_id `warehouse` isn't defined")
	})
	if !exists("reads_prod")() {
		t.Error("a file that cannot be imported any more loses its last good DAG")
	}
}
