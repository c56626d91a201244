package plan

import (
	"fmt"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// chain is n tasks in a row; fan is one task, n beside each other after it, and one that waits for all of them.
func chain(n int) *dag.Index {
	d := &dag.DAG{ID: "d"}
	for i := range n {
		t := dag.Task{ID: fmt.Sprintf("t%d", i)}
		if i > 0 {
			t.Upstream = []string{fmt.Sprintf("t%d", i-1)}
		}
		d.Tasks = append(d.Tasks, t)
	}
	return dag.NewIndex(d)
}

func fan(n int) *dag.Index {
	d := &dag.DAG{ID: "d", Tasks: []dag.Task{{ID: "root"}}}
	join := dag.Task{ID: "join"}
	for i := range n {
		id := fmt.Sprintf("t%d", i)
		d.Tasks = append(d.Tasks, dag.Task{ID: id, Upstream: []string{"root"}})
		join.Upstream = append(join.Upstream, id)
	}
	d.Tasks = append(d.Tasks, join)
	return dag.NewIndex(d)
}

// TestAnEventCostsItsNeighboursOnly counts what a decision looks at in runs of 10 000 tasks.
func TestAnEventCostsItsNeighboursOnly(t *testing.T) {
	const wide = 10_000
	cost := func(h *harness, f func()) int {
		before := h.r.visits
		f()
		return h.r.visits - before
	}
	check := func(what string, got, most int) {
		t.Helper()
		if got > most {
			t.Errorf("%s looks at %d instances and counters, more than %d", what, got, most)
		}
	}

	h := start(t, chain(wide))
	check("admitting and starting", cost(h, func() { h.run("t0") }), 4)
	check("ending one of a chain", cost(h, func() { h.finish("t0", run.Success) }), 8)
	check("a tick", cost(h, func() { h.pass(time.Second) }), 0)

	h = start(t, fan(wide))
	h.run("root")
	check("ending the root of a fan", cost(h, func() { h.finish("root", run.Success) }), 6*wide)
	h.run("t7")
	check("ending one of a fan", cost(h, func() { h.finish("t7", run.Success) }), 8)
	h.run("t8")
	check("failing one of a fan", cost(h, func() { h.finish("t8", run.Failed) }), 8)
}

// BenchmarkRun plays whole runs: decisions, usage and admission, but no store. It reports the time per task.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name string
		x    *dag.Index
	}{{"chain of 1000", chain(1000)}, {"fan of 10000", fan(10_000)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			tasks := 0
			for b.Loop() {
				tasks += playThrough(b, c.x, 32)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tasks), "ns/task")
		})
	}
}

// playThrough runs a DAG to its end on an executor with some slots and returns the number of attempts.
func playThrough(b *testing.B, x *dag.Index, slots int) int {
	id := 0
	newID := func() string { id++; return fmt.Sprint(id) }
	l := Limits{Executors: map[string]int{"local": slots}, Pools: map[string]Pool{DefaultPool: {Slots: -1}}, MaxActiveTasks: slots}
	row := run.DAGRun{DAGID: "d", RunID: "r", State: run.RunQueued, RunAfter: epoch, Version: 1}
	tis := Instances(x, row, newID)
	for i := range tis {
		tis[i].Version = 1
	}
	r := NewRun(x, row, tis, Options{Limits: l, NewID: newID})
	var q Queue
	var u Usage
	fold := func(d Decision) {
		u.Fold(r, d)
		q.Fold(r, d, false)
	}
	fold(Decide(r, RunStarted{}, epoch))
	attempts := 0
	var running []run.Key
	for !r.Row().State.IsFinished() {
		for _, a := range q.Admit(&u, l) {
			k := a.Key
			attempts++
			fold(Decide(r, Admitted{Key: k, AttemptID: fmt.Sprint(attempts)}, epoch))
			running = append(running, k)
		}
		if len(running) == 0 {
			b.Fatal("the run stands still")
		}
		k := running[0]
		running = running[1:]
		ti, _ := r.Instance(k)
		fold(Decide(r, AttemptFinished{Key: k, Outcome: Outcome{AttemptID: ti.AttemptID, State: run.Success, EndedAt: epoch}}, epoch))
	}
	return attempts
}

// BenchmarkAdmit asks for the next admission where many runs wait for a few slots.
func BenchmarkAdmit(b *testing.B) {
	x := fan(100)
	l := Limits{Executors: map[string]int{"local": 1}, Pools: map[string]Pool{DefaultPool: {Slots: 128}}}
	var q Queue
	var u Usage
	for i := range 1000 {
		row := run.DAGRun{DAGID: "d", RunID: fmt.Sprint(i), State: run.RunQueued, RunAfter: epoch}
		r := NewRun(x, row, Instances(x, row, func() string { return "" }), Options{Limits: l})
		d := Decide(r, RunStarted{}, epoch)
		q.Fold(r, d, false)
	}
	b.ResetTimer()
	for b.Loop() {
		keys := q.Admit(&u, l)
		if len(keys) != 1 {
			b.Fatal(keys)
		}
		q.push(Candidate{Key: keys[0].Key, Pool: DefaultPool, PoolSlots: 1, Executor: "local", MaxActiveTasks: 16}, false)
	}
}
