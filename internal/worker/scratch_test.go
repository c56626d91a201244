package worker

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

const podFile = `
from datetime import datetime
from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

code = """
import os, time
path = os.environ.get("OSTRO_XCOM_PATH")
if path:
    open(path, "w").write("1")
print("xcom" + "-at", path, flush=True)
time.sleep(%d)
"""
with DAG("pods", start_date=datetime(2024, 1, 1), schedule=None) as dag:
    for name, sleep, push in (("slow", 1000, True), ("quick", 0, True), ("without", 0, False)):
        KubernetesPodOperator(task_id=name, image="img", cmds=["python", "-c", code % sleep], do_xcom_push=push)
`

// pods is a fixture with the real runtime and DAG file whose pods run as processes.
func pods(t *testing.T) (*fixture, func(string) func(*executor.Attempt)) {
	f := realFixture(t)
	t.Setenv("TMPDIR", f.bundle)
	f.settings.Pods = &protocol.PodSettings{Mode: "process", Images: map[string]protocol.ImageSettings{"img": {}}}
	if err := os.WriteFile(filepath.Join(f.bundle, "pods.py"), []byte(podFile), 0o644); err != nil {
		t.Fatal(err)
	}
	return f, func(id string) func(*executor.Attempt) {
		return func(a *executor.Attempt) {
			task(id)(a)
			a.Startup.DagRelPath, a.Startup.TI.DAGID, a.Startup.Context.DagRun.DAGID = "pods.py", "pods", "pods"
		}
	}
}

// xcomFolders returns the folders there are for the XComs of pods.
func xcomFolders(f *fixture) []string {
	var found []string
	for _, pattern := range []string{filepath.Join(f.bundle, "ostro-xcom-*"), filepath.Join(f.home, "run", "scratch", "*", "*")} {
		names, _ := filepath.Glob(pattern)
		found = append(found, names...)
	}
	return found
}

func TestThePlaceOfAPodsXComIsGoneWithItsAttempt(t *testing.T) {
	f, pod := pods(t)
	s := f.connect()
	if r := f.do("", pod("quick")); r.State != run.Success || !slices.ContainsFunc(r.XComs, func(x protocol.XComValue) bool { return string(x.Value) == "1" }) {
		t.Errorf("a pod that ends by itself: %+v", r)
	}
	for _, how := range []string{"the task", "the worker"} {
		id := f.launch(f.attempt("", pod("slow")))
		if line := f.waitForLine(id, "xcom-at"); !strings.Contains(line, filepath.Join(f.home, "run", "scratch", id)) {
			t.Errorf("the XCom is not in the attempt's folder: %s", line)
		}
		if found := xcomFolders(f); len(found) != 1 {
			t.Errorf("while the pod runs: %v", found)
		}
		if how == "the task" {
			kill(t, s.start(t, id).PID)
			s.result(t, id)
		} else {
			seen := s.connections()
			kill(t, f.workerPID())
			eventually(t, "the next worker is connected", func() bool { return s.connections() > seen })
		}
		eventually(t, "nothing is left after "+how+" was killed", func() bool {
			_, err := os.Stat(filepath.Join(f.home, "run", "scratch", id))
			return os.IsNotExist(err) && len(xcomFolders(f)) == 0
		})
	}
}

func TestAPodWithoutAnXComHasNoPlaceForOne(t *testing.T) {
	f, pod := pods(t)
	f.connect()
	id := f.launch(f.attempt("", pod("without")))
	if line := f.waitForLine(id, "xcom-at"); !strings.Contains(line, "xcom-at None") {
		t.Errorf("got %s", line)
	}
	if r := f.server.result(t, id); r.State != run.Success {
		t.Errorf("got %+v", r)
	}
	if _, err := os.Stat(filepath.Join(f.home, "run", "scratch")); !os.IsNotExist(err) {
		t.Errorf("a folder was made: %v", err)
	}
}
