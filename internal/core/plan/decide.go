package plan

import (
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// Decide folds one event into r and returns what changes. Every changed row appears once, with Before as it was and After
// with its version grown by one; r already holds After. An event that means nothing any more (an outcome of an attempt that
// is not the current one, a key that does not exist) changes nothing.
//
// The work is proportional to the neighbours of what changed.
func Decide(r *Run, ev Event, now time.Time) Decision {
	d := &decider{Run: r, now: now}
	switch ev := ev.(type) {
	case RunStarted:
		d.start()
	case Recovered:
		d.recovered()
	case Tick:
	case ClockSet:
		d.clockSet(ev.By)
	case Admitted:
		d.admitted(ev)
	case AttemptStarted:
		d.attemptStarted(ev)
	case AttemptFinished:
		d.attemptFinished(ev)
	case Resumed:
		d.resumed(ev)
	case EndedByTrigger:
		d.endedByTrigger(ev)
	case PastChanged:
		d.pastChanged(ev.Past)
	case Cleared:
		d.cleared(ev)
	case Marked:
		d.marked(ev)
	case RunMarked:
		d.runMarked(ev)
	}
	d.settle()
	return d.decision()
}

// decider is one decision being made.
type decider struct {
	*Run
	now time.Time
	out Decision

	touched   []*instance
	rowBefore *run.DAGRun

	// What is to be judged: all waiting instances of a task, or single instances.
	tasksDue []*taskFold
	instsDue []*instance
}

// settle follows up until nothing more changes: due timers, everything whose upstream changed, and the end of the run.
func (d *decider) settle() {
	if d.row.State == run.RunRunning {
		for in := d.timers.due(d.now); in != nil; in = d.timers.due(d.now) {
			d.judgeLater(in)
		}
	}
	d.judgeAll()
	d.conclude()
}

// decision collects what changed.
func (d *decider) decision() Decision {
	for _, in := range d.touched {
		in.ti.Version = in.before.Version + 1
		d.out.Tasks = append(d.out.Tasks, TaskChange{Before: *in.before, After: in.ti})
		if in.ti.State == run.Scheduled && in.before.State != run.Scheduled {
			d.out.Ready = append(d.out.Ready, in.ti.Key)
		}
		in.before = nil
	}
	if d.rowBefore != nil {
		d.row.Version = d.rowBefore.Version + 1
		d.out.Run = &RunChange{Before: *d.rowBefore, After: d.row}
	}
	if d.row.State == run.RunRunning {
		d.out.WakeAt = d.wakeAt()
	}
	return d.out
}

func (d *decider) wakeAt() time.Time {
	at, ok := d.timers.next()
	if deadline, has := d.deadline(); has && (!ok || deadline.Before(at)) {
		return deadline
	}
	return at
}

// touch remembers an instance as it was, before its first change.
func (d *decider) touch(in *instance) {
	if in.before == nil {
		before := in.ti
		in.before = &before
		d.touched = append(d.touched, in)
	}
}

// touchRow remembers the DAG run as it was, before its first change.
func (d *decider) touchRow() {
	if d.rowBefore == nil {
		before := d.row
		d.rowBefore = &before
	}
}

// move gives an instance a new state and tells everything that waits for it.
func (d *decider) move(in *instance, to run.TaskState, reason string) {
	d.touch(in)
	d.visits++
	from := in.ti.State
	counts := from.IsFinished() || to.IsFinished()
	d.tally(in, -1)
	if counts {
		d.countForOthers(in, -1)
	}
	in.ti.State, in.ti.Reason = to, reason
	d.tally(in, 1)
	if counts {
		d.countForOthers(in, 1)
		d.announce(in)
	}
}

// end gives an instance a final state.
func (d *decider) end(in *instance, to run.TaskState, reason string) {
	d.endAt(in, to, reason, d.now)
}

func (d *decider) endAt(in *instance, to run.TaskState, reason string, at time.Time) {
	d.move(in, to, reason)
	if in.ti.StartDate == nil {
		in.ti.StartDate = &at
	}
	at = notBefore(at, in.ti.StartDate)
	in.ti.EndDate = &at
	in.ti.NextAt = nil
}

// announce marks everything that waits for an instance as to be judged.
func (d *decider) announce(in *instance) {
	p := in.task.pos
	for _, next := range d.x.Downstream(p) {
		d.judgeTaskLater(in, next)
	}
	for _, next := range d.x.Scope(p) {
		d.judgeTaskLater(in, next)
	}
	for _, next := range d.x.Mappers(p) {
		d.judgeTaskLater(in, next)
	}
}

func (d *decider) judgeTaskLater(cause *instance, p int) {
	t := &d.tasks[p]
	switch slot := cause.slot(); {
	case t.waiting == 0 || t.queued:
	case d.x.Paired(cause.task.pos, p) && t.unfolded() && slot < len(t.insts):
		d.judgeLater(t.insts[slot])
	default:
		t.queued = true
		d.tasksDue = append(d.tasksDue, t)
	}
}

func (d *decider) judgeLater(in *instance) {
	if !in.queued {
		in.queued = true
		d.instsDue = append(d.instsDue, in)
	}
}

// kill orders the end of an instance's attempt.
func (d *decider) kill(in *instance, reason string) {
	d.out.Kills = append(d.out.Kills, Kill{AttemptID: in.ti.AttemptID, Reason: reason})
}
