package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/device/smitest"
)

// Every task leaves its process's number at each of its GPUs, and complains when another living one has been there.
const trainDAG = `
import os, time
from airflow import DAG
from airflow.operators.python import PythonOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

folder = os.environ.get("FOLDER", "/tmp")


def use(until=None):
    for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        path = os.path.join(folder, gpu)
        if os.path.exists(path):
            pid = open(path).read()
            if os.path.exists("/proc/" + pid) and open("/proc/%s/stat" % pid).read().split()[2] != "Z":
                open(os.path.join(folder, "conflict"), "a").write("%s is at %s\n" % (pid, gpu))
        open(path, "w").write(str(os.getpid()))
    while until and not os.path.exists(os.path.join(folder, until)):
        time.sleep(0.01)
    for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        os.remove(os.path.join(folder, gpu))
    return os.environ["CUDA_VISIBLE_DEVICES"]


with DAG("train", schedule=None):
    fit = PythonOperator(task_id="fit", python_callable=use, op_args=["enough"], resources={"gpus": 2}, priority_weight=9)
    score = PythonOperator(task_id="score", python_callable=use, resources={"gpus": 1}, priority_weight=5)
    pod = KubernetesPodOperator(task_id="pod", image="ml", cmds=["sh", "-c", "echo pod sees $CUDA_VISIBLE_DEVICES"],
                                container_resources={"limits": {"nvidia.com/gpu": "1"}})
    huge = PythonOperator(task_id="huge", python_callable=use, resources={"gpu_memory": "100Gi"})
    PythonOperator(task_id="plain", python_callable=lambda: print("plain sees", os.environ.get("CUDA_VISIBLE_DEVICES")))
`

type gpuTask struct {
	State string `json:"state"`
	Ostro struct {
		AttemptID string `json:"attempt_id"`
		Waiting   string `json:"waiting"`
		GPUs      []struct {
			UUID, Label string
		} `json:"gpus"`
		GPUUse *struct {
			Peak   int64 `json:"peak_memory"`
			Points []any `json:"points"`
		} `json:"gpu_use"`
		Notices []string `json:"notices"`
	} `json:"ostro"`
}

func (p *prey) task(id string) (t gpuTask) {
	p.t.Helper()
	_, body := p.ask("GET", "/api/v2/dags/train/dagRuns/r/taskInstances/"+id, "")
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		p.t.Fatalf("%s: %v", body, err)
	}
	return t
}

// TestGPUsAreHeldAcrossTheDeathOfServersAndFreedWithTheirWorker follows tasks on a machine whose nvidia-smi is a script.
func TestGPUsAreHeldAcrossTheDeathOfServersAndFreedWithTheirWorker(t *testing.T) {
	m := smitest.New(t, 2)
	cfg := newConfig(t)
	folder := t.TempDir()
	p := &prey{t: t, home: cfg.Home, database: cfg.Database}
	yaml := fmt.Sprintf("database: %q\ntasks:\n  env: {FOLDER: %q}\n  default_retries: 0\npython: %q\npods: process\nimages: {ml: {dir: %q}}\n",
		cfg.Database, folder, cfg.Python, folder)
	if err := os.WriteFile(filepath.Join(cfg.Home, "ostro.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	writeDAG(t, cfg, "train.py", trainDAG)
	p.serve()
	t.Cleanup(func() { endWorkers(t, cfg.Home) })
	t.Cleanup(func() { p.killServer() })
	t.Cleanup(p.explain)
	if code, body := p.ask("POST", "/api/v2/dags/train/dagRuns", `{"dag_run_id": "r", "logical_date": null}`); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	running := func(what string) {
		t.Helper()
		await(t, what, func() bool { return p.task("fit").State == "running" })
	}
	waits := func() {
		t.Helper()
		for _, id := range []string{"score", "pod"} {
			want := "waiting: GPU 0 held by train/fit since "
			if got := p.task(id).Ostro.Waiting; !strings.HasPrefix(got, want) || !strings.Contains(got, "; GPU 1 held by train/fit since ") {
				t.Errorf("%s waits: %q, want %s…", id, got, want)
			}
		}
	}
	running("fit runs")
	first := p.task("fit")
	if gs := first.Ostro.GPUs; len(gs) != 2 || gs[0].UUID != smitest.UUID(0) || gs[1].Label != "GPU 1" {
		t.Errorf("fit has %v", gs)
	}
	waits()
	if got := p.task("huge").Ostro.Waiting; got != "it asks for 100.0 GiB of GPU memory, the largest GPU of this machine has 80.0 GiB: it cannot start here" {
		t.Error(got)
	}
	await(t, "a task without GPUs", func() bool { return p.task("plain").State == "success" })

	p.killServer()
	p.serve()
	running("fit runs on")
	if p.task("fit").Ostro.AttemptID != first.Ostro.AttemptID {
		t.Error("the task that was adopted is another attempt")
	}
	waits()

	pid, err := os.ReadFile(filepath.Join(folder, smitest.UUID(0)))
	if err != nil {
		t.Fatal(err)
	}
	var root int
	if _, err := fmt.Sscan(string(pid), &root); err != nil {
		t.Fatal(err)
	}
	m.Answers("use", smitest.UUID(0)+", 5000, 90\n"+smitest.UUID(1)+", 0, 10\n")
	m.Uses(smitest.Process{PID: root, GPU: 0, MiB: 4096})
	await(t, "what fit uses", func() bool { u := p.task("fit").Ostro.GPUUse; return u != nil && u.Peak == 4<<30 && len(u.Points) > 0 })

	p.killAll(workers(cfg.Home))
	await(t, "another attempt of fit", func() bool {
		now := p.task("fit")
		return now.State == "running" && now.Ostro.AttemptID != first.Ostro.AttemptID
	})
	waits()
	if err := os.WriteFile(filepath.Join(folder, "enough"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"fit", "score", "pod"} {
		await(t, "the end of "+id, func() bool { return p.task(id).State == "success" })
	}
	if text, err := os.ReadFile(filepath.Join(folder, "conflict")); err == nil {
		t.Errorf("two processes were at one GPU: %s", text)
	}
	for id, want := range map[string]string{"pod": "pod sees GPU-", "plain": "plain sees None"} {
		_, log := p.ask("GET", "/api/v2/dags/train/dagRuns/r/taskInstances/"+id+"/logs/1?full_content=true", "")
		if !strings.Contains(log, want) {
			t.Errorf("the log of %s does not say %s: %s", id, want, log)
		}
	}
	for _, n := range p.task("pod").Ostro.Notices {
		if strings.Contains(n, "GPU") {
			t.Errorf("a note of the pod: %s", n)
		}
	}
	m.Has(8) // the machine is given more, and larger ones; the next server hears of it
	m.Answers("gpus", "0, GPU-new, NVIDIA Test 141GB, 144384, Disabled\n")
	p.killServer()
	p.serve()
	await(t, "what could not start", func() bool { return p.task("huge").State == "success" })
}
