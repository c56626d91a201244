package simtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// gpuMemory is that of each of the simulated machine's GPUs.
const gpuMemory = 100

// machine is the simulated machine: it sees which processes are alive and what they have of its GPUs.
type machine struct {
	t     *testing.T
	rng   *rand.Rand
	mu    sync.Mutex
	alive map[string]executor.Attempt
	most  int // processes with GPUs beside each other
}

// asks is what each task of the simulated DAG asks for.
var asks = map[string]dag.Resources{
	"one": {GPUs: 1}, "two": {GPUs: 2}, "four": {GPUs: 4}, "part": {GPUs: 1, GPUMemory: 40}, "parts": {GPUs: 2, GPUMemory: 60}, "none": {},
	"pod": {GPUs: 3, Pod: true},
}

// script has processes take a while, some of them also after they are asked to end.
func (m *machine) script(a executor.Attempt) scripted.Behaviour {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Startup.TI.TaskID == "" {
		return scripted.Behaviour{}
	}
	return scripted.Behaviour{
		For: time.Duration(m.rng.IntN(8)) * time.Millisecond, IgnoreTerm: m.rng.IntN(2) == 0,
		Exit:  m.rng.IntN(8) / 7,
		Begun: func() { m.begin(a) }, Gone: func() { m.end(a.ID) },
	}
}

func (m *machine) begin(a executor.Attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := asks[a.Startup.TI.TaskID]
	if n := len(a.GPUs); n != want.GPUs && !(want.Pod && n < want.GPUs) {
		m.t.Errorf("%s has %d GPUs, it asks for %d", a.Startup.TI.TaskID, n, want.GPUs)
	}
	m.alive[a.ID] = a
	declared, whole, holders := map[string]int64{}, map[string]string{}, map[string]int{}
	holding := 0
	for id, other := range m.alive {
		if len(other.GPUs) > 0 {
			holding++
		}
		seen := map[string]bool{}
		for _, s := range other.GPUs {
			if seen[s.UUID] {
				m.t.Errorf("%s has %s twice", id, s.UUID)
			}
			seen[s.UUID] = true
			holders[s.UUID]++
			if declared[s.UUID] += s.Memory; s.Memory == 0 {
				whole[s.UUID] = id
			}
		}
	}
	m.most = max(m.most, holding)
	for uuid, n := range holders {
		if whole[uuid] != "" && n > 1 {
			m.t.Errorf("%d processes have %s, one of them to itself", n, uuid)
		}
		if declared[uuid] > gpuMemory {
			m.t.Errorf("%d of %d are declared on %s", declared[uuid], gpuMemory, uuid)
		}
	}
}

func (m *machine) end(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.alive, id)
}

// shows is what the machine has of its four GPUs: all but one that vanishes now and then; less than zero: all.
func shows(without int) gpu.Inventory {
	var inv gpu.Inventory
	for i := range 4 {
		if i != without {
			inv.Devices = append(inv.Devices, gpu.Device{UUID: fmt.Sprintf("GPU-%d", i), Index: i, Memory: gpuMemory})
		}
	}
	return inv
}

// TestNoTwoProcessesEverHaveTheSameGPUWhateverCrashes kills servers and workers, fails commits, marks and clears what runs,
// and takes GPUs away, while tasks for whole GPUs and for parts of them come and go.
func TestNoTwoProcessesEverHaveTheSameGPUWhateverCrashes(t *testing.T) { onSeeds(t, 12, simulateGPUs) }

func simulateGPUs(t *testing.T, seed uint64, o store.Options) {
	m := &machine{t: t, rng: rand.New(rand.NewPCG(seed, 3)), alive: map[string]executor.Attempt{}}
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), faultR: rand.New(rand.NewPCG(seed, 2)), ex: scripted.New("local", m.script),
		faultIn: 10, crash: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() {
		s.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.ex.SetGPUs(shows(-1))
	o.Fault = s.fault
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
	defer func() {
		s.stop()
		s.ex.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	d := &dag.DAG{ID: "gpus", File: "g.py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}}
	for _, name := range []string{"one", "two", "four", "part", "parts", "none", "pod"} {
		r := asks[name]
		d.Tasks = append(d.Tasks, dag.Task{ID: name, Operator: "X", Resources: &r, Retries: 2, RetryDelay: sec(time.Millisecond)})
	}
	err = db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(d, "b", "v1", false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.faults.Store(true)
	var ids [][2]string
	for i := range 6 {
		id := fmt.Sprintf("r%d", i)
		s.trigger(d.ID, id)
		ids = append(ids, [2]string{d.ID, id})
	}
	s.meddle(ids, 60)
	s.ex.SetGPUs(shows(-1))
	s.disturb(ids)
	s.checkOpen()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.most < 2 {
		t.Errorf("no two processes had GPUs beside each other, so nothing was tried")
	}
	s.checkHolds()
}

// meddle marks and clears what runs, and takes GPUs away and gives them back, for a while.
func (s *sim) meddle(ids [][2]string, times int) {
	s.t.Helper()
	tasks := []string{"one", "two", "four", "part", "parts", "pod"}
	for range times {
		<-time.After(time.Duration(1+s.rng.IntN(6)) * time.Millisecond)
		s.crashIfAsked()
		id := ids[s.rng.IntN(len(ids))]
		sel := []scheduler.TaskSel{{TaskID: tasks[s.rng.IntN(len(tasks))]}}
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		switch s.rng.IntN(8) {
		case 0, 1: // what is refused now is tried again later; that servers die meanwhile is the point
			_, _ = s.sched.MarkTasks(ctx, "user:sim", scheduler.MarkRequest{DAGID: id[0], RunID: id[1], Tasks: sel, State: run.Success})
			_, _ = s.sched.Clear(ctx, "user:sim", scheduler.ClearRequest{DAGID: id[0], RunID: id[1], TaskIDs: sel, ResetDagRuns: true})
		case 2, 3:
			_, _ = s.sched.Clear(ctx, "user:sim", scheduler.ClearRequest{DAGID: id[0], RunID: id[1], TaskIDs: sel, ResetDagRuns: true})
		case 4:
			s.ex.SetGPUs(shows(s.rng.IntN(5) - 1))
		case 5:
			s.ex.SetGPUs(gpu.Inventory{Fault: "the driver hangs"})
		case 6:
			s.stop()
			s.start()
		case 7:
			s.ex.Restart()
		}
		cancel()
	}
}

// checkHolds looks through all attempts that ever were: from its row's creation to its end, what one had to itself no other
// had, and shares never added up to more than there is.
func (s *sim) checkHolds() {
	s.t.Helper()
	type hold struct {
		run.Attempt
		share gpu.Share
	}
	by := map[string][]hold{}
	for i := range 6 {
		as, err := s.db.RunAttempts(s.t.Context(), "gpus", fmt.Sprintf("r%d", i))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, a := range as {
			if a.EndedAt == nil {
				s.t.Errorf("attempt %s of %s is open", a.ID, a.TaskID)
				continue
			}
			for _, share := range a.GPUs {
				by[share.UUID] = append(by[share.UUID], hold{a, share})
			}
		}
	}
	for uuid, hs := range by {
		for _, a := range hs {
			var beside int64
			for _, b := range hs {
				if b.QueuedAt.After(a.QueuedAt) || !b.EndedAt.After(a.QueuedAt) {
					continue // it did not hold the device when a got it
				}
				if b.ID != a.ID && (a.share.Memory == 0 || b.share.Memory == 0) && !a.QueuedAt.Equal(b.QueuedAt) {
					s.t.Errorf("%s: %s got it while %s had it", uuid, a.TaskID, b.TaskID)
				}
				beside += b.share.Memory
			}
			if beside > gpuMemory {
				s.t.Errorf("%s: %d of %d were declared", uuid, beside, gpuMemory)
			}
		}
	}
}
