package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
)

func TestPlacesInABundleHaveTheNamesPeopleKnow(t *testing.T) {
	show := placesIn("/home/bundles/abc", "/home/me/$dags")
	for _, tt := range []struct{ text, want string }{
		{`  File "/home/bundles/abc/sub dir/x.py", line 3, in t`, `  File "/home/me/$dags/sub dir/x.py", line 3, in t`},
		{`/home/bundles/abc/x.py:12: UserWarning: old`, `/home/me/$dags/x.py:12: UserWarning: old`},
		{"starts the thread 'x' at import (it runs f, /home/bundles/abc/x.py line 3)", "starts the thread 'x' at import (it runs f, /home/me/$dags/x.py line 3)"},
		{"a.py:1 /home/bundles/abc/a.py:2 /home/bundles/abc/b.py:3", "a.py:1 /home/me/$dags/a.py:2 /home/me/$dags/b.py:3"},
		{"my file is /home/bundles/abc/x.py", "my file is /home/bundles/abc/x.py"},
		{"/home/bundles/abc/data.csv:3", "/home/bundles/abc/data.csv:3"},
		{"/home/bundles/abcd/x.py:3", "/home/bundles/abcd/x.py:3"},
	} {
		if got := show(tt.text); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.text, got, tt.want)
		}
	}
}

const warningFile = `
import logging, subprocess, sys, threading, traceback, warnings
from datetime import datetime
from airflow import DAG
from airflow.operators.python import PythonOperator

warnings.warn("old at import")

def printed():
    try:
        raise ValueError("printed")
    except ValueError:
        traceback.print_exc()

def speak():
    warnings.warn("old in a task", FutureWarning)
    printed()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    logging.getLogger("mine").warning("at\n%s", "".join(traceback.format_stack()[-1:]))
    print("kept as it is: " + __file__, flush=True)

with DAG("warns", start_date=datetime(2024, 1, 1), schedule=None):
    PythonOperator(task_id="speak", python_callable=speak)
`

func TestWarningsAndTracebacksNameTheFileThatPeopleKnow(t *testing.T) {
	for _, isolation := range []string{"fork", "spawn"} {
		t.Run(isolation, func(t *testing.T) {
			f := realFixture(t)
			if err := os.WriteFile(filepath.Join(f.bundle, "warns.py"), []byte(warningFile), 0o644); err != nil {
				t.Fatal(err)
			}
			s := f.connect()
			p := f.parse("warns.py", func(r *workerapi.Parse) { r.Describe.ShownPath = "/people/dags" })
			if !strings.Contains(p.Output, "/people/dags/warns.py:7: UserWarning: old at import") {
				t.Errorf("the import said %q", p.Output)
			}
			id := f.launch(f.attempt("", task("speak"), func(a *executor.Attempt) {
				st := &a.Startup
				a.Isolation = isolation
				st.DagRelPath, st.TI.DAGID, st.Context.DagRun.DAGID, st.Bundle.Shown = "warns.py", "warns", "warns", "/people/dags"
			}))
			s.result(t, id)
			log := strings.Join(texts(readLog(t, f.logPath(id)), ""), "\n")
			for _, want := range []string{
				"/people/dags/warns.py:16: FutureWarning: old in a task",
				`File "/people/dags/warns.py", line 11, in printed`,
				`File "/people/dags/warns.py", line 18, in <lambda>`,
				`File "/people/dags/warns.py", line 21, in speak`,
				"kept as it is: " + f.bundle + "/warns.py",
			} {
				if !strings.Contains(log, want) {
					t.Errorf("the log lacks %q", want)
				}
			}
			if n := strings.Count(log, f.bundle); n != 1 {
				t.Errorf("the snapshot's path is there %d times", n)
			}
		})
	}
}
