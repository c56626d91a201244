package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

const largeFile = `
from airflow import DAG
from airflow.operators.python import PythonOperator

with DAG("large", schedule=None) as dag:
    PythonOperator(task_id="fits", python_callable=lambda: "<" * (60 << 20), show_return_value_in_logs=False)
    PythonOperator(task_id="returned", python_callable=lambda: "x" * (65 << 20), show_return_value_in_logs=False)
    PythonOperator(task_id="pushed", python_callable=lambda ti: ti.xcom_push("table", "x" * (65 << 20)))
`

func TestAnXComThatFitsArrivesAndOneTooLargeIsRefusedInWords(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "large.py"), []byte(largeFile), 0o644); err != nil {
		t.Fatal(err)
	}
	f.serveAnswers(f.connect())
	do := func(id string) executor.Result {
		return f.do("", task(id), inFile("large.py"), func(a *executor.Attempt) {
			a.Startup.TI.DAGID, a.Startup.Context.DagRun.DAGID = "large", "large"
		})
	}
	if r := do("fits"); r.State != run.Success || len(r.XComs) != 1 || len(r.XComs[0].Value) != 60<<20+2 {
		t.Errorf("60 MiB: %s %q, %d XComs", r.State, r.Reason, len(r.XComs))
	}
	for id, what := range map[string]string{"returned": "what task 'returned' returned", "pushed": "the XCom 'table' of task 'pushed'"} {
		want := what + " has 65.0 MiB as JSON, and an XCom can have at most 63 MiB. Write the value to a file, for instance under s3://, and pass on its path"
		if r := do(id); r.State == run.Success || !r.Reported || !strings.Contains(r.Reason, want) {
			t.Errorf("%s: %s %q", id, r.State, r.Reason)
		}
	}
}
