package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// askingFile reads at its top level what many a DAG file does.
const askingFile = `
from datetime import datetime
from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.python import PythonOperator

env = Variable.get("environment")
region = Variable.get("region", default_var="eu")
token = Variable.get("api_token")
db = BaseHook.get_connection("warehouse")
print("imported with", token, db.password)

with DAG("asks_" + env, start_date=datetime(2024, 1, 1), schedule=None, catchup=False) as dag:
    PythonOperator(task_id="show", python_callable=lambda: print("saw", env, region, token, db.host, db.password))
`

// CallImport makes the recorder of these tests answer what files ask while they are imported.
func (s *sink) CallImport(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error) {
	return s.Call(ctx, "import of "+bundle, "", request)
}

// answers is a server with some variables and a connection.
func answers(_, _ string, request json.RawMessage) (json.RawMessage, error) {
	var r protocol.Request
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	if r.Type == "GetConnection" && r.ConnID == "warehouse" {
		return json.Marshal(protocol.ConnectionResult{Type: "ConnectionResult", ConnID: r.ConnID, ConnType: "postgres", Host: "db", Password: "pass-of-db"})
	}
	if r.Type == "GetConnection" && r.ConnID == "lake" {
		return json.Marshal(protocol.ConnectionResult{Type: "ConnectionResult", ConnID: r.ConnID, ConnType: "aws", Host: "lake",
			Password: "pa/ss of@lake", Extra: `{"region":"eu","aws_secret_access_key":"extra-of-lake"}`})
	}
	if value, ok := map[string]string{"environment": "prod", "api_token": "tok-1234", "tokens": `{"a":"leaf-of-tokens"}`,
		"settings": `{"password":"inner-of-settings"}`, "pem_secret": "line one of pem\nline two of pem"}[r.Key]; ok {
		return json.Marshal(map[string]string{"type": "VariableResult", "key": r.Key, "value": value})
	}
	if r.Type == "SetXComFile" { // as a server that does not know of it
		return nil, &protocol.Error{Code: protocol.CodeNotSupported, Message: "not known"}
	}
	return nil, &protocol.Error{Code: protocol.CodeVariableNotFound, Message: "there is no variable " + r.Key}
}

func askingFixture(t *testing.T, text string) *fixture {
	t.Helper()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "asks.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) serveAnswers(s *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answers
}

func TestAFileReadsVariablesAndConnectionsWhileItIsImported(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, askingFile)
	f.serveAnswers(f.connect())
	p := f.parse("asks.py")
	if len(p.Described.Errors) > 0 || len(p.Described.DAGs) != 1 || p.Described.DAGs[0].ID != "asks_prod" {
		t.Fatalf("described: %+v", p.Described)
	}
	if diff := cmp.Diff([]string{"api_token", "environment", "region"}, p.Described.Variables); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"warehouse"}, p.Described.Connections); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if p.Output != "imported with *** ***\n" {
		t.Errorf("output: %q", p.Output)
	}
	for _, isolation := range []string{"fork", "spawn"} {
		r := f.do("", task("show"), inFile("asks.py"), func(a *executor.Attempt) {
			a.Startup.TI.DAGID, a.Startup.Context.DagRun.DAGID = "asks_prod", "asks_prod"
			a.Isolation = map[string]string{"spawn": "spawn"}[isolation]
		})
		if r.State != run.Success || r.Isolation != isolation {
			t.Fatalf("%s: %+v", isolation, r)
		}
		if line := f.waitForLine(r.AttemptID, "saw"); line != "saw prod eu *** db ***" {
			t.Errorf("%s: %q", isolation, line)
		}
		if data, _ := os.ReadFile(f.logPath(r.AttemptID)); strings.Contains(string(data), "tok-1234") || strings.Contains(string(data), "pass-of-db") {
			t.Errorf("%s: a secret is in the log:\n%s", isolation, data)
		}
	}
}

func TestAVariableThatIsNotThereIsAnImportErrorAndRemembered(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, "from airflow import DAG\nfrom airflow.models import Variable\nVariable.get('nowhere')\n")
	f.serveAnswers(f.connect())
	p := f.parse("asks.py")
	if len(p.Described.Errors) != 1 || !strings.Contains(p.Described.Errors[0].Message, "Variable nowhere does not exist") || p.Described.Errors[0].Line != 3 {
		t.Errorf("errors: %+v", p.Described.Errors)
	}
	if !slices.Equal(p.Described.Variables, []string{"nowhere"}) {
		t.Errorf("variables: %q", p.Described.Variables)
	}
}

func TestAnImportThatGetsNoAnswerSaysWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, askingFile)
	f.connect() // a server that never answers
	p := f.parse("asks.py", func(r *workerapi.Parse) { r.TimeoutSeconds = 1.5 })
	want := `the import took longer than 1.5s and was ended; it was waiting for a server to tell it the variable "environment"`
	if len(p.Described.Errors) != 1 || p.Described.Errors[0].Message != want {
		t.Errorf("errors: %+v", p.Described.Errors)
	}
	if !slices.Equal(p.Described.Variables, []string{"environment"}) {
		t.Errorf("variables that would be a reason to import it again: %q", p.Described.Variables)
	}
}

func TestAnImportMayOnlyRead(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, "from airflow import DAG\nfrom airflow.models import Variable\nVariable.set('a', 'b')\n")
	f.serveAnswers(f.connect())
	p := f.parse("asks.py")
	if len(p.Described.Errors) != 1 || !strings.Contains(p.Described.Errors[0].Message, "PutVariable needs a running task") {
		t.Errorf("errors: %+v", p.Described.Errors)
	}
}

func TestTheThreadsOfAnImportMayAskAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, `
from concurrent.futures import ThreadPoolExecutor
from airflow import DAG
from airflow.models import Variable
with ThreadPoolExecutor(8) as pool:
    got = list(pool.map(lambda i: Variable.get("environment" if i % 2 else "none", "default"), range(40)))
assert got == ["default", "prod"] * 20, got
dag = DAG("threads", schedule=None)
`)
	f.serveAnswers(f.connect())
	p := f.parse("asks.py")
	if len(p.Described.Errors) != 0 || len(p.Described.DAGs) != 1 {
		t.Errorf("described: %+v", p.Described)
	}
}

// tellingFile prints every kind of secret the moment it has it.
const tellingFile = `
import logging, os, sys, traceback
from datetime import datetime
from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator
from airflow.utils.log.secrets_masker import mask_secret

def tell():
    print("1", Variable.get("api_token"))
    print("2", Variable.get("tokens", deserialize_json=True)["a"])
    print("3", Variable.get("settings", deserialize_json=True)["password"])
    lake = BaseHook.get_connection("lake")
    print("4", lake.password, lake.extra, lake.get_uri(), [lake.password], lake.as_json())
    os.environ["AIRFLOW_VAR_ENV_TOKEN"] = "tok-of-env"
    os.environ["AIRFLOW_CONN_ENV"] = "http://u:pass-of-env@h/?secret=extra-of-env"
    print("5", Variable.get("env_token"))
    env = BaseHook.get_connection("env")
    print("6", env.password, env.extra)
    mask_secret("named-in-words")
    print("7 named-in-words")
    sys.stderr.write("8 tok-")
    sys.stderr.flush()
    sys.stderr.write("1234\\n")
    print(Variable.get("pem_secret"))
    logging.getLogger("x").info("9 %s", lake.password)
    raise ValueError("10 " + lake.password)

def failed(context):
    print("11", BaseHook.get_connection("warehouse").password, context["exception"])

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None, catchup=False) as dag:
    PythonOperator(task_id="tell", python_callable=tell, on_failure_callback=failed)
    BashOperator(task_id="bash", bash_command="echo 1 {{ var.value.api_token }} {{ conn.lake.password }}; echo 2 $K",
                 env={"K": "{{ conn.lake.extra_dejson.aws_secret_access_key }}"})
`

func TestNoSecretIsLoggedHoweverSoonATaskPrintsIt(t *testing.T) {
	t.Parallel()
	f := askingFixture(t, tellingFile)
	f.serveAnswers(f.connect())
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			name, want := "tell", run.Failed
			if i%3 == 0 {
				name, want = "bash", run.Success
			}
			isolation := map[bool]string{true: "spawn"}[i == 11]
			r := f.do("", task(name), inFile("asks.py"), func(a *executor.Attempt) { a.Isolation = isolation })
			data, err := os.ReadFile(f.logPath(r.AttemptID))
			if err != nil || (r.State != want && r.State != run.UpForRetry) || bytes.Count(data, []byte(secret.Hidden)) < 2 {
				t.Errorf("%s: %+v %v\n%s", name, r, err, data)
			}
			shown := string(data) + r.Reason + string(r.Rendered)
			for _, value := range []string{"tok-1234", "leaf-of-tokens", "inner-of-settings", "ss of@lake", "%20of%40lake", "extra-of-lake",
				"tok-of-env", "pass-of-env", "extra-of-env", "named-in-words", "one of pem", "two of pem", "pass-of-db"} {
				if strings.Contains(shown, value) {
					t.Errorf("%s: %q is shown:\n%s", name, value, shown)
				}
			}
		})
	}
	wg.Wait()
}
