package plan

import (
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// This file decides about instances that wait: whether their upstream lets them go on.

// judgeAll works off everything that is to be judged, and whatever that causes.
func (d *decider) judgeAll() {
	for len(d.tasksDue) > 0 || len(d.instsDue) > 0 {
		if n := len(d.instsDue); n > 0 {
			in := d.instsDue[n-1]
			d.instsDue = d.instsDue[:n-1]
			in.queued = false
			d.judge(in)
			continue
		}
		n := len(d.tasksDue)
		t := d.tasksDue[n-1]
		d.tasksDue = d.tasksDue[:n-1]
		t.queued = false
		d.judgeTask(t)
	}
}

// judgeTask judges all waiting instances of a task. Where they share their counters, one look is enough to see that all
// must go on waiting.
func (d *decider) judgeTask(t *taskFold) {
	if d.row.State != run.RunRunning || t.waiting == 0 {
		return
	}
	d.unfold(t)
	if t.own == nil && len(t.insts) > 0 {
		d.visits++
		if v := verdict(t, t.insts[0]); v.State == run.None {
			return
		}
	}
	for _, in := range t.insts {
		d.judge(in)
	}
}

// judge lets a waiting instance go on, or end, if it is time.
func (d *decider) judge(in *instance) {
	d.visits++
	if d.row.State != run.RunRunning || !in.ti.State.IsWaiting() {
		return
	}
	known := d.unfold(in.task)
	if !in.ti.State.IsWaiting() { // it could not be unfolded
		return
	}
	switch v := verdict(in.task, in); v.State {
	case run.None:
	case run.Scheduled:
		if known && !in.sleeps(d.now) && d.pastBlocks(in.task) == "" {
			d.proceed(in)
		}
	default:
		if v.State == run.Skipped && in.task.spec.WaitForPastDependsBeforeSkipped && d.pastBlocks(in.task) != "" {
			return
		}
		d.end(in, v.State, v.Reason)
	}
}

// sleeps tells whether the instance waits for a time that has not come.
func (in *instance) sleeps(now time.Time) bool { return in.ti.NextAt != nil && in.ti.NextAt.After(now) }

// verdict is what the setups around an instance and its trigger rule say.
func verdict(t *taskFold, in *instance) run.Verdict {
	c := t.countsFor(in)
	setups := run.JudgeSetups(c.setups)
	if setups.State.IsFinished() {
		return setups
	}
	rule := run.JudgeRule(t.spec.Rule(), c.direct, in.ti.MapIndex >= 0)
	if rule.State == run.Scheduled && setups.State == run.None {
		return setups
	}
	return rule
}

// proceed makes an instance ready, or completes it at once when there is nothing to run.
func (d *decider) proceed(in *instance) {
	if in.task.spec.Instant() {
		d.end(in, run.Success, "")
		in.ti.TryNumber = max(1, in.ti.TryNumber)
		return
	}
	d.move(in, run.Scheduled, "")
	at := d.now
	in.ti.ScheduledAt, in.ti.NextAt = &at, nil
}

// pastBlocks says in words why the previous run holds the task back; "" when it does not.
func (r *Run) pastBlocks(t *taskFold) string {
	spec, past := t.spec, r.opt.Past
	if !spec.DependsOnPast && !spec.WaitForDownstream || past == nil {
		return ""
	}
	state, ran := past.States[spec.ID]
	switch {
	case !ran && spec.IgnoreFirstDependsOnPast:
		return ""
	case !ran:
		return fmt.Sprintf("depends_on_past: the task is not in the previous run %s", past.RunID)
	case !endedWell(state):
		return fmt.Sprintf("depends_on_past: the task is %s in the previous run %s", state, past.RunID)
	case !spec.WaitForDownstream:
		return ""
	}
	for _, p := range r.x.Downstream(t.pos) {
		id := r.x.At(p).ID
		if s, ran := past.States[id]; ran && !endedWell(s) {
			return fmt.Sprintf("wait_for_downstream: task %s is %s in the previous run %s", id, s, past.RunID)
		}
	}
	return ""
}

// pastChanged takes over what is known of the previous run and judges the tasks that depend on it.
func (d *decider) pastChanged(p *Past) {
	d.opt.Past = p
	for pos := range d.tasks {
		if t := &d.tasks[pos]; t.spec.DependsOnPast || t.spec.WaitForDownstream {
			d.judgeWhole(t)
		}
	}
}

func (d *decider) judgeWhole(t *taskFold) {
	if !t.queued && t.waiting > 0 {
		t.queued = true
		d.tasksDue = append(d.tasksDue, t)
	}
}
