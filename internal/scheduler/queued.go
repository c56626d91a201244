package scheduler

import (
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
)

// A runLine is the queued runs of one group in the order in which they may begin. With it the end of a run costs what
// begins after it, however many runs wait behind that.
type runLine struct {
	places []*turn
	fresh  []*liveRun // not in places yet
	limit  int        // the largest that any of its runs had
}

// A turn is a run's place in its line, and what it stands there by. It is void once the run is not queued any more, or has been
// queued again.
type turn struct {
	lr     *liveRun
	number int
	by     plan.RunCandidate
}

func (p *turn) void(st *state) bool { return st.queued[p.lr.key] != p.lr || p.number != p.lr.turn }

// lineUp notes a run that has been queued.
func (st *state) lineUp(lr *liveRun) {
	g := group(lr.run.Row())
	if st.lines[g] == nil {
		st.lines[g] = &runLine{}
	}
	lr.turn++
	st.lines[g].fresh = append(st.lines[g].fresh, lr)
}

// nextRuns are the queued runs that may begin now as far as their groups have room, and those before them that wait for
// their time.
func (s *Scheduler) nextRuns(limits plan.Limits, now time.Time) (out []plan.RunCandidate) {
	st := s.st
	for g, l := range st.lines {
		s.settle(l, limits)
		for len(l.places) > 0 && l.places[0].void(st) {
			l.places = l.places[1:]
		}
		if len(l.places) == 0 {
			delete(st.lines, g)
			continue
		}
		running := st.running[g]
		for _, p := range l.places {
			if running >= l.limit || s.held {
				break
			}
			if p.void(st) {
				continue
			}
			c := s.candidate(p.lr)
			if c.Paused || c.BackfillPaused {
				break // and so are the others of the group
			}
			out = append(out, c)
			if running < c.Limit(limits) && !c.Run.RunAfter.After(now) {
				running++
			}
		}
	}
	return out
}

// settle puts the fresh runs of a line into their places.
func (s *Scheduler) settle(l *runLine, limits plan.Limits) {
	for _, lr := range l.fresh {
		c := s.candidate(lr)
		l.limit = max(l.limit, c.Limit(limits))
		p := &turn{lr: lr, number: lr.turn, by: orderOf(c)}
		i, _ := slices.BinarySearchFunc(l.places, p, func(a, b *turn) int { return a.by.Compare(b.by) })
		l.places = slices.Insert(l.places, i, p)
	}
	l.fresh = nil
}

// orderOf is a candidate without what its order does not depend on.
func orderOf(c plan.RunCandidate) plan.RunCandidate {
	r := c.Run
	return plan.RunCandidate{Reverse: c.Reverse, Run: run.DAGRun{
		RunID: r.RunID, LogicalDate: r.LogicalDate, RunAfter: r.RunAfter, QueuedAt: r.QueuedAt,
	}}
}

// candidate is what plan must know of a queued run.
func (s *Scheduler) candidate(lr *liveRun) plan.RunCandidate {
	st := s.st
	c := plan.RunCandidate{Run: lr.run.Row(), MaxActiveRuns: lr.run.Index().DAG.MaxActiveRuns, Paused: st.paused(lr.key.DAGID)}
	if x := st.backfills[c.Run.BackfillID]; x != nil {
		c.MaxActiveRuns, c.Reverse, c.BackfillPaused = x.MaxActiveRuns, x.Reverse, x.Paused
	}
	return c
}
