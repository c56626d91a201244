package airflowclient

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ostro.dev/ostro/test/program"
)

const dagFile = `from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule="0 2 * * *", start_date=datetime(2024, 1, 1), catchup=False, is_paused_upon_creation=True, tags=["ml"], params={"depth": 3})
def etl():
    @task
    def get():
        print("got it")
        return {"f1": 0.92, "who": "it's me"}

    @task
    def double(n):
        return 2 * n

    @task(retries=1, retry_delay=0.1)
    def fail(v):
        raise ValueError("not good enough")

    double.expand(n=[1, 2])
    fail(get())

etl()
`

const assetFile = `from datetime import datetime
from airflow.sdk import DAG, Asset, AssetAlias, task

RAW = Asset("raw", "s3://raw", group="lake", extra={"owner": "me"})

with DAG("maker", schedule=None, is_paused_upon_creation=False):
    @task(outlets=[RAW, AssetAlias("found")])
    def make():
        pass
    make()

with DAG("reader", schedule=RAW & Asset("other"), is_paused_upon_creation=False):
    @task(inlets=[RAW])
    def read():
        pass
    read()

with DAG("daily", schedule="@daily", start_date=datetime(2024, 1, 1), end_date=datetime(2024, 12, 1), is_paused_upon_creation=False):
    @task
    def work():
        pass
    work()
`

func TestTheGenuineAirflowClientCanUseTheAPI(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(root, ".venvs", "airflow-client", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("no apache-airflow-client here: scripts/python-env airflow-client makes its environment")
	}
	home := t.TempDir()
	binary := filepath.Join(home, "ostro")
	program.Build(t, binary)
	if err := os.MkdirAll(filepath.Join(home, "dags"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"dags/etl.py": dagFile, "dags/assets.py": assetFile, "dags/broken.py": "from airflow import DAG\nimport nothing_like_this  # dag\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	url, token := program.Serve(t, binary, home)
	check := exec.CommandContext(t.Context(), python, "check.py", url, token)
	out, err := check.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("check.py: %v", err)
	}
}
