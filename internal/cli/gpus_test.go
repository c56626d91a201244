package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/api/v2/wire"
)

func TestGPUsAndTheirUseAreLinesForPeople(t *testing.T) {
	if lines := gpuLines(wire.TIExtras{}); lines != nil {
		t.Errorf("without GPUs: %q", lines)
	}
	x := wire.TIExtras{
		GPUs: []wire.GPU{{UUID: "GPU-a", Label: "GPU 0"}, {UUID: "MIG-b", Label: "GPU 1 slice 2", Memory: 10 << 30}},
		GPUUse: &wire.GPUUse{PeakMemory: 8 << 30, Busy: 42.4, Step: 10, Points: []*wire.GPUPoint{
			{Memory: 0, Busy: 0}, {Memory: 4 << 30, Busy: 50}, nil, {Memory: 8 << 30, Busy: 100},
		}},
	}
	want := []string{
		"gpu: GPU 0, to itself (GPU-a)",
		"gpu: GPU 1 slice 2, 10.0 GiB of its memory (MIG-b)",
		"gpu memory: 8.0 GiB at most  ▁▄ █  (10s a bar)",
		"gpu busy: 42 % on average  ▁▄ █",
	}
	if d := cmp.Diff(want, gpuLines(x)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	x.GPUs, x.GPUUse = nil, &wire.GPUUse{OfDevice: true, Step: 5, Points: []*wire.GPUPoint{{}}}
	if got := gpuLines(x)[0]; got != "gpu memory: 0.0 GiB at most on the whole device  ▁  (5s a bar)" {
		t.Error(got)
	}
}
