package plan

import (
	"cmp"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// A Run is one live DAG run held in memory: its row, its task instances and, for each task, how many upstream instances
// are in which state. Only Decide changes it. It belongs to one goroutine.
type Run struct {
	x   *dag.Index
	row run.DAGRun
	opt Options

	tasks   []taskFold         // by position in the index
	foreign []run.TaskInstance // of tasks that the DAG version does not have
	lengths map[XComRef]int    // of values that mapped tasks unfold by
	timers  timers

	unfinished int // instances that have not finished
	waiting    int // those of them in a state that IsWaiting

	visits int // instances and counters visited since NewRun; tests check the cost of an event by it
}

// taskFold is one task of the run with its instances.
type taskFold struct {
	pos   int
	spec  *dag.Task
	insts []*instance // by map index; one with index -1 while not unfolded

	shared counts   // upstream instances that every instance of the task waits for
	own    []counts // by map index: upstream instances of the same mapped group and index; nil outside mapped groups

	waiting    int // instances in a state that IsWaiting
	unfinished int
	stale      bool // a value it unfolded by is being made again
	queued     bool // all its instances are to be judged
}

// counts is what one instance waits for.
type counts struct {
	direct run.Upstream // by its trigger rule
	setups run.Upstream // because it is in the scope of setup tasks
}

func (c counts) plus(d counts) counts {
	return counts{c.direct.Plus(d.direct), c.setups.Plus(d.setups)}
}

// instance is one task instance.
type instance struct {
	task   *taskFold
	ti     run.TaskInstance
	before *run.TaskInstance // as it was before the decision being made; nil when that has not touched it
	queued bool              // to be judged
}

// slot is the instance's place in its task.
func (in *instance) slot() int { return max(0, in.ti.MapIndex) }

// NewRun folds a stored run. Instances of tasks that the DAG version does not have are kept and left alone.
func NewRun(x *dag.Index, row run.DAGRun, tis []run.TaskInstance, o Options) *Run {
	r := &Run{x: x, row: row, opt: o, tasks: make([]taskFold, x.Len()), lengths: map[XComRef]int{}}
	for p := range r.tasks {
		r.tasks[p] = taskFold{pos: p, spec: x.At(p)}
	}
	for ref, n := range o.MapLengths {
		r.lengths[ref] = n
	}
	for _, ti := range tis {
		if p, ok := x.Pos(ti.TaskID); ok {
			t := &r.tasks[p]
			t.insts = append(t.insts, &instance{task: t, ti: ti})
		} else {
			r.foreign = append(r.foreign, ti)
		}
	}
	r.sizeGroups()
	for p := range r.tasks {
		t := &r.tasks[p]
		slices.SortFunc(t.insts, func(a, b *instance) int { return cmp.Compare(a.ti.MapIndex, b.ti.MapIndex) })
		for _, in := range t.insts {
			r.enter(in)
		}
	}
	for p := range r.tasks {
		r.tasks[p].stale = r.sourcesUnfinished(p)
	}
	return r
}

// sizeGroups gives every task in a mapped group one set of counters per map index.
func (r *Run) sizeGroups() {
	width := map[*dag.TaskGroup]int{}
	for p := range r.tasks {
		if g := r.x.MapGroup(p); g != nil {
			for _, in := range r.tasks[p].insts {
				width[g] = max(width[g], in.slot()+1)
			}
		}
	}
	for p := range r.tasks {
		if g := r.x.MapGroup(p); g != nil {
			r.tasks[p].own = make([]counts, max(1, width[g]))
		}
	}
}

// enter counts an instance that the run did not have before.
func (r *Run) enter(in *instance) {
	r.tally(in, 1)
	r.countForOthers(in, 1)
	if at := in.ti.NextAt; at != nil && in.ti.State.IsWaiting() {
		r.timers.add(*at, in)
	}
}

// tally counts an instance in the totals of the run and of its task.
func (r *Run) tally(in *instance, n int) {
	if !in.ti.State.IsFinished() {
		r.unfinished += n
		in.task.unfinished += n
	}
	if in.ti.State.IsWaiting() {
		r.waiting += n
		in.task.waiting += n
	}
}

// countForOthers counts an instance in the counters of all that wait for it.
func (r *Run) countForOthers(in *instance, n int32) {
	p, setup := in.task.pos, in.task.spec.Setup
	for _, d := range r.x.Downstream(p) {
		r.counter(in, d).direct.Count(in.ti.State, setup, n)
	}
	for _, d := range r.x.Scope(p) {
		r.counter(in, d).setups.Count(in.ti.State, setup, n)
	}
}

// counter is where the task at position d counts an upstream instance.
func (r *Run) counter(in *instance, d int) *counts {
	r.visits++
	t := &r.tasks[d]
	if r.x.Paired(in.task.pos, d) && in.slot() < len(t.own) {
		return &t.own[in.slot()]
	}
	return &t.shared
}

// countsFor is what an instance waits for.
func (t *taskFold) countsFor(in *instance) counts {
	if s := in.slot(); s < len(t.own) {
		return t.shared.plus(t.own[s])
	}
	return t.shared
}

// Index is the compiled DAG of the run.
func (r *Run) Index() *dag.Index { return r.x }

// Row is the DAG run as it is now.
func (r *Run) Row() run.DAGRun { return r.row }

// Key names the run.
func (r *Run) Key() RunKey { return RunKey{r.row.DAGID, r.row.RunID} }

// Instance returns one task instance as it is now.
func (r *Run) Instance(k run.Key) (run.TaskInstance, bool) {
	if in := r.find(k); in != nil {
		return in.ti, true
	}
	return run.TaskInstance{}, false
}

// Instances returns all task instances in order of declaration and map index.
func (r *Run) Instances() []run.TaskInstance {
	var tis []run.TaskInstance
	for p := range r.tasks {
		for _, in := range r.tasks[p].insts {
			tis = append(tis, in.ti)
		}
	}
	return append(tis, r.foreign...)
}

// Task returns the task an instance belongs to; nil when the DAG version does not have it.
func (r *Run) Task(k run.Key) *dag.Task { return r.x.Task(k.TaskID) }

// MapCount is the number of instances a task has unfolded into (expanded_ti_count); false while it has not, and for tasks
// that are not mapped.
func (r *Run) MapCount(taskID string) (int, bool) {
	p, ok := r.x.Pos(taskID)
	if !ok || !r.tasks[p].unfolded() {
		return 0, false
	}
	n := 0
	for _, in := range r.tasks[p].insts {
		if in.ti.State != run.Removed {
			n++
		}
	}
	return n, true
}

// WillRetry tells whether a failure of the instance's current attempt would be retried (ti_context.should_retry).
func (r *Run) WillRetry(k run.Key) bool {
	in := r.find(k)
	return in != nil && in.ti.TryNumber <= in.ti.MaxTries
}

// Limits is what the run was built with.
func (r *Run) Limits() Limits { return r.opt.Limits }

// SetLimits changes what the installation allows; it counts from the next decision.
func (r *Run) SetLimits(l Limits) { r.opt.Limits = l }

// find returns the instance with a key, nil when there is none.
func (r *Run) find(k run.Key) *instance {
	p, ok := r.x.Pos(k.TaskID)
	if !ok {
		return nil
	}
	insts := r.tasks[p].insts
	i, ok := slices.BinarySearchFunc(insts, k.MapIndex, func(in *instance, index int) int {
		return cmp.Compare(in.ti.MapIndex, index)
	})
	if !ok {
		return nil
	}
	return insts[i]
}

// selected returns the instances keys stand for: an index of -1 means all instances of an unfolded task.
func (r *Run) selected(keys []run.Key) []*instance {
	var picked []*instance
	for _, k := range keys {
		if in := r.find(k); in != nil {
			picked = append(picked, in)
		} else if p, ok := r.x.Pos(k.TaskID); ok && k.MapIndex < 0 {
			picked = append(picked, r.tasks[p].insts...)
		}
	}
	return picked
}

// each calls f for every instance.
func (r *Run) each(f func(*instance)) {
	for p := range r.tasks {
		for _, in := range r.tasks[p].insts {
			r.visits++
			f(in)
		}
	}
}

// PastOf sums up a run for its successor: per task the state of its instance; for a mapped task the state of the first
// instance that did not end well, or else success.
func PastOf(row run.DAGRun, tis []run.TaskInstance) *Past {
	p := &Past{RunID: row.RunID, States: map[string]run.TaskState{}}
	for _, ti := range tis {
		if s, seen := p.States[ti.TaskID]; !seen || endedWell(s) {
			p.States[ti.TaskID] = ti.State
		}
	}
	return p
}

func endedWell(s run.TaskState) bool { return s == run.Success || s == run.Skipped }

// Instances returns the task instances a new DAG run begins with: one per task, or one per element where the length of a
// mapped task is known already; none for tasks whose start_date or end_date leaves the run's logical date out.
func Instances(x *dag.Index, row run.DAGRun, newID func() string) []run.TaskInstance {
	tis := make([]run.TaskInstance, 0, x.Len())
	for p := range x.DAG.Tasks {
		t := x.At(p)
		if !takesPart(t, row.LogicalDate) {
			continue
		}
		indexes := []int{-1}
		if m := x.Mapping(p); m != nil {
			if n, ok := m.Count(nil); ok && n > 0 {
				indexes = indexes[:0]
				for i := range n {
					indexes = append(indexes, i)
				}
			}
		}
		for _, i := range indexes {
			tis = append(tis, newInstance(row, t, i, newID()))
		}
	}
	return tis
}

func takesPart(t *dag.Task, logical *time.Time) bool {
	if logical == nil {
		return true
	}
	return (t.StartDate == nil || !logical.Before(*t.StartDate)) && (t.EndDate == nil || !logical.After(*t.EndDate))
}

func newInstance(row run.DAGRun, t *dag.Task, index int, id string) run.TaskInstance {
	return run.TaskInstance{
		Key:      run.Key{DAGID: row.DAGID, RunID: row.RunID, TaskID: t.ID, MapIndex: index},
		ID:       id,
		MaxTries: t.Retries,
	}
}
