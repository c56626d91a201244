package gpu

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/test/program"
)

// Tasks take memory of the GPU through the driver's own library and keep it busy, until a file lets them go.
const dags = `
import ctypes, os, time
from airflow.sdk import DAG, task

folder = os.environ["FOLDER"]


def take(mebibytes, name, until):
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(function, *args):
        code = getattr(cuda, function)(*args)
        if code:
            raise RuntimeError("%s: CUDA error %d" % (function, code))

    call("cuInit", 0)
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    print("it sees", count.value, "GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
    context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
    call("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
    call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(mebibytes << 20))
    open(os.path.join(folder, name), "w").close()
    while not os.path.exists(os.path.join(folder, until)):
        call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(1), ctypes.c_size_t(mebibytes << 20))
        call("cuCtxSynchronize")
        time.sleep(0.01)
    return count.value


with DAG("real", schedule=None):
    task(task_id="share_a", resources={"gpu_memory": "2Gi"}, priority_weight=9)(take)(1024, "a", "enough")
    task(task_id="share_b", resources={"gpu_memory": "2Gi"}, priority_weight=8)(take)(1024, "b", "enough")
    task(task_id="whole", resources={"gpus": 1}, priority_weight=1)(take)(3072, "whole", "never")
`

// An installation is a server with its home.
type installation struct {
	t               *testing.T
	url, token, dir string
}

type instance struct {
	State string `json:"state"`
	Ostro struct {
		Waiting string   `json:"waiting"`
		Reason  string   `json:"reason"`
		Notices []string `json:"notices"`
		GPUs    []struct {
			UUID   string `json:"uuid"`
			Label  string `json:"label"`
			Memory int64  `json:"memory"`
		} `json:"gpus"`
		GPUUse *struct {
			Peak     int64   `json:"peak_memory"`
			Busy     float64 `json:"busy"`
			OfDevice bool    `json:"of_device"`
			Points   []any   `json:"points"`
		} `json:"gpu_use"`
	} `json:"ostro"`
}

func (i *installation) ask(method, path, body string) (int, string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.url+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func (i *installation) task(id string) (out instance) {
	i.t.Helper()
	_, body := i.ask("GET", "/api/v2/dags/real/dagRuns/r/taskInstances/"+id, "")
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		i.t.Fatalf("%s: %v", body, err)
	}
	return out
}

func (i *installation) await(what string, ok func() bool) {
	i.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			for _, id := range []string{"share_a", "share_b", "whole"} {
				i.t.Logf("%s: %+v", id, i.task(id))
			}
			i.t.Fatalf("%s: not within two minutes", what)
		}
	}
}

func (i *installation) touched(name string) func() bool {
	return func() bool { _, err := os.Stat(filepath.Join(i.dir, name)); return err == nil }
}

// used is the memory of the first GPU that is in use, in MiB.
func used(t *testing.T) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0").Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnARealGPU(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "nvidia-smi", "-L").Output(); err != nil || !strings.Contains(string(out), "GPU 0") {
		t.Skip("this machine has no NVIDIA GPU")
	}
	binary := os.Getenv("OSTRO_TEST_BINARY")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "ostro")
		program.Build(t, binary)
	}
	home, err := os.MkdirTemp("", "ostro-gpu-") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	i := &installation{t: t, dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(home, "dags"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "dags", "real.py"), []byte(dags), 0o600); err != nil {
		t.Fatal(err)
	}
	// One GPU, so that somebody has to wait also on a machine with eight.
	i.url, i.token = program.Serve(t, binary, home, "FOLDER="+i.dir, "CUDA_VISIBLE_DEVICES=0")
	idle := used(t)
	i.await("the DAG", func() bool { code, _ := i.ask("GET", "/api/v2/dags/real", ""); return code == http.StatusOK })
	if code, body := i.ask("POST", "/api/v2/dags/real/dagRuns", `{"dag_run_id": "r", "logical_date": null}`); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}

	// Two share the GPU, and one that wants it whole waits and says for whom.
	i.await("both shares", func() bool { return i.touched("a")() && i.touched("b")() })
	a, b := i.task("share_a"), i.task("share_b")
	if len(a.Ostro.GPUs) != 1 || len(b.Ostro.GPUs) != 1 || a.Ostro.GPUs[0].UUID != b.Ostro.GPUs[0].UUID || a.Ostro.GPUs[0].Memory != 2<<30 {
		t.Errorf("shares: %+v and %+v", a.Ostro.GPUs, b.Ostro.GPUs)
	}
	waiting := i.task("whole").Ostro.Waiting
	if !strings.HasPrefix(waiting, "waiting: GPU 0 shared by real/share_a since ") || !strings.Contains(waiting, " and real/share_b since ") {
		t.Errorf("whole waits: %q", waiting)
	}
	both := used(t)
	t.Logf("GPU 0 (%s): %d MiB idle, %d MiB with two shares; whole says %q", a.Ostro.GPUs[0].UUID, idle, both, waiting)
	if both < idle+2048 {
		t.Errorf("%d MiB are used, %d when idle: the two tasks have not taken 1024 MiB each", both, idle)
	}
	i.await("a look at the shares", func() bool { return i.task("share_a").Ostro.GPUUse != nil })
	if err := os.WriteFile(filepath.Join(i.dir, "enough"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	// It gets the GPU once both have ended, is killed, and its memory is free again.
	i.await("the task that waited", i.touched("whole"))
	i.await("a look at it", func() bool { u := i.task("whole").Ostro.GPUUse; return u != nil && u.Peak > 0 })
	alone := used(t)
	if alone < idle+3072 {
		t.Errorf("%d MiB are used, %d when idle: the task has not taken 3072 MiB", alone, idle)
	}
	if code, body := i.ask("PATCH", "/api/v2/dags/real/dagRuns/r/taskInstances/whole", `{"new_state": "failed"}`); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	i.await("its memory", func() bool { return used(t) < idle+512 })
	for _, id := range []string{"share_a", "share_b", "whole"} {
		ti := i.task(id)
		t.Logf("%s %s: %s", id, ti.State, describe(ti))
	}
	if u := i.task("whole").Ostro.GPUUse; u == nil || u.Peak < 3<<30 || len(u.Points) == 0 {
		t.Errorf("what whole was seen to use: %+v", u)
	}
}

func describe(ti instance) string {
	u := ti.Ostro.GPUUse
	if u == nil {
		return "nothing was seen of it"
	}
	return fmt.Sprintf("at most %d MiB (of the whole device: %v), %.0f %% busy, %d points, notices %q", u.Peak>>20, u.OfDevice, u.Busy, len(u.Points), ti.Ostro.Notices)
}
