package plan

import (
	"container/heap"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// timers is a heap of instances that wait for a time. An entry is not taken out when its instance moves on by another
// way; it is recognised as void when it comes up.
type timers []timer

type timer struct {
	at time.Time
	in *instance
}

func (t *timers) add(at time.Time, in *instance) { heap.Push(t, timer{at, in}) }

// due takes out and returns the next instance whose time has come, or nil.
func (t *timers) due(now time.Time) *instance {
	if at, ok := t.next(); !ok || at.After(now) {
		return nil
	}
	return heap.Pop(t).(timer).in
}

// next is when the next entry that still means something is due.
func (t *timers) next() (time.Time, bool) {
	for len(*t) > 0 {
		if first := (*t)[0]; first.valid() {
			return first.at, true
		}
		heap.Pop(t)
	}
	return time.Time{}, false
}

func (t timer) valid() bool {
	ti := &t.in.ti
	return (ti.State == run.UpForRetry || ti.State == run.UpForReschedule) && ti.NextAt != nil && ti.NextAt.Equal(t.at)
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any          { return pop((*[]timer)(t)) }
