package cli

import (
	"fmt"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// gpuLines say which GPUs an attempt has and what it was seen to use of them; none when it has none.
func gpuLines(x wire.TIExtras) []string {
	var lines []string
	for _, g := range x.GPUs {
		how := "to itself"
		if g.Memory > 0 {
			how = gibibytes(g.Memory) + " of its memory"
		}
		lines = append(lines, fmt.Sprintf("gpu: %s, %s (%s)", g.Label, how, g.UUID))
	}
	u := x.GPUUse
	if u == nil {
		return lines
	}
	whose := ""
	if u.OfDevice {
		whose = " on the whole device"
	}
	var memory, busy []float64
	for _, p := range u.Points {
		if p == nil {
			memory, busy = append(memory, -1), append(busy, -1)
			continue
		}
		memory, busy = append(memory, float64(p.Memory)), append(busy, p.Busy)
	}
	step := time.Duration(u.Step * float64(time.Second)).Round(100 * time.Millisecond)
	return append(lines,
		fmt.Sprintf("gpu memory: %s at most%s  %s  (%s a bar)", gibibytes(u.PeakMemory), whose, bars(memory, float64(u.PeakMemory)), step),
		fmt.Sprintf("gpu busy: %.0f %% on average  %s", u.Busy, bars(busy, 100)))
}

// bars draws numbers as bars of up to the height of most; less than zero is a gap.
func bars(values []float64, most float64) string {
	const heights = "▁▂▃▄▅▆▇█"
	var b strings.Builder
	for _, v := range values {
		switch {
		case v < 0:
			b.WriteByte(' ')
		case most <= 0:
			b.WriteString("▁")
		default:
			n := min(7, max(0, int(v/most*7.999)))
			b.WriteString(string([]rune(heights)[n]))
		}
	}
	return b.String()
}

func gibibytes(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
