package plan

import (
	"fmt"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
)

// This file gives out GPUs. Who is more urgent chooses first, and who cannot have all it asks for keeps what it will need:
// those after it get other devices or wait. So a task that needs four GPUs does not starve behind a stream of tasks that
// need one. Tasks without GPUs pass by.

// gpuPatience is how long a task may be overtaken by more urgent ones while it waits for GPUs. After that it is the more
// urgent one.
const gpuPatience = 10 * time.Minute

// waitsLong tells whether a candidate for GPUs has been ready for longer than gpuPatience.
func (l *Limits) waitsLong(c *Candidate) bool {
	return c.Resources != nil && c.Resources.GPUs > 0 && !l.Now.IsZero() && !c.ScheduledAt.IsZero() && l.Now.Sub(c.ScheduledAt) > gpuPatience
}

// compareLong puts those first who have waited for GPUs for long, of them the one that waits longest; 0 where that decides
// nothing.
func compareLong(long, otherLong bool, a, b *waiter) int {
	switch {
	case long && otherLong:
		return a.ScheduledAt.Compare(b.ScheduledAt)
	case long:
		return -1
	case otherLong:
		return 1
	}
	return 0
}

// A pass judges candidates in order of urgency.
type pass struct {
	u    *Usage
	l    *Limits
	kept map[string]bool       // GPUs by UUID that are kept for somebody more urgent who waits
	kfor map[string]*Candidate // for whom
	held []string              // in u, for the time of the pass
}

// judge says why a candidate cannot start now, or which GPUs it gets.
func (p *pass) judge(c *Candidate) (why string, shares []gpu.Share) {
	if why := p.u.refusal(c, p.l); why != "" || c.Resources == nil || c.Resources.GPUs == 0 {
		return why, nil
	}
	return p.gpus(c)
}

// gpus places a candidate that nothing but GPUs keeps from starting.
func (p *pass) gpus(c *Candidate) (why string, shares []gpu.Share) {
	inv, known := p.l.GPUs[c.Executor]
	r := gpu.Request{Count: c.Resources.GPUs, Memory: c.Resources.GPUMemory}
	switch {
	case !known:
		return "waiting to be told which GPUs this machine has", nil
	case inv.Fault != "":
		return "the GPUs of this machine are not known: " + inv.Fault, nil
	}
	if n := r.Suitable(inv.Devices); n < r.Count {
		if !c.Resources.Pod {
			return tooFew(r, inv.Devices, n), nil
		}
		if p.l.StrictResources { // the task starts, and fails saying what the machine lacks
			return "", nil
		}
		if r.Count = n; n == 0 {
			return "", nil // the task says that it asks for what is not there
		}
	}
	if shares, ok := p.u.gpus.Place(inv.Devices, r, p.kept); ok {
		return "", shares
	}
	why = p.whyTaken(r, inv.Devices)
	p.keep(c, r, inv.Devices)
	return why, nil
}

// keep reserves what a candidate will need.
func (p *pass) keep(c *Candidate, r gpu.Request, devices []gpu.Device) {
	for _, uuid := range p.u.gpus.Keep(devices, r, p.kept) {
		if p.kept == nil {
			p.kept, p.kfor = map[string]bool{}, map[string]*Candidate{}
		}
		p.kept[uuid], p.kfor[uuid] = true, c
	}
}

// hold takes what an admitted candidate gets out of what is free, until letGo.
func (p *pass) hold(k run.Key, shares []gpu.Share) {
	if len(shares) == 0 {
		return
	}
	id := fmt.Sprintf("admitting %s/%s/%s/%d", k.DAGID, k.RunID, k.TaskID, k.MapIndex)
	p.u.gpus.Hold(gpu.Hold{ID: id, Shares: shares})
	p.held = append(p.held, id)
}

func (p *pass) letGo() {
	for _, id := range p.held {
		p.u.gpus.Release(id)
	}
}

// tooFew says that a machine can never serve a request, of which n of its devices are capable.
func tooFew(r gpu.Request, devices []gpu.Device, n int) string {
	var largest int64
	for _, d := range devices {
		largest = max(largest, d.Memory)
	}
	switch {
	case len(devices) == 0:
		return fmt.Sprintf("it asks for %s, this machine has none: it cannot start here", countGPUs(r.Count))
	case r.Memory > largest:
		return fmt.Sprintf("it asks for %s of GPU memory, the largest GPU of this machine has %s: it cannot start here", bytes(r.Memory), bytes(largest))
	case r.Memory > 0:
		return fmt.Sprintf("it asks for %s with %s of memory, this machine has %d: it cannot start here", countGPUs(r.Count), bytes(r.Memory), n)
	case n < len(devices):
		return fmt.Sprintf("it asks for %s, this machine has %d that are not partitioned: it cannot start here", countGPUs(r.Count), n)
	}
	return fmt.Sprintf("it asks for %s, this machine has %d: it cannot start here", countGPUs(r.Count), n)
}

// mostNamed is how many devices a reason names.
const mostNamed = 4

// whyTaken names the devices that a request waits for, and who has them.
func (p *pass) whyTaken(r gpu.Request, devices []gpu.Device) string {
	var parts []string
	free := 0
	for _, d := range devices {
		if !r.Suits(d) {
			continue
		}
		if text := p.whyNot(r, d); text != "" {
			parts = append(parts, text)
		} else {
			free++
		}
	}
	if more := len(parts) - mostNamed; more > 0 {
		parts = append(parts[:mostNamed], fmt.Sprintf("and %d more", more))
	}
	text := "waiting: "
	if r.Count > 1 {
		text += fmt.Sprintf("it asks for %s, %d free; ", countGPUs(r.Count), free)
	}
	return text + strings.Join(parts, "; ")
}

// whyNot says why one device cannot serve a request now; empty when it can.
func (p *pass) whyNot(r gpu.Request, d gpu.Device) string {
	held, whole := p.u.gpus.Taken(d.UUID)
	free := p.u.gpus.Free(d)
	switch {
	case whole:
		return d.Label() + " held by " + p.holders(d)
	case held && (r.Memory == 0 || free < r.Memory):
		return fmt.Sprintf("%s shared by %s (%s of %s free)", d.Label(), p.holders(d), bytes(free), bytes(d.Memory))
	case p.kept[d.UUID]:
		c := p.kfor[d.UUID]
		return fmt.Sprintf("%s kept for %s, which waits for %s", d.Label(), HolderName(c.Key), countGPUs(c.Resources.GPUs))
	}
	return ""
}

// holders names who has a device and since when.
func (p *pass) holders(d gpu.Device) string {
	var names []string
	hs := p.u.gpus.Holders(d.UUID)
	for _, h := range hs[:min(len(hs), mostNamed)] {
		name := h.Name
		if name == "" {
			name = "a task that is about to start"
		}
		if !h.Since.IsZero() {
			name += " since " + p.clock(h.Since)
		}
		names = append(names, name)
	}
	if more := len(hs) - mostNamed; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, " and ")
}

// clock is the time of day, with the date when that is not of today.
func (p *pass) clock(t time.Time) string {
	if !p.l.Now.IsZero() && p.l.Now.Sub(t) > 20*time.Hour {
		return t.UTC().Format("2006-01-02 15:04 MST")
	}
	return t.UTC().Format("15:04 MST")
}

// HolderName is what people are told of who holds a GPU: "dag/task" or "dag/task[map index]".
func HolderName(k run.Key) string {
	if k.MapIndex >= 0 {
		return fmt.Sprintf("%s/%s[%d]", k.DAGID, k.TaskID, k.MapIndex)
	}
	return k.DAGID + "/" + k.TaskID
}

func countGPUs(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}
