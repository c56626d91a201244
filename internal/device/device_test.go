package device

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/device/smitest"
)

// run runs a program as a worker does, without the worker.
func run(ctx context.Context, path string, args ...string) ([]byte, int, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return nil, 0, ctx.Err()
	}
	if errors.As(err, &exit) {
		return out, exit.ExitCode(), nil
	}
	return out, 0, err
}

func inventory(t *testing.T, environ ...string) ([]gpu.Device, error) {
	t.Helper()
	s := New(run, environ)
	s.root = t.TempDir()
	return s.Inventory(t.Context())
}

func TestTheGPUsOfAMachineAreListed(t *testing.T) {
	smitest.New(t, 2)
	got, err := inventory(t)
	want := []gpu.Device{
		{UUID: smitest.UUID(0), Index: 0, Name: "NVIDIA Test 80GB", Memory: 80 << 30},
		{UUID: smitest.UUID(1), Index: 1, Name: "NVIDIA Test 80GB", Memory: 80 << 30},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

func TestSlicesStandInPlaceOfThePartitionedGPU(t *testing.T) {
	m := smitest.New(t, 2)
	m.Answers("gpus", "0, GPU-a, NVIDIA A100-SXM4-40GB, 40960, Enabled\n1, GPU-b, NVIDIA A100-SXM4-40GB, 40960, Disabled\n")
	m.Answers("list", `GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b)
`)
	got, err := inventory(t)
	want := []gpu.Device{
		{UUID: "GPU-b", Index: 1, Name: "NVIDIA A100-SXM4-40GB", Memory: 40 << 30},
		{UUID: "MIG-1111", MIG: true, Name: "MIG 3g.20gb", Memory: 20 << 30},
		{UUID: "MIG-2222", Slice: 1, MIG: true, Name: "MIG 1g.5gb+me", Memory: 5 << 30},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

func TestOnlyTheGPUsThatWereGivenToTheProgramAreThere(t *testing.T) {
	smitest.New(t, 4)
	for visible, want := range map[string]string{
		"1,3":                  "1 3",
		"3,1":                  "1 3",
		smitest.UUID(2):        "2",
		smitest.UUID(2)[:40]:   "2",
		"":                     "",
		"-1":                   "",
		"0,-1,2":               "0",
		"0," + smitest.UUID(7): "0",
	} {
		got, err := inventory(t, "HOME=/", "CUDA_VISIBLE_DEVICES="+visible)
		var at []string
		for _, d := range got {
			at = append(at, d.Label()[4:])
		}
		if err != nil || strings.Join(at, " ") != want {
			t.Errorf("CUDA_VISIBLE_DEVICES=%s: %v %v, want %s", visible, at, err, want)
		}
	}
}

func TestAMachineWithoutAGPUHasNone(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := New(func(context.Context, string, ...string) ([]byte, int, error) {
		t.Error("something was run")
		return nil, 0, nil
	}, nil)
	s.root = t.TempDir()
	if got, err := s.Inventory(t.Context()); s.There() || len(got) > 0 || err != nil {
		t.Errorf("%v %v", got, err)
	}
	if err := os.MkdirAll(filepath.Join(s.root, "dev", "nvidia0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), "no nvidia-smi in the PATH of the worker") {
		t.Errorf("with a device and without the program: %v", err)
	}
}

func TestTheProgramAloneIsNoGPU(t *testing.T) {
	m := smitest.New(t, 1)
	m.Fails(`echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."; exit 9`)
	if got, err := inventory(t); len(got) > 0 || err != nil {
		t.Errorf("%v %v", got, err)
	}
	s := New(run, nil)
	s.root = t.TempDir()
	if err := os.MkdirAll(filepath.Join(s.root, "dev", "nvidia0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), "exit code 9: NVIDIA-SMI has failed") {
		t.Errorf("with a device: %v", err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	m := smitest.New(t, 1)
	for fails, want := range map[string]string{
		"echo Unable to determine the device handle for GPU0; exit 15": "exit code 15: Unable to determine the device handle",
		"echo no, such, thing; exit 0":                                 "answers what is not understood",
		"kill -9 $$":                                                   "nvidia-smi ended with exit code -1",
	} {
		m.Fails(fails)
		if _, err := inventory(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", fails, err, want)
		}
	}
	m.Fails("exec sleep 600")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(run, nil).Inventory(ctx); err == nil || !strings.Contains(err.Error(), "did not answer in time and was killed") {
		t.Errorf("one that hangs: %v", err)
	}
}

func TestADriverThatKnowsNothingOfSlicesIsAsked(t *testing.T) {
	m := smitest.New(t, 1)
	m.Fails(`case "$1" in *mig*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;; esac`)
	m.Answers("gpus", "0, GPU-a, Tesla K80, 11441\n")
	got, err := inventory(t)
	if err != nil || len(got) != 1 || got[0].Memory != 11441<<20 {
		t.Errorf("%v %v", got, err)
	}
}

func TestASampleSaysWhatItCan(t *testing.T) {
	m := smitest.New(t, 2)
	m.Answers("use", smitest.UUID(0)+", 4096, 37\n"+smitest.UUID(1)+", [N/A], [N/A]\n")
	m.Answers("apps", "12, "+smitest.UUID(0)+", 4000\n13, "+smitest.UUID(0)+", [N/A]\n")
	got, err := New(run, nil).Sample(t.Context())
	want := Sample{
		Devices:   map[string]DeviceUse{smitest.UUID(0): {Memory: 4096 << 20, Busy: 37}, smitest.UUID(1): {}},
		Processes: []ProcessUse{{PID: 12, UUID: smitest.UUID(0), Memory: 4000 << 20}},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}
