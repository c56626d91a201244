package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/config"
)

const features = `
import os
from datetime import datetime, timedelta
from airflow import DAG
from airflow.decorators import task
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator


def mark(name):
    with open(os.path.join(os.environ["MARKS"], name), "a") as f:
        f.write("x")


def on_failure(context):
    mark("task_failed_" + context["ti"].task_id)


def dag_failed(context):
    mark("dag_failed_" + context["dag_run"].run_id)


def flaky(ti, **context):
    if ti.try_number < 2:
        raise ValueError("first try")


def check(ti, **context):
    assert ti.xcom_pull(task_ids="bash") == "2024-01-01", ti.xcom_pull(task_ids="bash")
    Variable.set("answer", "42")
    assert Variable.get("answer") == "42"
    ti.xcom_push(key="pushed", value={"a": [1, 2]})


with DAG("features", schedule=None, start_date=datetime(2024, 1, 1), on_success_callback=lambda c: mark("dag_ok")):
    start = EmptyOperator(task_id="start")
    bash = BashOperator(task_id="bash", bash_command="echo {{ ds }}")
    retry = PythonOperator(task_id="retry", python_callable=flaky, retries=1, retry_delay=timedelta(seconds=0))
    checked = PythonOperator(task_id="check", python_callable=check)
    trigger = TriggerDagRunOperator(task_id="trigger", trigger_dag_id="fails", trigger_run_id="from_features")

    @task
    def numbers():
        return [1, 2, 3]

    @task
    def square(n):
        return n * n

    @task
    def total(values):
        assert sum(values) == 14, list(values)

    start >> bash >> checked >> retry >> trigger
    total(square.expand(n=numbers()))

with DAG("fails", schedule=None, start_date=datetime(2024, 1, 1), on_failure_callback=dag_failed,
         default_args={"on_failure_callback": on_failure}):
    PythonOperator(task_id="boom", python_callable=lambda: 1 / 0) >> EmptyOperator(task_id="never")
`

func TestWhatDAGFilesUseWorksEndToEnd(t *testing.T) {
	cfg := newConfig(t)
	marks := t.TempDir()
	cfg.Tasks.Env = map[string]string{"MARKS": marks}
	writeDAG(t, cfg, "features.py", features)
	s := start(t, cfg)
	s.trigger("features", "r1")
	s.wait("features", "r1", "success")
	s.wait("fails", "from_features", "failed")
	for _, name := range []string{"dag_ok", "task_failed_boom", "dag_failed_from_features"} {
		await(t, "the callback "+name, func() bool { b, err := os.ReadFile(filepath.Join(marks, name)); return err == nil && len(b) > 0 })
	}
	code, body := s.call("GET", "/api/v2/dags/features/dagRuns/r1/taskInstances/check/xcomEntries/pushed", "")
	if code != http.StatusOK || !strings.Contains(body, `"a"`) {
		t.Errorf("%d %s", code, body)
	}
	_, body = s.call("GET", "/api/v2/dags/fails/dagRuns/from_features/taskInstances", "")
	if !strings.Contains(body, "upstream_failed") {
		t.Errorf("instances: %s", body)
	}
	for _, name := range []string{"task_failed_boom", "dag_failed_from_features", "dag_ok"} {
		if b, _ := os.ReadFile(filepath.Join(marks, name)); string(b) != "x" {
			t.Errorf("callback %s ran %d times", name, len(b))
		}
	}
}

func writeDAG(t *testing.T, cfg config.Config, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cfg.DAGs, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
