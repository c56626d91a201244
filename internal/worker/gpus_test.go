package worker

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/device/smitest"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

func (s *sink) Devices(_ string, inv gpu.Inventory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = append(s.devices, inv)
}

func (s *sink) Used(id string, use gpu.Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil {
		s.used = map[string]gpu.Use{}
	}
	s.used[id] = use
}

// inventory is what the worker said last; false when it has said nothing yet.
func (s *sink) inventory() (gpu.Inventory, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.devices) == 0 {
		return gpu.Inventory{}, false
	}
	return s.devices[len(s.devices)-1], true
}

// holding gives an attempt whole GPUs, by number.
func holding(gpus ...int) func(*executor.Attempt) {
	return func(a *executor.Attempt) {
		for _, n := range gpus {
			a.GPUs = append(a.GPUs, gpu.Share{UUID: smitest.UUID(n), Index: n})
		}
	}
}

const sayGPUs = `import os; print("sees", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("NVIDIA_VISIBLE_DEVICES"), os.environ.get("OSTRO_GPU_MEMORY"))`

func TestATaskSeesItsOwnGPUsAndItsHostNone(t *testing.T) {
	smitest.New(t, 2)
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "at_import": `print("at import", os.environ.get("CUDA_VISIBLE_DEVICES"))`})
	f.connect()
	id := f.launch(f.attempt(sayGPUs, holding(1, 0)))
	both := smitest.UUID(1) + "," + smitest.UUID(0)
	if got := f.waitForLine(id, "sees"); got != "sees "+both+" "+both+" None" {
		t.Error(got)
	}
	id = f.launch(f.attempt(sayGPUs, holding(1), func(a *executor.Attempt) { a.GPUs[0].Memory = 9 << 30 }))
	if got := f.waitForLine(id, "sees"); got != fmt.Sprintf("sees %[1]s %[1]s %d", smitest.UUID(1), 9<<30) {
		t.Error(got)
	}
	id = f.launch(f.attempt(sayGPUs)) // the next fork of the same host
	if got := f.waitForLine(id, "sees"); got != "sees None None None" {
		t.Error(got)
	}
	spawned := f.launch(f.attempt(sayGPUs, holding(0), func(a *executor.Attempt) { a.Isolation = "spawn" }))
	if got := f.waitForLine(spawned, "sees"); !strings.HasPrefix(got, "sees "+smitest.UUID(0)) {
		t.Error(got)
	}
	f.server.result(t, spawned)

	f.disconnect()
	f.settings.HideGPUs = true
	f.connect()
	id = f.launch(f.attempt(sayGPUs))
	if got := f.waitForLine(id, "sees"); got != "sees -1 void None" {
		t.Error(got)
	}
}

func TestTheServerIsToldWhichGPUsThereAre(t *testing.T) {
	m := smitest.New(t, 2)
	f := newFixture(t)
	f.connect()
	has := func(labels ...string) {
		t.Helper()
		eventually(t, fmt.Sprint("the server knows of ", labels), func() bool {
			inv, known := f.server.inventory()
			var got []string
			for _, d := range inv.Devices {
				got = append(got, d.Label())
			}
			return known && inv.Fault == "" && slices.Equal(got, labels)
		})
	}
	has("GPU 0", "GPU 1")
	m.HasOnly(1) // one is gone; the next server hears of it
	f.disconnect()
	f.connect()
	has("GPU 1")
	m.Fails("echo Unable to determine the device handle; exit 15")
	f.disconnect()
	f.connect()
	eventually(t, "the fault is told", func() bool {
		inv, _ := f.server.inventory()
		return strings.Contains(inv.Fault, "exit code 15: Unable to determine the device handle")
	})
	m.Fails("")
	has("GPU 1") // it is asked again
}

func TestAGPUThatVanishesWhileATaskRunsIsMissed(t *testing.T) {
	m := smitest.New(t, 2)
	t.Setenv("TEST_SAMPLE_GPUS", "20ms")
	f := newFixture(t)
	f.connect()
	id := f.launch(f.attempt(`import time; time.sleep(600)`, holding(0)))
	f.server.start(t, id)
	m.HasOnly(0)
	eventually(t, "the server knows that GPU 1 is gone", func() bool {
		inv, known := f.server.inventory()
		return known && len(inv.Devices) == 1 && inv.Devices[0].Index == 0
	})
}

func TestAWorkerWithoutTheProgramSaysAtOnceThatThereAreNoGPUs(t *testing.T) {
	if found, err := os.ReadDir("/proc/driver/nvidia"); err == nil && len(found) > 0 {
		t.Skip("this machine has GPUs")
	}
	f := newFixture(t)
	s := f.connect()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff([]gpu.Inventory{{}}, s.devices); d != "" {
		t.Errorf("told (-want +got)\n%s", d)
	}
}

func TestAPodIsToldHowManyGPUsThereAre(t *testing.T) {
	smitest.New(t, 2)
	f := newFixture(t)
	f.settings.Pods = &protocol.PodSettings{Mode: "process", GPUs: 7}
	f.connect()
	eventually(t, "the GPUs are known", func() bool { _, known := f.server.inventory(); return known })
	o := f.attempt("")
	d := withGPUs(complete(o, f.settings, "h", f.home), o, f.settings, &gpu.Inventory{Devices: make([]gpu.Device, 2)})
	if d.Pods.GPUs != 2 || f.settings.Pods.GPUs != 7 {
		t.Errorf("%d, and the settings have %d", d.Pods.GPUs, f.settings.Pods.GPUs)
	}
}

func TestWhatATaskUsesIsSeenUntilItsEnd(t *testing.T) {
	m := smitest.New(t, 2)
	t.Setenv("TEST_SAMPLE_GPUS", "20ms")
	f := newFixture(t)
	f.connect()
	id := f.launch(f.attempt(`
import subprocess, sys
child = subprocess.Popen(["sleep", "600"])
print("child", child.pid, flush=True)
child.wait()`, holding(0, 1)))
	task := f.server.start(t, id).PID
	var child int
	if _, err := fmt.Sscanf(f.waitForLine(id, "child"), "child %d", &child); err != nil {
		t.Fatal(err)
	}
	m.Answers("use", smitest.UUID(0)+", 3000, 80\n"+smitest.UUID(1)+", 2000, 40\n")
	m.Uses(smitest.Process{PID: task, GPU: 0, MiB: 2000}, smitest.Process{PID: child, GPU: 1, MiB: 1000}, smitest.Process{PID: 1, GPU: 0, MiB: 900})
	asked := m.Asked()
	eventually(t, "it is looked at", func() bool { return m.Asked() > asked+6 })
	kill(t, child)
	res := f.server.result(t, id)
	use := res.GPUUse
	want := []string{"GPU 0 was not the task's alone: process 1, which asked for no GPU of Ostro, used it as well"}
	if d := cmp.Diff(want, res.Notices); d != "" {
		t.Errorf("notices (-want +got)\n%s", d)
	}
	if use == nil || use.Peak != 3000<<20 || use.Busy <= 0 || use.Busy > 60 || use.OfDevice || use.Samples == 0 {
		t.Fatalf("%+v", use)
	}
	asked = m.Asked()
	short := f.do("", holding(0))
	if short.GPUUse != nil && short.GPUUse.Samples > 2 {
		t.Errorf("a short task: %+v", short.GPUUse)
	}
	plain := f.do("")
	if plain.GPUUse != nil || m.Asked() > asked+6 {
		t.Errorf("without GPUs: %+v, asked %d times", plain.GPUUse, m.Asked()-asked)
	}
}

func TestATaskThatUsesMoreThanItSaidIsNoted(t *testing.T) {
	m := smitest.New(t, 1)
	t.Setenv("TEST_SAMPLE_GPUS", "20ms")
	f := newFixture(t)
	f.connect()
	id := f.launch(f.attempt(`import time; time.sleep(600)`, holding(0), func(a *executor.Attempt) { a.GPUs[0].Memory = 2 << 30 }))
	m.Uses(smitest.Process{PID: f.server.start(t, id).PID, GPU: 0, MiB: 3 << 10}, smitest.Process{PID: 1, GPU: 0, MiB: 900})
	asked := m.Asked()
	eventually(t, "it is looked at", func() bool { return m.Asked() > asked+6 })
	if err := f.server.Kill(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	want := []string{"the task used 3.0 GiB of GPU memory and had declared 2.0 GiB (gpu_memory): others may run out of it"}
	if d := cmp.Diff(want, f.server.result(t, id).Notices); d != "" {
		t.Errorf("notices (-want +got)\n%s", d)
	}
}

func TestWhereProcessesCannotBeToldApartTheWholeDeviceCounts(t *testing.T) {
	m := smitest.New(t, 1)
	t.Setenv("TEST_SAMPLE_GPUS", "20ms")
	m.Answers("use", smitest.UUID(0)+", 30000, 80\n")
	f := newFixture(t)
	f.connect()
	id := f.launch(f.attempt(`import time; time.sleep(600)`, holding(0)))
	f.server.start(t, id)
	asked := m.Asked()
	eventually(t, "it is looked at", func() bool { return m.Asked() > asked+6 })
	if err := f.server.Kill(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	if use := f.server.result(t, id).GPUUse; use == nil || use.Peak != 30000<<20 || !use.OfDevice {
		t.Errorf("%+v", use)
	}
}

func TestAProgramThatHangsIsAFaultAndIsAskedAgain(t *testing.T) {
	m := smitest.New(t, 1)
	t.Setenv("TEST_LIMIT_GPUS", "1s")
	m.Fails("sleep 600 & sleep 600")
	f := newFixture(t)
	f.connect()
	eventually(t, "the fault is told", func() bool {
		inv, _ := f.server.inventory()
		return strings.Contains(inv.Fault, "nvidia-smi did not answer in time and was killed")
	})
	m.Fails("")
	eventually(t, "the GPUs are known", func() bool {
		inv, _ := f.server.inventory()
		return inv.Fault == "" && len(inv.Devices) == 1
	})
}

func TestAProgramThatHangsIsKilledAndHoldsUpNothing(t *testing.T) {
	m := smitest.New(t, 1)
	m.Fails("sleep 600 & sleep 600")
	f := newFixture(t)
	f.connect()
	if r := f.do(sayGPUs); r.State != "success" { // meanwhile
		t.Errorf("a task: %+v", r)
	}
	began := time.Now()
	f.end()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the worker took %v to end", took)
	}
	f.connect()
}
