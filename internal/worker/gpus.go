package worker

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/device"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

const (
	// defaultSMILimit is how long nvidia-smi may take. Where no process keeps the driver loaded it needs some seconds.
	defaultSMILimit = 15 * time.Second
	// sampleSoon is when an attempt that has just begun is first looked at.
	sampleSoon = time.Second
	// tellUse is how often the server is told what running attempts use.
	tellUse = 10 * time.Second
	// A list of devices that could not be read is tried again, first after the least and then ever later.
	leastRetry, mostRetry = 2 * time.Second, time.Minute
)

// A gpuWatch knows the machine's GPUs, and looks what they are doing while attempts hold some. On a machine without
// nvidia-smi it does nothing at all.
type gpuWatch struct {
	w     *Worker
	smi   *device.SMI
	every time.Duration
	limit time.Duration // for nvidia-smi
	wake  chan struct{}
	stale atomic.Bool // the list of devices is to be read again

	// Guarded by Worker.mu.
	inv     *gpu.Inventory // nil: not known yet
	holders map[string]*gpuHolder
	soon    time.Time // when those who hold GPUs are looked at next

	told time.Time // of run's goroutine
}

// A gpuHolder is an attempt that holds GPUs.
type gpuHolder struct {
	a         *attempt
	use       gpu.Use
	strangers map[string]int // by UUID: a process of somebody else that uses what the attempt has to itself
}

func newGPUWatch(w *Worker) *gpuWatch {
	g := &gpuWatch{w: w, every: w.o.SampleGPUs, limit: w.o.LimitGPUs, wake: make(chan struct{}, 1), holders: map[string]*gpuHolder{}}
	if g.every <= 0 {
		g.every = 5 * time.Second
	}
	if g.limit <= 0 {
		g.limit = defaultSMILimit
	}
	g.smi = device.New((&program{w: w}).run, baseEnv(w.o.Home, w.instance))
	if !g.smi.There() {
		g.read() // nobody is asked, so the first server is told at once
	}
	return g
}

// known is the inventory, nil while it is not known, with Worker.mu held.
func (g *gpuWatch) known() *gpu.Inventory { return g.inv }

// lookAgain has the list of devices read again: it may have changed since the last server came.
func (g *gpuWatch) lookAgain() {
	g.stale.Store(true)
	g.poke()
}

func (g *gpuWatch) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// begin notes that an attempt holds GPUs, with Worker.mu held.
func (g *gpuWatch) begin(a *attempt) {
	if len(a.order.GPUs) == 0 {
		return
	}
	g.holders[a.order.ID] = &gpuHolder{a: a}
	g.soon = time.Now().Add(min(sampleSoon, g.every))
	g.poke()
}

// end adds to an attempt's result what it was seen to use, if anything was seen.
func (g *gpuWatch) end(a *attempt, res *executor.Result) {
	if len(a.order.GPUs) == 0 {
		return
	}
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	h := g.holders[a.order.ID]
	delete(g.holders, a.order.ID)
	if h == nil || h.use.Samples == 0 {
		return
	}
	res.GPUUse = &h.use
	res.Notices = append(res.Notices, h.notices()...)
}

// notices are what people should know: that the task used more than it said, or was not alone.
func (h *gpuHolder) notices() (out []string) {
	var declared int64
	for _, s := range h.a.order.GPUs {
		declared += s.Memory
		if pid := h.strangers[s.UUID]; pid != 0 {
			out = append(out, fmt.Sprintf("%s was not the task's alone: process %d, which asked for no GPU of Ostro, used it as well", s.Label(), pid))
		}
	}
	if declared > 0 && h.use.Peak > declared {
		out = append(out, fmt.Sprintf("the task used %.1f GiB of GPU memory and had declared %.1f GiB (gpu_memory): others may run out of it",
			float64(h.use.Peak)/(1<<30), float64(declared)/(1<<30)))
	}
	return out
}

// run looks until the worker ends.
func (g *gpuWatch) run() {
	if !g.smi.There() {
		return
	}
	g.stale.Store(true)
	retry := leastRetry
	for {
		if g.stale.Swap(false) {
			if g.read() {
				retry = leastRetry
			} else {
				time.AfterFunc(retry, g.lookAgain)
				retry = min(2*retry, mostRetry)
			}
		}
		if due, any := g.due(); any && due <= 0 && !g.sample() {
			g.stale.Store(true)
			continue
		}
		if !g.rest() {
			return
		}
	}
}

// rest waits until something is due; false when the worker ends.
func (g *gpuWatch) rest() bool {
	var timer <-chan time.Time
	if due, any := g.due(); any {
		timer = time.After(due)
	}
	select {
	case <-g.w.ctx.Done():
		return false
	case <-g.wake:
	case <-timer:
	}
	return true
}

// due is how long it is to the next look at those who hold GPUs; false when nobody does, or the GPUs are not known.
func (g *gpuWatch) due() (time.Duration, bool) {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	return time.Until(g.soon), len(g.holders) > 0 && g.inv != nil && g.inv.Fault == ""
}

// read reads the list of devices and tells the server of a change; false when it could not be read.
func (g *gpuWatch) read() bool {
	ctx, cancel := context.WithTimeout(g.w.ctx, g.limit)
	defer cancel()
	devices, err := g.smi.Inventory(ctx)
	if err != nil && g.w.ctx.Err() != nil {
		return true // the worker ends
	}
	inv := gpu.Inventory{Devices: devices}
	if err != nil {
		inv = gpu.Inventory{Fault: err.Error()}
	}
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	if g.inv != nil && reflect.DeepEqual(*g.inv, inv) {
		return err == nil
	}
	g.inv = &inv
	if err != nil {
		g.w.log.Warn("the machine's GPUs are not known", "err", err)
	} else if len(devices) > 0 {
		g.w.log.Info("the machine's GPUs", "count", len(devices))
	}
	if g.w.server != nil {
		_ = g.w.server.Notify(workerapi.Devices{Type: "Devices", Devices: inv}) // told again at the next attach
	}
	return err == nil
}

// sample looks what the GPUs are doing and notes it for each attempt; false when that could not be seen, or when a device
// that was there is not there any more.
func (g *gpuWatch) sample() bool {
	ctx, cancel := context.WithTimeout(g.w.ctx, g.limit)
	defer cancel()
	s, err := g.smi.Sample(ctx)
	trees := g.trees()
	at := time.Now()
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.soon = at.Add(g.every)
	if err != nil {
		g.w.log.Warn("cannot see what the GPUs are doing", "err", err)
		return g.w.ctx.Err() != nil
	}
	for id, h := range g.holders {
		h.note(s, trees[id], at, g.every)
	}
	if at.Sub(g.told) >= tellUse {
		g.told = at
		g.tell()
	}
	return !slices.ContainsFunc(g.inv.Devices, func(d gpu.Device) bool {
		_, there := s.Devices[d.UUID]
		return !d.MIG && !there
	})
}

// tell tells the server what running attempts were seen to use, with Worker.mu held.
func (g *gpuWatch) tell() {
	for id, h := range g.holders {
		if h.use.Samples > 0 && g.w.server != nil {
			_ = g.w.server.Notify(workerapi.Used{Type: "Used", AttemptID: id, Use: *h.use.Clone()})
		}
	}
}

// trees are the processes of every attempt that holds GPUs.
func (g *gpuWatch) trees() map[string][]int {
	g.w.mu.Lock()
	roots := map[string]int{}
	for id, h := range g.holders {
		if h.a.started != nil {
			roots[id] = h.a.started.PID
		}
	}
	g.w.mu.Unlock()
	trees := map[string][]int{}
	for id, root := range roots {
		trees[id] = append(daghost.Descendants(root), root)
	}
	return trees
}

// note takes in one look. Memory is that of the attempt's processes. In a container nvidia-smi does not know them by our
// numbers; then it is that of the devices, where the attempt has them for itself.
func (h *gpuHolder) note(s device.Sample, tree []int, at time.Time, every time.Duration) {
	if len(tree) == 0 {
		return // it has not started
	}
	var memory, onDevices int64
	busy, seen, whole := 0.0, false, true
	for _, p := range s.Processes {
		if slices.Contains(tree, p.PID) {
			memory, seen = memory+p.Memory, true
		}
	}
	for _, share := range h.a.order.GPUs {
		d := s.Devices[share.UUID]
		onDevices += d.Memory
		busy += d.Busy / float64(len(h.a.order.GPUs))
		whole = whole && share.Memory == 0
	}
	if seen && whole { // else they may be the task's own, by other numbers
		h.noteStrangers(s, tree)
	}
	if !seen && whole && onDevices > idleMemory*int64(len(h.a.order.GPUs)) {
		memory, h.use.OfDevice = onDevices, true
	}
	h.use.Sample(at, memory, busy, every)
}

func (h *gpuHolder) noteStrangers(s device.Sample, tree []int) {
	for _, p := range s.Processes {
		id, err := daghost.Identify(p.PID)
		if err != nil || !id.Alive() || slices.Contains(tree, p.PID) { // one that has ended meanwhile may have been the task's
			continue
		}
		if h.strangers == nil {
			h.strangers = map[string]int{}
		}
		h.strangers[p.UUID] = p.PID
	}
}

// idleMemory is what a driver may use of a device that nobody uses.
const idleMemory = 1 << 30

// withGPUs tells a task which GPUs are its own, in the variables that CUDA and containers' tools read, and a pod that runs
// as a process how many there are.
func withGPUs(d protocol.StartupDetails, o executor.Attempt, s workerapi.Settings, inv *gpu.Inventory) protocol.StartupDetails {
	if d.Pods != nil && inv != nil && inv.Fault == "" {
		pods := *d.Pods
		pods.GPUs = len(inv.Devices)
		d.Pods = &pods
	}
	maps.Copy(d.Env, gpuEnv(o.GPUs, s.HideGPUs))
	return d
}

// gpuEnv names the GPUs by UUID: numbers change when the machine starts anew.
func gpuEnv(shares []gpu.Share, hide bool) map[string]string {
	if len(shares) == 0 {
		if !hide {
			return nil // as where it is run without Ostro
		}
		return map[string]string{"CUDA_VISIBLE_DEVICES": "-1", "NVIDIA_VISIBLE_DEVICES": "void"}
	}
	var ids []string
	for _, s := range shares {
		ids = append(ids, s.UUID)
	}
	all := strings.Join(ids, ",")
	env := map[string]string{"CUDA_VISIBLE_DEVICES": all, "NVIDIA_VISIBLE_DEVICES": all}
	if memory := shares[0].Memory; memory > 0 {
		env["OSTRO_GPU_MEMORY"] = strconv.FormatInt(memory, 10)
	}
	return env
}
