package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// RunKey names a DAG run.
type RunKey struct{ DAGID, RunID string }

// RunCandidate is a queued DAG run that wants to begin.
type RunCandidate struct {
	Run           run.DAGRun
	MaxActiveRuns int // the DAG's; 0: Limits.MaxActiveRuns
	Paused        bool
	// BackfillPaused: the run's backfill is paused. Reverse: its backfill begins with the newest date.
	BackfillPaused, Reverse bool
}

// RunGroup is what max_active_runs counts: the runs of a DAG, those of each backfill apart.
type RunGroup struct {
	DAGID      string
	BackfillID int64
}

// GroupOf is the group a run counts in.
func GroupOf(r run.DAGRun) RunGroup { return RunGroup{r.DAGID, r.BackfillID} }

// BlockedRun says why a queued DAG run does not begin.
type BlockedRun struct {
	Key    RunKey
	Reason string
}

// RunsToStart says which queued runs may begin now, oldest first unless a backfill is reversed, and why the others wait. running counts the runs in
// state running of each group and is not changed. wake is when the next run_after is reached; zero: no run waits for one.
func RunsToStart(queued []RunCandidate, running map[RunGroup]int, l Limits, now time.Time) (start []RunKey, blocked []BlockedRun, wake time.Time) {
	oldest := slices.Clone(queued)
	slices.SortStableFunc(oldest, RunCandidate.Compare)
	started := map[RunGroup]int{}
	for _, c := range oldest {
		g, k := GroupOf(c.Run), RunKey{c.Run.DAGID, c.Run.RunID}
		limit, active := c.Limit(l), running[g]+started[g]
		switch {
		case c.Paused:
			blocked = append(blocked, BlockedRun{k, fmt.Sprintf("DAG %s is paused", k.DAGID)})
		case c.BackfillPaused:
			blocked = append(blocked, BlockedRun{k, fmt.Sprintf("backfill %d is paused", c.Run.BackfillID)})
		case c.Run.RunAfter.After(now):
			blocked = append(blocked, BlockedRun{k, "not before " + c.Run.RunAfter.UTC().Format(time.RFC3339)})
			if wake.IsZero() || c.Run.RunAfter.Before(wake) {
				wake = c.Run.RunAfter
			}
		case active >= limit:
			blocked = append(blocked, BlockedRun{k, fmt.Sprintf("max_active_runs: %d of %d runs of %s are running", active, limit, k.DAGID)})
		default:
			started[g]++
			start = append(start, k)
		}
	}
	return start, blocked, wake
}

// Compare orders candidates as RunsToStart looks at them.
func (c RunCandidate) Compare(other RunCandidate) int {
	if c.Reverse || other.Reverse {
		return c.compareReversed(other)
	}
	return cmp.Or(c.date().Compare(other.date()), c.Run.QueuedAt.Compare(other.Run.QueuedAt), cmp.Compare(c.Run.RunID, other.Run.RunID))
}

// Limit is how many runs of the candidate's group may run for it to begin.
func (c RunCandidate) Limit(l Limits) int { return cmp.Or(c.MaxActiveRuns, l.maxActiveRuns()) }

// compareReversed puts the runs of backfills that begin with the newest date after all others, the newest first.
func (c RunCandidate) compareReversed(other RunCandidate) int {
	switch {
	case !c.Reverse:
		return -1
	case !other.Reverse:
		return 1
	}
	return cmp.Or(other.date().Compare(c.date()), cmp.Compare(c.Run.RunID, other.Run.RunID))
}

// date orders runs: by logical date, or by when they may run where they have none.
func (c RunCandidate) date() time.Time {
	if c.Run.LogicalDate != nil {
		return *c.Run.LogicalDate
	}
	return c.Run.RunAfter
}
