package plan

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
)

// A Queue holds the scheduled instances of all runs that wait for admission. They stand in lanes: instances of one lane
// want the same of everything that is scarce, so that when the first of a lane cannot start, none of it can. One admission
// therefore costs work for the lanes and for what starts, not for all that waits. The zero value is empty.
type Queue struct {
	lanes   map[laneKey]*lane
	waiting map[run.Key]*waiter
}

// laneKey is everything that admission looks at.
type laneKey struct {
	run            RunKey
	task           string // only for tasks with limits of their own
	executor, pool string
	slots          int
	resources      dag.Resources
}

type lane struct {
	key    laneKey
	paused bool
	long   bool // its first has waited for GPUs for long
	heap   waiters
}

// waiter is one waiting candidate. One that was taken out of the queue stays in its lane, marked, until it comes up.
type waiter struct {
	Candidate
	gone bool
}

// Len is the number of waiting instances.
func (q *Queue) Len() int { return len(q.waiting) }

// Add enters all scheduled instances of a run: at start, for every run rebuilt with NewRun.
func (q *Queue) Add(r *Run, paused bool) {
	r.each(func(in *instance) {
		if in.ti.State == run.Scheduled {
			q.push(r.candidate(in.task.spec, &in.ti), paused)
		}
	})
}

// Fold enters what a decision on r made ready and takes out what is no longer scheduled. Call it once for every Decision.
func (q *Queue) Fold(r *Run, d Decision, paused bool) {
	for i := range d.Tasks {
		switch c := &d.Tasks[i]; {
		case c.After.State != run.Scheduled:
			q.remove(c.After.Key)
		case q.waiting[c.After.Key] == nil:
			if spec := r.x.Task(c.After.TaskID); spec != nil {
				q.push(r.candidate(spec, &c.After), paused)
			}
		}
	}
}

// Drop takes everything of a run out.
func (q *Queue) Drop(k RunKey) {
	for key, l := range q.lanes {
		if key.run != k {
			continue
		}
		for _, w := range l.heap {
			if !w.gone {
				delete(q.waiting, w.Key)
			}
		}
		delete(q.lanes, key)
	}
}

// SetPaused changes the paused flag of everything of a DAG that waits.
func (q *Queue) SetPaused(dagID string, paused bool) {
	for key, l := range q.lanes {
		if key.run.DAGID == dagID {
			l.paused = paused
		}
	}
}

func (q *Queue) push(c Candidate, paused bool) {
	if q.lanes == nil {
		q.lanes, q.waiting = map[laneKey]*lane{}, map[run.Key]*waiter{}
	}
	k := laneKey{run: c.runKey(), executor: c.Executor, pool: c.Pool, slots: c.PoolSlots}
	if c.MaxActiveTIsPerDag > 0 || c.MaxActiveTIsPerDagrun > 0 {
		k.task = c.Key.TaskID
	}
	if c.Resources != nil {
		k.resources = *c.Resources
	}
	l := q.lanes[k]
	if l == nil {
		l = &lane{key: k}
		q.lanes[k] = l
	}
	l.paused = paused
	w := &waiter{Candidate: c}
	q.waiting[c.Key] = w
	heap.Push(&l.heap, w)
}

func (q *Queue) remove(k run.Key) {
	if w := q.waiting[k]; w != nil {
		w.gone = true
		delete(q.waiting, k)
	}
}

// first returns the candidate at the head of a lane, nil when nobody waits there any more.
func (l *lane) first() *waiter {
	for len(l.heap) > 0 && l.heap[0].gone {
		heap.Pop(&l.heap)
	}
	if len(l.heap) == 0 {
		return nil
	}
	w := l.heap[0]
	w.DAGPaused = l.paused
	return w
}

// An Admission is an instance that may start, with the GPUs its attempt gets.
type Admission struct {
	Key  run.Key
	GPUs []gpu.Share
}

// Admit returns what may start now and takes it out of the queue, in order of priority: the larger weight, then the earlier
// logical date, then who waits longer. It leaves u as it was: the caller decides Admitted for each, which Usage.Fold counts,
// and enters the GPUs with Usage.HoldGPUs.
func (q *Queue) Admit(u *Usage, l Limits) []Admission {
	if u.allFull(&l) {
		return nil
	}
	heads := make(lanes, 0, len(q.lanes))
	for k, lane := range q.lanes {
		if lane.first() == nil {
			delete(q.lanes, k)
		} else {
			lane.long = l.waitsLong(&lane.heap[0].Candidate)
			heads = append(heads, lane)
		}
	}
	heap.Init(&heads)
	p := pass{u: u, l: &l}
	var started []*waiter
	var out []Admission
	for len(heads) > 0 && !u.allFull(&l) {
		lane := heads[0]
		w := lane.first()
		why, shares := p.judge(&w.Candidate)
		if why != "" {
			heap.Pop(&heads)
			continue
		}
		q.remove(w.Key)
		heap.Pop(&lane.heap)
		u.take(&w.Candidate, 1)
		p.hold(w.Key, shares)
		started = append(started, w)
		out = append(out, Admission{w.Key, shares})
		if lane.first() == nil {
			heap.Pop(&heads)
		} else {
			lane.long = l.waitsLong(&lane.heap[0].Candidate)
			heap.Fix(&heads, 0)
		}
	}
	for _, w := range started {
		u.take(&w.Candidate, -1)
	}
	p.letGo()
	return out
}

// Blocked says for every waiting instance why it does not start, in order of priority; only, when not nil, restricts it to
// one run. It costs work for everything that waits: it is for people who ask, not for the scheduler's loop.
func (q *Queue) Blocked(u *Usage, l Limits, only *RunKey) []Blocked {
	var found []*waiter
	for _, lane := range q.lanes {
		asked := only == nil || lane.key.run == *only
		if !asked && lane.key.resources.GPUs > 0 && lane.first() != nil { // GPUs may be kept for it
			found = append(found, lane.first())
		}
		for _, w := range lane.heap {
			if asked && !w.gone {
				w.DAGPaused = lane.paused
				found = append(found, w)
			}
		}
	}
	slices.SortFunc(found, func(a, b *waiter) int {
		return cmp.Or(compareLong(l.waitsLong(&a.Candidate), l.waitsLong(&b.Candidate), a, b), compareWaiters(a, b))
	})
	p := pass{u: u, l: &l}
	blocked := make([]Blocked, 0, len(found))
	for _, w := range found {
		why, _ := p.judge(&w.Candidate)
		if only == nil || w.runKey() == *only {
			blocked = append(blocked, Blocked{Key: w.Key, Reason: cmp.Or(why, "about to start")})
		}
	}
	return blocked
}

// compareWaiters orders candidates by urgency. The heaps call it often, so it compares no more than it must.
func compareWaiters(a, b *waiter) int {
	if a.Priority != b.Priority {
		return cmp.Compare(b.Priority, a.Priority)
	}
	if c := a.LogicalDate.Compare(b.LogicalDate); c != 0 {
		return c
	}
	if c := a.ScheduledAt.Compare(b.ScheduledAt); c != 0 {
		return c
	}
	return cmp.Or(
		strings.Compare(a.Key.DAGID, b.Key.DAGID),
		strings.Compare(a.Key.RunID, b.Key.RunID),
		strings.Compare(a.Key.TaskID, b.Key.TaskID),
		cmp.Compare(a.Key.MapIndex, b.Key.MapIndex),
	)
}

// waiters is a heap of candidates, the most urgent first.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return compareWaiters(w[i], w[j]) < 0 }
func (w waiters) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiters) Push(x any)        { *w = append(*w, x.(*waiter)) }
func (w *waiters) Pop() any          { return pop((*[]*waiter)(w)) }

// lanes is a heap of lanes by their first candidates; none is empty.
type lanes []*lane

func (l lanes) Len() int { return len(l) }
func (l lanes) Less(i, j int) bool {
	a, b := l[i], l[j]
	if c := compareLong(a.long, b.long, a.heap[0], b.heap[0]); c != 0 {
		return c < 0
	}
	return compareWaiters(a.heap[0], b.heap[0]) < 0
}
func (l lanes) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *lanes) Push(x any)   { *l = append(*l, x.(*lane)) }
func (l *lanes) Pop() any     { return pop((*[]*lane)(l)) }

// pop takes the last element off a slice.
func pop[T any](s *[]T) T {
	last := len(*s) - 1
	v := (*s)[last]
	*s = (*s)[:last]
	return v
}
