package v2

import (
	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/gpu"
)

func wireGPUs(shares []gpu.Share) []wire.GPU {
	var out []wire.GPU
	for _, s := range shares {
		out = append(out, wire.GPU{UUID: s.UUID, Label: s.Label(), Index: s.Index, Memory: s.Memory})
	}
	return out
}

func wireGPUUse(u *gpu.Use) *wire.GPUUse {
	if u == nil {
		return nil
	}
	out := &wire.GPUUse{PeakMemory: u.Peak, Busy: u.Busy, OfDevice: u.OfDevice, Begin: wire.At(u.Begin), Step: u.Step,
		Points: make([]*wire.GPUPoint, len(u.Points))}
	for i, p := range u.Points {
		if p.N > 0 {
			out.Points[i] = &wire.GPUPoint{Memory: p.Memory, Busy: p.Busy}
		}
	}
	return out
}
