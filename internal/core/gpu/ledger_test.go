package gpu

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const gib = 1 << 30

func devices(memory ...int64) []Device {
	var ds []Device
	for i, m := range memory {
		ds = append(ds, Device{UUID: fmt.Sprintf("GPU-%d", i), Index: i, Memory: m * gib})
	}
	return ds
}

func place(t *testing.T, l *Ledger, ds []Device, id string, r Request) []int {
	t.Helper()
	shares, ok := l.Place(ds, r, nil)
	if !ok {
		return nil
	}
	l.Hold(Hold{ID: id, Shares: shares})
	var at []int
	for _, s := range shares {
		at = append(at, s.Index)
	}
	return at
}

func TestSharesFillOneDeviceBeforeTheyOpenAnother(t *testing.T) {
	var l Ledger
	ds := devices(80, 40, 80)
	for _, c := range []struct {
		id   string
		r    Request
		want []int
	}{
		{"a", Request{1, 30 * gib}, []int{1}}, // the smallest it fits
		{"b", Request{1, 20 * gib}, []int{0}},
		{"c", Request{1, 10 * gib}, []int{1}}, // fills it
		{"d", Request{1, 50 * gib}, []int{0}},
		{"e", Request{1, 0}, []int{2}},
		{"f", Request{1, 0}, nil},
		{"g", Request{1, 11 * gib}, nil},
		{"h", Request{1, 10 * gib}, []int{0}},
	} {
		if d := cmp.Diff(c.want, place(t, &l, ds, c.id, c.r)); d != "" {
			t.Errorf("%s (-want +got)\n%s", c.id, d)
		}
	}
	l.Release("e")
	l.Release("e")
	if got := place(t, &l, ds, "i", Request{2, 0}); got != nil {
		t.Errorf("two whole GPUs out of one: %v", got)
	}
}

func TestWholeGPUsComeBeforeSlices(t *testing.T) {
	ds := append(devices(80), Device{UUID: "MIG-0", Index: 1, MIG: true, Memory: 10 * gib}, Device{UUID: "MIG-1", Index: 1, Slice: 1, MIG: true, Memory: 20 * gib})
	var l Ledger
	shares, ok := l.Place(ds, Request{Count: 1}, nil)
	if !ok || shares[0].UUID != "GPU-0" {
		t.Errorf("a GPU: %v", shares)
	}
	l.Hold(Hold{ID: "a", Shares: shares})
	shares, ok = l.Place(ds, Request{Count: 1}, nil)
	if !ok || shares[0].Label() != "GPU 1 slice 0" {
		t.Errorf("the next: %v", shares)
	}
	if _, ok = l.Place(ds, Request{Count: 2}, nil); ok || (Request{Count: 2}).Suitable(ds) != 1 {
		t.Error("two slices serve a request for two GPUs, which a process cannot use")
	}
	if shares, ok = l.Place(ds, Request{1, 15 * gib}, nil); !ok || shares[0].UUID != "MIG-1" {
		t.Errorf("a share: %v", shares)
	}
}

// model is the obvious way to keep a ledger: a list of who holds what, looked through every time.
type model struct{ holds []Hold }

func (m *model) on(uuid string) (holders int, whole bool, memory int64) {
	for _, h := range m.holds {
		for _, s := range h.Shares {
			if s.UUID == uuid {
				holders, whole, memory = holders+1, whole || s.Memory == 0, memory+s.Memory
			}
		}
	}
	return holders, whole, memory
}

// can counts the devices that could serve a request now.
func (m *model) can(ds []Device, r Request, kept map[string]bool) (n int) {
	for _, d := range ds {
		holders, whole, memory := m.on(d.UUID)
		if kept[d.UUID] || d.Memory < r.Memory || d.MIG && r.Count > 1 {
			continue
		}
		if r.Memory == 0 && holders == 0 || r.Memory > 0 && !whole && memory+r.Memory <= d.Memory {
			n++
		}
	}
	return n
}

func (m *model) release(id string) {
	var left []Hold
	for _, h := range m.holds {
		if h.ID != id {
			left = append(left, h)
		}
	}
	m.holds = left
}

// TestNobodyHoldsWhatAnotherHas plays random requests, ends, devices that vanish and come back, and servers that read the
// ledger anew, beside the model.
func TestNobodyHoldsWhatAnotherHas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := devices(rapid.SliceOfN(rapid.SampledFrom([]int64{16, 40, 80}), 1, 6).Draw(rt, "memory")...)
		for i := range all {
			all[i].MIG = rapid.IntRange(0, 4).Draw(rt, "slice") == 0
		}
		ds := all
		var l Ledger
		var m model
		for step := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0, 1, 2: // somebody ends
				if len(m.holds) > 0 {
					id := m.holds[rapid.IntRange(0, len(m.holds)-1).Draw(rt, "who")].ID
					l.Release(id)
					m.release(id)
				}
			case 3: // the machine shows other devices
				ds = nil
				for _, d := range all {
					if rapid.Bool().Draw(rt, "there") {
						ds = append(ds, d)
					}
				}
			case 4: // another server
				l = Ledger{}
				for _, h := range m.holds {
					l.Hold(h)
				}
			default:
				r := Request{Count: rapid.IntRange(1, 4).Draw(rt, "count")}
				if rapid.Bool().Draw(rt, "shares") {
					r.Memory = rapid.Int64Range(1, 90).Draw(rt, "GiB") * gib
				}
				kept := map[string]bool{}
				for _, d := range ds {
					kept[d.UUID] = rapid.IntRange(0, 5).Draw(rt, "kept") == 0
				}
				shares, ok := l.Place(ds, r, kept)
				if want := m.can(ds, r, kept) >= r.Count; ok != want {
					rt.Fatalf("%+v placed: %v, want %v", r, ok, want)
				}
				if !ok {
					continue
				}
				seen := map[string]bool{}
				for _, s := range shares {
					if seen[s.UUID] || kept[s.UUID] || s.Memory != r.Memory {
						rt.Fatalf("%+v got %+v", r, shares)
					}
					seen[s.UUID] = true
				}
				h := Hold{ID: fmt.Sprint(step), Shares: shares}
				l.Hold(h)
				m.holds = append(m.holds, h)
			}
			for _, d := range all {
				holders, whole, memory := m.on(d.UUID)
				if whole && holders > 1 {
					rt.Fatalf("%s is held by %d, one of whom has it whole", d.UUID, holders)
				}
				if memory > d.Memory {
					rt.Fatalf("%d GiB of %d are given out on %s", memory/gib, d.Memory/gib, d.UUID)
				}
				if held, w := l.Taken(d.UUID); held != (holders > 0) || w != whole || len(l.Holders(d.UUID)) != holders {
					rt.Fatalf("the ledger has %v %v %v on %s, the model %d %v", held, w, l.Holders(d.UUID), d.UUID, holders, whole)
				}
			}
		}
		for _, h := range m.holds {
			l.Release(h.ID)
		}
		if !l.Empty() || len(l.use) != 0 {
			rt.Fatalf("something is left: %+v", l)
		}
	})
}

func TestUseOverTimeStaysSmall(t *testing.T) {
	var u Use
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10_000 {
		memory := int64(i % 100)
		if i == 5000 {
			memory = 777
		}
		u.Sample(at.Add(time.Duration(i)*2*time.Second), memory, float64(i%2*100), 2*time.Second)
	}
	if len(u.Points) > MaxPoints || u.Peak != 777 || u.Busy < 49 || u.Busy > 51 || u.Samples != 10_000 {
		t.Errorf("%d points, peak %d, busy %g, %d samples", len(u.Points), u.Peak, u.Busy, u.Samples)
	}
	n, peak := 0, int64(0)
	for _, p := range u.Points {
		n += p.N
		peak = max(peak, p.Memory)
	}
	if span := u.Step * float64(len(u.Points)); n != 10_000 || peak != 777 || span < 20_000 || span > 45_000 {
		t.Errorf("the points stand for %d samples over %g s, peak %d", n, span, peak)
	}
}
