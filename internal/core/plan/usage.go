package plan

import (
	"cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
)

// Usage counts what attempts in state queued, running or restarting occupy, across all runs. It is kept by Fold from the
// decisions themselves, so that nobody counts by hand. The zero value is empty.
type Usage struct {
	executors map[string]int
	pools     map[string]poolUse
	dags      map[string]int // instances per DAG
	runs      map[RunKey]int // instances per run
	tasks     map[taskKey]int
	runTasks  map[runTaskKey]int

	cpus   float64
	memory int64
	// gpus are held by attempts, not by instances: an attempt that is being ended still has its own.
	gpus gpu.Ledger
}

// poolUse is the number of slots taken in a pool. Deferred instances count only in pools that include them.
type poolUse struct{ taken, deferred int }

type taskKey struct{ dagID, taskID string }

type runTaskKey struct {
	RunKey
	taskID string
}

// Occupied is what is taken of a pool, for people to see.
type Occupied struct{ Taken, Deferred int }

// Pool returns what is taken of a pool.
func (u *Usage) Pool(name string) Occupied {
	p := u.pools[name]
	return Occupied{Taken: p.taken, Deferred: p.deferred}
}

// HoldGPUs enters the GPUs an attempt holds, from its admission to its end.
func (u *Usage) HoldGPUs(h gpu.Hold) { u.gpus.Hold(h) }

// FreeGPUs frees the GPUs of an attempt that has ended: its processes are gone.
func (u *Usage) FreeGPUs(attemptID string) { u.gpus.Release(attemptID) }

// Executor returns the number of attempts an executor has.
func (u *Usage) Executor(name string) int { return u.executors[name] }

// Add counts everything a run occupies now: at start, for every run rebuilt with NewRun.
func (u *Usage) Add(r *Run) { u.all(r, 1) }

// Drop forgets everything a run occupies: when it leaves memory before it has ended, to be rebuilt.
func (u *Usage) Drop(r *Run) { u.all(r, -1) }

func (u *Usage) all(r *Run, n int) {
	r.each(func(in *instance) { u.count(r, in.task.spec, &in.ti, n) })
}

// Fold counts what a decision on r changed. Call it exactly once for every Decision: for each as it is made, or for the
// result of Join, but not for both.
func (u *Usage) Fold(r *Run, d Decision) {
	for i := range d.Tasks {
		c := &d.Tasks[i]
		spec := r.x.Task(c.After.TaskID)
		if spec == nil || claimOf(c.Before.State) == claimOf(c.After.State) {
			continue
		}
		u.count(r, spec, &c.Before, -1)
		u.count(r, spec, &c.After, 1)
	}
}

// claim is how an instance uses what is scarce.
type claim int

const (
	claimNothing claim = iota
	claimDeferred
	claimAttempt
)

func claimOf(s run.TaskState) claim {
	switch {
	case s.HasAttempt():
		return claimAttempt
	case s == run.Deferred:
		return claimDeferred
	default:
		return claimNothing
	}
}

func (u *Usage) count(r *Run, spec *dag.Task, ti *run.TaskInstance, n int) {
	switch claimOf(ti.State) {
	case claimDeferred:
		p := u.pools[spec.PoolName()]
		p.deferred += n * spec.Slots()
		put(&u.pools, spec.PoolName(), p)
	case claimAttempt:
		c := r.candidate(spec, ti)
		u.take(&c, n)
	}
}

// take counts n attempts of a candidate, negative to give back.
func (u *Usage) take(c *Candidate, n int) {
	add(&u.executors, c.Executor, n)
	p := u.pools[c.Pool]
	p.taken += n * c.PoolSlots
	put(&u.pools, c.Pool, p)
	add(&u.dags, c.Key.DAGID, n)
	add(&u.runs, c.runKey(), n)
	add(&u.tasks, taskKey{c.Key.DAGID, c.Key.TaskID}, n)
	add(&u.runTasks, runTaskKey{c.runKey(), c.Key.TaskID}, n)
	if res := c.Resources; res != nil {
		u.cpus += float64(n) * res.CPU
		u.memory += int64(n) * res.Memory
	}
}

// add changes a counter and drops it at zero, so that the maps hold live things only.
func add[K comparable](m *map[K]int, k K, n int) {
	put(m, k, (*m)[k]+n)
}

func put[K, V comparable](m *map[K]V, k K, v V) {
	var zero V
	switch {
	case v == zero:
		delete(*m, k)
	case *m == nil:
		*m = map[K]V{k: v}
	default:
		(*m)[k] = v
	}
}

func (c *Candidate) runKey() RunKey { return RunKey{c.Key.DAGID, c.Key.RunID} }

// Candidate describes a scheduled instance for a Queue; false when it is not in state scheduled.
func (r *Run) Candidate(k run.Key, paused bool) (Candidate, bool) {
	in := r.find(k)
	if in == nil || in.ti.State != run.Scheduled {
		return Candidate{}, false
	}
	c := r.candidate(in.task.spec, &in.ti)
	c.DAGPaused = paused
	return c, true
}

func (r *Run) candidate(spec *dag.Task, ti *run.TaskInstance) Candidate {
	p, _ := r.x.Pos(spec.ID)
	c := Candidate{
		Key:                   ti.Key,
		Priority:              r.x.Weight(p),
		LogicalDate:           r.row.RunAfter,
		Pool:                  spec.PoolName(),
		PoolSlots:             spec.Slots(),
		Executor:              r.opt.Limits.executor(spec.Executor),
		Resources:             spec.Resources,
		MaxActiveTIsPerDag:    spec.MaxActiveTIsPerDag,
		MaxActiveTIsPerDagrun: spec.MaxActiveTIsPerDagrun,
		MaxActiveTasks:        cmp.Or(r.x.DAG.MaxActiveTasks, r.opt.Limits.maxActiveTasks()),
		TasksScope:            TaskScopeRun,
	}
	if r.row.LogicalDate != nil {
		c.LogicalDate = *r.row.LogicalDate
	}
	if ti.ScheduledAt != nil {
		c.ScheduledAt = *ti.ScheduledAt
	}
	if r.x.DAG.Compat == dag.CompatAirflow2 {
		c.TasksScope = TaskScopeDAG
	}
	return c
}
