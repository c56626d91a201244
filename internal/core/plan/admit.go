package plan

import (
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// Usage counts what attempts in state queued, running or restarting occupy, across all runs. It is kept by Fold from the
// decisions themselves, so nobody counts by hand. The zero value is empty.
type Usage struct{}

// Add counts everything a run occupies now: at start, for every run rebuilt with NewRun.
func (u *Usage) Add(r *Run) {}

// Fold counts what a decision on r changed. Call it once for every Decision, in order, before or after Join.
func (u *Usage) Fold(r *Run, d Decision) {}

// Drop forgets a run that leaves memory unfinished (its usage goes with it).
func (u *Usage) Drop(r *Run) {}

// A Queue holds the scheduled instances of all runs that wait for admission, grouped so that one admission costs work
// for what starts and not for what waits. The zero value is empty.
type Queue struct{}

// Add enters all scheduled instances of a run: at start, for every run rebuilt with NewRun.
func (q *Queue) Add(r *Run, paused bool) {}

// Fold enters what a decision on r made ready and takes out what is no longer scheduled. Call it once for every Decision.
func (q *Queue) Fold(r *Run, d Decision, paused bool) {}

// SetPaused changes the paused flag of everything of a DAG.
func (q *Queue) SetPaused(dagID string, paused bool) {}

// Len is the number of waiting instances.
func (q *Queue) Len() int { return 0 }

// Drop takes everything of a run out.
func (q *Queue) Drop(k RunKey) {}

// Admit returns what may start now in order of priority and takes it out of the queue. It does not change u: the caller
// decides Admitted for each, and Usage.Fold counts that.
func (q *Queue) Admit(u *Usage, l Limits) []run.Key { return nil }

// Blocked says for every waiting instance why it does not start, in order of priority; nil keys mean all runs. It costs
// work for everything that waits, so it is for people who ask, not for the scheduler's loop.
func (q *Queue) Blocked(u *Usage, l Limits, only *RunKey) []Blocked { return nil }

// Admit says which candidates start now, in order of priority (larger weight, then earlier logical date, then longer
// waiting), and why the others do not. It is Queue.Admit and Queue.Blocked for a list made up for one question.
func Admit(cands []Candidate, u *Usage, l Limits, now time.Time) (start []run.Key, blocked []Blocked) {
	return nil, nil
}

// RunKey names a DAG run.
type RunKey struct{ DAGID, RunID string }

// RunCandidate is a queued DAG run that wants to begin.
type RunCandidate struct {
	Run           run.DAGRun
	MaxActiveRuns int // the DAG's; 0: Limits.MaxActiveRuns
	Paused        bool
}

// RunGroup is what max_active_runs counts: the runs of a DAG, those of each backfill apart.
type RunGroup struct {
	DAGID      string
	BackfillID int64
}

// BlockedRun says why a queued DAG run does not begin.
type BlockedRun struct {
	Key    RunKey
	Reason string
}

// RunsToStart says which queued runs may begin now, oldest first, and why the others wait. running counts the runs in
// state running of each group; the caller adds to it what it starts. wake is when the next run_after is reached; zero: none.
func RunsToStart(queued []RunCandidate, running map[RunGroup]int, l Limits, now time.Time) (start []RunKey, blocked []BlockedRun, wake time.Time) {
	return nil, nil, time.Time{}
}
