package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
)

const gib = 1 << 30

// machine has GPUs of 80 GiB, numbered from 0.
func machine(n int) gpu.Inventory {
	var inv gpu.Inventory
	for i := range n {
		inv.Devices = append(inv.Devices, gpu.Device{UUID: fmt.Sprintf("GPU-%d", i), Index: i, Memory: 80 * gib})
	}
	return inv
}

func wantsGPUs(n int) func(*Candidate) {
	return func(c *Candidate) { c.Resources = &dag.Resources{GPUs: n} }
}

// wantsPart wants gigabytes of one GPU.
func wantsPart(gigabytes int64) func(*Candidate) {
	return func(c *Candidate) { c.Resources = &dag.Resources{GPUs: 1, GPUMemory: gigabytes * gib} }
}

// floor is a machine on which candidates wait, start and end.
type floor struct {
	t     testing.TB
	q     Queue
	u     Usage
	l     Limits
	now   time.Time
	alive map[string]Candidate // by task id
}

func newFloor(t testing.TB, gpus int) *floor {
	return &floor{t: t, now: epoch.Add(14 * time.Hour), alive: map[string]Candidate{}, l: Limits{
		Executors: map[string]int{"local": 100}, Pools: map[string]Pool{DefaultPool: {Slots: -1}},
		GPUs: map[string]gpu.Inventory{"local": machine(gpus)},
	}}
}

func (f *floor) add(name string, edit ...func(*Candidate)) {
	c := candidate("r/"+name, edit...)
	c.ScheduledAt = f.now
	f.q.push(c, false)
	f.alive[name] = c
}

// admit starts what may start and says what, with the GPUs it got.
func (f *floor) admit() string {
	f.l.Now = f.now
	var out []string
	for _, a := range f.q.Admit(&f.u, f.l) {
		c := f.alive[a.Key.TaskID]
		f.u.take(&c, 1)
		f.u.HoldGPUs(gpu.Hold{ID: a.Key.TaskID, Name: HolderName(a.Key), Since: f.now, Shares: a.GPUs})
		var on []string
		for _, s := range a.GPUs {
			on = append(on, fmt.Sprint(s.Index))
		}
		out = append(out, a.Key.TaskID+":"+strings.Join(on, ","))
	}
	return strings.Join(out, " ")
}

func (f *floor) end(name string) {
	c := f.alive[name]
	f.u.take(&c, -1)
	f.u.FreeGPUs(name)
	delete(f.alive, name)
}

func (f *floor) wantAdmitted(want string) {
	f.t.Helper()
	if got := f.admit(); got != want {
		f.t.Errorf("admitted %q, want %q", got, want)
	}
}

func (f *floor) wantBlocked(want ...string) {
	f.t.Helper()
	f.l.Now = f.now
	var got []string
	for _, b := range f.q.Blocked(&f.u, f.l, nil) {
		got = append(got, b.Key.TaskID+": "+b.Reason)
	}
	if d := cmp.Diff(want, got); d != "" {
		f.t.Errorf("blocked (-want +got)\n%s", d)
	}
}

func TestAWaitForAGPUNamesWhoHasIt(t *testing.T) {
	f := newFloor(t, 2)
	f.add("fit", wantsGPUs(1))
	f.wantAdmitted("fit:0")
	f.now = f.now.Add(2 * time.Minute)
	f.add("small", wantsPart(30))
	f.wantAdmitted("small:1")
	f.now = f.now.Add(time.Minute)
	f.add("again", wantsGPUs(1), priority(9))
	f.wantAdmitted("")
	f.wantBlocked("again: waiting: GPU 0 held by d/fit since 14:00 UTC; GPU 1 shared by d/small since 14:02 UTC (50.0 GiB of 80.0 GiB free)")
	f.add("both", wantsGPUs(2), priority(8))
	f.add("part", wantsPart(20), priority(7))
	f.wantAdmitted("")
	f.wantBlocked(
		"again: waiting: GPU 0 held by d/fit since 14:00 UTC; GPU 1 shared by d/small since 14:02 UTC (50.0 GiB of 80.0 GiB free)",
		"both: waiting: it asks for 2 GPUs, 0 free; GPU 0 held by d/fit since 14:00 UTC; GPU 1 shared by d/small since 14:02 UTC (50.0 GiB of 80.0 GiB free)",
		"part: waiting: GPU 0 held by d/fit since 14:00 UTC; GPU 1 kept for d/again, which waits for 1 GPU",
	)
	f.end("fit")
	f.wantAdmitted("again:0")
}

func TestWhatAMachineCannotServeIsSaidAtOnce(t *testing.T) {
	f := newFloor(t, 2)
	f.add("eight", wantsGPUs(8), priority(9))
	f.add("huge", wantsPart(100), priority(8))
	f.add("pairs", func(c *Candidate) { c.Resources = &dag.Resources{GPUs: 3, GPUMemory: gib} }, priority(7))
	f.add("fine", wantsGPUs(2))
	f.wantAdmitted("fine:0,1")
	f.wantBlocked(
		"eight: it asks for 8 GPUs, this machine has 2: it cannot start here",
		"huge: it asks for 100.0 GiB of GPU memory, the largest GPU of this machine has 80.0 GiB: it cannot start here",
		"pairs: it asks for 3 GPUs with 1.0 GiB of memory, this machine has 2: it cannot start here",
	)
	f.l.GPUs = map[string]gpu.Inventory{"local": {}}
	f.wantBlocked(
		"eight: it asks for 8 GPUs, this machine has none: it cannot start here",
		"huge: it asks for 1 GPU, this machine has none: it cannot start here",
		"pairs: it asks for 3 GPUs, this machine has none: it cannot start here",
	)
	f.l.GPUs = map[string]gpu.Inventory{"local": {Fault: "nvidia-smi did not answer within 10s"}}
	f.add("pod", wantsGPUs(1), func(c *Candidate) { c.Resources.Pod = true })
	f.wantAdmitted("")
	if got := f.q.Blocked(&f.u, f.l, nil)[3].Reason; got != "the GPUs of this machine are not known: nvidia-smi did not answer within 10s" {
		t.Error(got)
	}
	f.l.GPUs = nil
	if got := f.q.Blocked(&f.u, f.l, nil)[0].Reason; got != "waiting to be told which GPUs this machine has" {
		t.Error(got)
	}
}

func TestAPodGetsTheGPUsThereAre(t *testing.T) {
	pod := func(c *Candidate) { c.Resources.Pod = true }
	f := newFloor(t, 1)
	f.add("two", wantsGPUs(2), pod)
	f.wantAdmitted("two:0")
	f.add("one", wantsGPUs(1), pod)
	f.wantAdmitted("")
	f.end("two")
	f.wantAdmitted("one:0")
	f.l.GPUs = map[string]gpu.Inventory{"local": {}}
	f.add("none", wantsGPUs(1), pod)
	f.wantAdmitted("none:")
	f.l.GPUs, f.l.StrictResources = map[string]gpu.Inventory{"local": machine(1)}, true
	f.add("strict", wantsGPUs(2), pod)
	f.wantAdmitted("strict:")
}

func TestATaskForFourGPUsDoesNotStarveBehindAStreamForOne(t *testing.T) {
	f := newFloor(t, 4)
	n := 0
	next := func(edit ...func(*Candidate)) string {
		n++
		name := fmt.Sprintf("s%02d", n)
		f.add(name, append(edit, wantsGPUs(1))...)
		return name
	}
	var stream []string
	for range 4 {
		stream = append(stream, next())
	}
	f.admit()
	f.now = f.now.Add(time.Second)
	f.add("four", wantsGPUs(4))
	for range 4 { // one of the stream ends, and another comes
		f.now = f.now.Add(time.Second)
		next()
		f.end(stream[0])
		stream = stream[1:]
		if got := f.admit(); got != "" && got != "four:0,1,2,3" {
			t.Fatalf("admitted %q before the task that waits", got)
		}
	}
	if _, ok := f.u.gpus.Taken("GPU-0"); !ok || !f.u.gpusOf("four") {
		t.Fatal("the task for four GPUs did not start")
	}
	f.end("four")
	f.wantAdmitted("s05:0 s06:1 s07:2 s08:3")
}

// gpusOf tells whether an attempt holds GPUs.
func (u *Usage) gpusOf(id string) bool {
	for i := range 8 {
		for _, h := range u.gpus.Holders(fmt.Sprintf("GPU-%d", i)) {
			if h.ID == id {
				return true
			}
		}
	}
	return false
}

func TestAnUrgentStreamOvertakesForTenMinutesAtMost(t *testing.T) {
	f := newFloor(t, 2)
	f.add("first", wantsGPUs(1), priority(9))
	f.admit()
	f.add("both", wantsGPUs(2))
	last, started := "first", time.Duration(0)
	for i := range 40 { // there is always one of the stream, and always room for both of two
		f.now = f.now.Add(time.Minute)
		name := fmt.Sprintf("s%d", i)
		f.add(name, wantsGPUs(1), priority(9))
		f.end(last)
		got := f.admit()
		if strings.Contains(got, "both") {
			started = time.Duration(i+1) * time.Minute
			break
		}
		if got == "" {
			last = "none"
			continue
		}
		last = name
	}
	if started == 0 || started > 12*time.Minute || started < 10*time.Minute {
		t.Errorf("it started after %v", started)
	}
}

func TestOthersPassBesideAReservation(t *testing.T) {
	f := newFloor(t, 4)
	f.add("a", wantsPart(40))
	f.add("b", wantsGPUs(2))
	f.wantAdmitted("a:0 b:1,2")
	f.add("three", wantsGPUs(3))
	f.now = f.now.Add(time.Second)
	f.add("part", wantsPart(40))
	f.add("one", wantsGPUs(1))
	f.add("none")
	// 3 is free, 0 is shared and 1 is next: these are kept. Nothing is left for the others but what needs no GPU.
	f.wantAdmitted("none:")
	f.end("b")
	f.wantAdmitted("three:1,2,3") // 0 is kept for the one that came before the part
	f.end("a")
	f.wantAdmitted("one:0")
	f.end("three")
	f.wantAdmitted("part:1")
}

// TestWhoeverWaitsForGPUsIsServed lets random tasks come and end at random, and then lets those that run end one by one while
// an endless stream of small tasks comes: each of the random ones must start after no more ends than there can have been
// holders before it.
func TestWhoeverWaitsForGPUsIsServed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 4).Draw(rt, "GPUs")
		f := newFloor(t, size)
		var running []string
		started := map[string]bool{}
		admit := func() {
			for _, one := range strings.Fields(f.admit()) {
				name, _, _ := strings.Cut(one, ":")
				running, started[name] = append(running, name), true
			}
		}
		request := func() func(*Candidate) {
			if rapid.Bool().Draw(rt, "whole") {
				return wantsGPUs(rapid.IntRange(1, size).Draw(rt, "count"))
			}
			return func(c *Candidate) {
				c.Resources = &dag.Resources{GPUs: rapid.IntRange(1, size).Draw(rt, "count"),
					GPUMemory: rapid.SampledFrom([]int64{10, 40, 60, 80}).Draw(rt, "GiB") * gib}
			}
		}
		waiting := rapid.IntRange(1, 5).Draw(rt, "tasks")
		for i := range waiting {
			f.add(fmt.Sprintf("t%d", i), request())
			admit()
			f.now = f.now.Add(time.Second)
		}
		for n := 0; ; n++ {
			left := 0
			for i := range waiting {
				if !started[fmt.Sprintf("t%d", i)] {
					left++
				}
			}
			if left == 0 {
				return
			}
			if n > 200 {
				rt.Fatalf("after %d ends %d still wait: %v", n, left, f.q.Blocked(&f.u, f.l, nil))
			}
			f.now = f.now.Add(time.Second)
			f.add(fmt.Sprintf("s%d", n), request())
			if len(running) > 0 {
				i := rapid.IntRange(0, len(running)-1).Draw(rt, "ends")
				f.end(running[i])
				running = append(running[:i], running[i+1:]...)
			}
			admit()
		}
	})
}

func TestTasksWithoutGPUsAreNotLookedAtForThem(t *testing.T) {
	f := newFloor(t, 0)
	f.l.GPUs = nil
	for i := range 50 {
		f.add(fmt.Sprintf("t%d", i))
	}
	p := pass{u: &f.u, l: &f.l}
	for _, c := range f.alive {
		if n := testing.AllocsPerRun(10, func() { p.judge(&c) }); n != 0 {
			t.Fatalf("judging a task without GPUs allocates %v times", n)
		}
	}
}
