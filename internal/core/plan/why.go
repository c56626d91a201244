package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// Why says in words why an instance is not running; "" for running and finished ones. What a scheduled instance waits for
// is known to Queue.Blocked.
func (r *Run) Why(k run.Key, now time.Time) string {
	in := r.find(k)
	switch {
	case in == nil || in.ti.State.IsFinished() || in.ti.State == run.Running:
		return ""
	case in.ti.State == run.Queued:
		return "handed to its executor, the process has not started yet"
	case in.ti.State == run.Restarting:
		return "cleared while running, its process is being ended"
	case r.row.State == run.RunQueued:
		return "the DAG run is queued and has not begun"
	case r.row.State.IsFinished():
		return fmt.Sprintf("the DAG run has ended as %s", r.row.State)
	}
	switch in.ti.State {
	case run.Scheduled:
		return "ready, waiting for a free slot"
	case run.Deferred:
		return "deferred, waiting for its trigger"
	case run.AwaitingInput:
		return "waiting for a person to answer"
	}
	if in.sleeps(now) {
		return in.whyAsleep(now)
	}
	return r.whyWaiting(in)
}

// whyAsleep explains a wait for a time.
func (in *instance) whyAsleep(now time.Time) string {
	left, at := in.ti.NextAt.Sub(now).Round(time.Second), in.ti.NextAt.UTC().Format("15:04:05 MST")
	if in.ti.State == run.UpForReschedule {
		return fmt.Sprintf("its condition was not met, it looks again in %s, at %s", left, at)
	}
	cause := "failed"
	if in.ti.Reason != "" {
		cause = fmt.Sprintf("failed (%s)", in.ti.Reason)
	}
	return fmt.Sprintf("try %d %s, the next is due in %s, at %s", in.ti.TryNumber, cause, left, at)
}

// whyWaiting explains a wait for other tasks.
func (r *Run) whyWaiting(in *instance) string {
	t := in.task
	if r.x.Mapping(t.pos) != nil && !t.unfolded() {
		if missing := r.unfinishedOf(r.x.MapSources(t.pos), in); len(missing) > 0 {
			return "waiting to know what it is mapped over: " + strings.Join(missing, ", ")
		}
	}
	c := t.countsFor(in)
	if run.JudgeRule(t.spec.Rule(), c.direct, in.ti.MapIndex >= 0).State == run.None {
		return run.ExplainRule(t.spec.Rule(), c.direct, r.unfinishedOf(r.x.Upstream(t.pos), in))
	}
	if missing := r.unfinishedOf(r.x.Setups(t.pos), in); len(missing) > 0 {
		return "waiting for setup tasks: " + strings.Join(missing, ", ")
	}
	if why := r.pastBlocks(t); why != "" {
		return why
	}
	return "about to be scheduled"
}

// unfinishedOf names the tasks with instances that an instance still waits for.
func (r *Run) unfinishedOf(tasks []int, in *instance) []string {
	var ids []string
	for _, p := range tasks {
		t := &r.tasks[p]
		insts := t.insts
		if r.x.Paired(p, in.task.pos) && in.slot() < len(insts) {
			insts = insts[in.slot() : in.slot()+1]
		}
		if slices.ContainsFunc(insts, func(up *instance) bool { return !up.ti.State.IsFinished() }) {
			ids = append(ids, t.spec.ID)
		}
	}
	return ids
}
