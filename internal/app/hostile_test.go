package app_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHostileDAGFilesAreImportErrorsAndHarmNoOther puts every kind of bad file beside a good one.
func TestHostileDAGFilesAreImportErrorsAndHarmNoOther(t *testing.T) {
	cfg := newConfig(t)
	cfg.Parsing.Timeout = 6 * time.Second
	cfg.Parsing.Memory = 512 << 20
	head := "from airflow.sdk import DAG\n"
	files := map[string]struct{ text, want string }{
		"hang.py":    {head + "import time\ntime.sleep(3600)\n", "6s"},
		"memory.py":  {head + "x = bytearray(2 << 30)\nfor i in range(0, len(x), 4096):\n    x[i] = 1\n", "Memory"},
		"exit.py":    {head + "import sys\nsys.exit(3)\n", "exit"},
		"osexit.py":  {head + "import os\nos._exit(4)\n", ""},
		"syntax.py":  {head + "def broken(:\n", "SyntaxError"},
		"latin.py":   {head + "x = '\xe9\xff'\n", "utf-8"},
		"missing.py": {head + "import no_such_module_at_all\n", "no_such_module_at_all"},
		"cycle.py":   {head + "from airflow.operators.empty import EmptyOperator\nwith DAG('cyc', schedule=None):\n    a = EmptyOperator(task_id='a')\n    b = EmptyOperator(task_id='b')\n    a >> b >> a\n", "ycle"},
		"cron.py":    {head + "with DAG('cron', schedule='61 * * * *'):\n    pass\n", "minute"},
	}
	for name, f := range files {
		if err := os.WriteFile(filepath.Join(cfg.DAGs, name), []byte(f.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	garbage := head + "import sys\nsys.stdout.write('\\x00\\xff garbage' * 100000)\nsys.stdout.flush()\n"
	if err := os.WriteFile(filepath.Join(cfg.DAGs, "three.py"), []byte(strings.Replace(threeTasks, "\n", "\n"+garbage, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	s.trigger("three", "r1")
	s.wait("three", "r1", "success")
	code, body := s.call("GET", "/api/v2/importErrors?limit=100", "")
	var list struct {
		Errors []struct {
			Filename   string `json:"filename"`
			StackTrace string `json:"stack_trace"`
		} `json:"import_errors"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	got := map[string]string{}
	for _, e := range list.Errors {
		got[filepath.Base(e.Filename)] = e.StackTrace
		t.Logf("%s: %s", filepath.Base(e.Filename), e.StackTrace)
	}
	for name, f := range files {
		if text, ok := got[name]; !ok || !strings.Contains(strings.ToLower(text), strings.ToLower(f.want)) {
			t.Errorf("%s: %q, want something about %q", name, text, f.want)
		}
	}
	if text, ok := got["three.py"]; ok {
		t.Errorf("the good file has an error: %s", text)
	}
}
