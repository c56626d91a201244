package gpu

import "time"

// A Use is what an attempt was seen to use of its GPUs, over time, in bounded space.
type Use struct {
	// Peak is the most memory in bytes, of all its devices together; Busy how busy they were on average, in percent.
	Peak int64   `json:"peak"`
	Busy float64 `json:"busy"`
	// OfDevice is set when the attempt's processes cannot be told apart from others, as in a container: then memory is that
	// of the whole devices.
	OfDevice bool `json:"of_device,omitempty"`
	// Begin is when the first sample was taken, Step how many seconds a point stands for.
	Begin  time.Time `json:"begin"`
	Step   float64   `json:"step"`
	Points []Point   `json:"points"`
	// Samples is how many were taken.
	Samples int `json:"samples"`
}

// A Point sums up the samples of one step.
type Point struct {
	Memory int64   `json:"memory"` // the most
	Busy   float64 `json:"busy"`   // on average
	N      int     `json:"n"`      // samples; 0 when there was none in that time
}

// MaxPoints is how many points a Use has at most. When there are more, two become one.
const MaxPoints = 60

// Sample takes in one look at an attempt's devices; step is how long it is to the next.
func (u *Use) Sample(at time.Time, memory int64, busy float64, step time.Duration) {
	if u.Samples == 0 {
		u.Begin, u.Step = at.UTC().Truncate(time.Millisecond), max(step, time.Millisecond).Seconds()
	}
	n := int(max(0, at.Sub(u.Begin).Seconds()) / u.Step)
	for n >= MaxPoints {
		u.halve()
		n /= 2
	}
	for len(u.Points) <= n {
		u.Points = append(u.Points, Point{})
	}
	u.Points[n].add(Point{memory, busy, 1})
	u.Busy = (u.Busy*float64(u.Samples) + busy) / float64(u.Samples+1)
	u.Samples++
	u.Peak = max(u.Peak, memory)
}

// Clone is a copy that shares nothing with u.
func (u *Use) Clone() *Use {
	c := *u
	c.Points = append([]Point(nil), u.Points...)
	return &c
}

func (u *Use) halve() {
	half := u.Points[:0]
	for i := 0; i < len(u.Points); i += 2 {
		p := u.Points[i]
		if i+1 < len(u.Points) {
			p.add(u.Points[i+1])
		}
		half = append(half, p)
	}
	u.Points = half
	u.Step *= 2
}

func (p *Point) add(q Point) {
	if n := p.N + q.N; n > 0 {
		p.Busy = (p.Busy*float64(p.N) + q.Busy*float64(q.N)) / float64(n)
		p.N = n
	}
	p.Memory = max(p.Memory, q.Memory)
}
