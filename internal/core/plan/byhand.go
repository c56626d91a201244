package plan

import (
	"cmp"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/core/run"
)

// This file folds what people order: clear, mark, cancel.

func (d *decider) cleared(ev Cleared) {
	if !d.clear(d.selected(ev.Keys), cmp.Or(ev.Reason, "cleared")) {
		return
	}
	if ev.KeepRun {
		return
	}
	d.restartRun()
}

// clear lets instances run again and tells whether there was any. An instance with an attempt must lose it first.
func (d *decider) clear(insts []*instance, reason string) bool {
	found := false
	var skipped []skippedInstance
	for _, in := range insts {
		if s := in.ti.State; s == run.None || s == run.Restarting || s == run.Removed {
			continue
		}
		found = true
		if by, ok := d.skippedBy(in); ok {
			skipped = append(skipped, skippedInstance{in, by, in.ti.Reason})
		}
		d.forgetValues(in)
		if in.ti.State.HasAttempt() {
			d.kill(in, reason)
			d.move(in, run.Restarting, reason)
			d.forgetTry(in)
		} else {
			d.move(in, run.None, "")
			d.resetTry(in)
			d.judgeLater(in)
		}
		in.ti.ID = d.opt.NewID()
		in.ti.MaxTries = in.ti.TryNumber + in.task.spec.Retries
		in.ti.InfraRetries = 0
	}
	for _, s := range skipped {
		if s.by.ti.State == run.Success { // it stands by its choice: it was not cleared too
			d.end(s.in, run.Skipped, s.reason)
		}
	}
	return found
}

// skippedInstance is an instance that a task directly before it has skipped.
type skippedInstance struct {
	in, by *instance
	reason string
}

// skippedBy finds the branch or short circuit directly before an instance that has skipped it.
func (d *decider) skippedBy(in *instance) (*instance, bool) {
	id, ok := strings.CutPrefix(in.ti.Reason, skippedByPrefix)
	if !ok || in.ti.State != run.Skipped {
		return nil, false
	}
	p, ok := d.x.Pos(id)
	if !ok || !slices.Contains(d.x.Upstream(in.task.pos), p) {
		return nil, false
	}
	for _, index := range []int{in.ti.MapIndex, -1} {
		if by := d.find(run.Key{TaskID: id, MapIndex: index}); by != nil {
			return by, true
		}
	}
	return nil, false
}

// restartRun counts a clearing and, where the run had ended, puts it back into the queue.
func (d *decider) restartRun() {
	d.touchRow()
	d.row.ClearNumber++
	if d.row.State.IsFinished() {
		d.queueRun()
	}
}

func (d *decider) queueRun() {
	d.touchRow()
	d.row.State, d.row.QueuedAt, d.row.StartDate, d.row.EndDate = run.RunQueued, d.now, nil, nil
}

func (d *decider) marked(ev Marked) {
	if !run.ByHand(ev.State) {
		return
	}
	reason := cmp.Or(ev.Reason, "marked "+string(ev.State))
	var after []int
	for _, in := range d.selected(ev.Keys) {
		if in.ti.State == ev.State {
			continue
		}
		d.stop(in, ev.State, reason)
		after = append(after, in.task.pos)
	}
	if ev.State != run.Failed && d.clearFailedAfter(after, ev.Keys) {
		d.restartRun()
	}
}

// clearFailedAfter clears the failed instances downstream of tasks, but not the ones that were named themselves.
func (d *decider) clearFailedAfter(tasks []int, named []run.Key) bool {
	slices.Sort(tasks)
	cleared := map[int]bool{}
	found := false
	for _, p := range slices.Compact(tasks) {
		for _, next := range d.x.Descendants(p) {
			if cleared[next] {
				continue
			}
			cleared[next] = true
			var failed []*instance
			for _, in := range d.tasks[next].insts {
				if in.ti.State.IsFailure() && !slices.Contains(named, in.ti.Key) {
					failed = append(failed, in)
				}
			}
			found = d.clear(failed, "cleared") || found
		}
	}
	return found
}

func (d *decider) runMarked(ev RunMarked) {
	if ev.State == d.row.State {
		return
	}
	reason := cmp.Or(ev.Reason, "run marked "+string(ev.State))
	switch ev.State {
	case run.RunQueued:
		d.queueRun()
	case run.RunSuccess:
		d.markRunSuccess(reason)
	case run.RunFailed:
		d.markRunFailed(reason)
	}
}

// markRunSuccess marks every task that has not succeeded. Teardowns that still have something to tear down go on, and the
// run ends with them.
func (d *decider) markRunSuccess(reason string) {
	d.each(func(in *instance) {
		unfinished := !in.ti.State.IsFinished()
		if unfinished && !d.mustTearDown(in) || in.ti.State.IsFailure() {
			d.stop(in, run.Success, reason)
		}
	})
	if d.unfinished == 0 || d.row.State != run.RunRunning {
		d.setRunEnd(run.RunSuccess)
	}
}

// markRunFailed cancels a run that has not ended: what runs fails, what has not begun is skipped. A run that has ended
// keeps its instances. Where teardowns must still run, the run goes on with them alone; then leaves that have not begun
// become upstream_failed instead of skipped, so that it ends as failed.
func (d *decider) markRunFailed(reason string) {
	if d.row.State.IsFinished() {
		d.setRunEnd(run.RunFailed)
		return
	}
	tearingDown := false
	d.each(func(in *instance) { tearingDown = tearingDown || d.mustTearDown(in) })
	leaf := make([]bool, len(d.tasks))
	for _, p := range d.x.StateLeaves() {
		leaf[p] = tearingDown
	}
	failed := false
	d.each(func(in *instance) {
		switch {
		case in.ti.State.IsFinished():
			failed = failed || leaf[in.task.pos] && in.ti.State.IsFailure()
		case d.mustTearDown(in):
		case in.ti.State.HasAttempt() || in.ti.State.IsSuspended():
			d.stop(in, run.Failed, reason)
			failed = failed || leaf[in.task.pos]
		case leaf[in.task.pos]:
			d.stop(in, run.UpstreamFailed, reason)
			failed = true
		default:
			d.stop(in, run.Skipped, reason)
		}
	})
	if tearingDown && failed {
		return
	}
	d.each(func(in *instance) {
		if !in.ti.State.IsFinished() {
			d.stop(in, run.Skipped, reason)
		}
	})
	d.setRunEnd(run.RunFailed)
}

// mustTearDown tells whether an instance is a teardown with something to tear down: one of its setups succeeded.
func (d *decider) mustTearDown(in *instance) bool {
	if !in.task.spec.Teardown || in.ti.State.IsFinished() || d.row.State != run.RunRunning {
		return false
	}
	for _, p := range d.x.Upstream(in.task.pos) {
		if !d.x.At(p).Setup {
			continue
		}
		for _, setup := range d.tasks[p].insts {
			if setup.ti.State == run.Success {
				return true
			}
		}
	}
	return false
}
