package plan

import (
	"cmp"
	"fmt"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// This file unfolds mapped tasks, and the tasks of mapped groups, into instances.

// returnValue is the XCom key of a task's result.
const returnValue = "return_value"

// unfolded tells whether a mapped task has its instances.
func (t *taskFold) unfolded() bool { return len(t.insts) > 0 && t.insts[0].ti.MapIndex >= 0 }

// unfold gives a mapped task its instances if their number is known. It returns false while it is not, and may end
// instances that cannot be unfolded. Tasks that are not mapped need nothing.
func (d *decider) unfold(t *taskFold) bool {
	m := d.x.Mapping(t.pos)
	if m == nil || len(t.insts) == 0 || t.unfolded() && !t.stale {
		return true
	}
	if v := d.sourceVerdict(t); v.State.IsFinished() {
		d.endWaiting(t, v.State, v.Reason)
		return false
	}
	problem := ""
	n, known := m.Count(func(s dag.MapSource) (int, bool) {
		n, known, why := d.length(s)
		problem = cmp.Or(problem, why)
		return n, known
	})
	switch {
	case problem != "":
		d.cannotUnfold(t, problem)
		return false
	case !known:
		return false
	}
	d.unfoldInto(t, n)
	return true
}

// sourceVerdict looks at the tasks a mapping takes values from. One that failed or was skipped before it unfolded itself
// decides for the mapped task, whatever its trigger rule; one that has unfolded is for the trigger rule to judge.
func (d *decider) sourceVerdict(t *taskFold) run.Verdict {
	for _, p := range d.x.MapSources(t.pos) {
		source := &d.tasks[p]
		if len(source.insts) == 0 || source.unfolded() {
			continue
		}
		switch s := source.insts[0].ti.State; {
		case s.IsFailure():
			return run.Verdict{State: run.UpstreamFailed, Reason: fmt.Sprintf("task %s, which it is mapped over, failed", source.spec.ID)}
		case s == run.Skipped:
			return run.Verdict{State: run.Skipped, Reason: fmt.Sprintf("task %s, which it is mapped over, was skipped", source.spec.ID)}
		}
	}
	return run.Verdict{}
}

// length is the number of elements of an upstream value. A task that unfolded itself has one element per instance that
// pushed a value. problem says why there will never be a length.
func (r *Run) length(s dag.MapSource) (n int, known bool, problem string) {
	p, ok := r.x.Pos(s.Task)
	if !ok || len(r.tasks[p].insts) == 0 || r.tasks[p].unfinished > 0 {
		return 0, false, ""
	}
	source, key := &r.tasks[p], cmp.Or(s.Key, returnValue)
	if source.unfolded() {
		for _, in := range source.insts {
			if _, pushed := r.lengths[XComRef{s.Task, key, in.ti.MapIndex}]; pushed && in.ti.State == run.Success {
				n++
			}
		}
		return n, true, ""
	}
	if source.insts[0].ti.State != run.Success {
		return 0, false, ""
	}
	n, pushed := r.lengths[XComRef{s.Task, key, -1}]
	switch limit := r.opt.Limits.maxMapLength(); {
	case !pushed:
		return 0, false, fmt.Sprintf("task %s returned nothing to map over", s.Task)
	case n < 0:
		return 0, false, fmt.Sprintf("task %s returned neither a list nor a dict to map over", s.Task)
	case n > limit:
		return 0, false, fmt.Sprintf("task %s returned %d elements to map over, more than max_map_length %d", s.Task, n, limit)
	}
	return n, true, ""
}

func (d *decider) endWaiting(t *taskFold, to run.TaskState, reason string) {
	for _, in := range t.insts {
		if in.ti.State.IsWaiting() {
			d.end(in, to, reason)
		}
	}
}

func (d *decider) cannotUnfold(t *taskFold, problem string) {
	d.endWaiting(t, run.Failed, problem)
	if t.spec.Callbacks.OnFailure {
		d.owe(t.insts[0], "on_failure_callback", problem)
	}
	d.failFast(t.insts[0])
}

// unfoldInto gives a mapped task n instances, or every task of the mapped group around it.
func (d *decider) unfoldInto(t *taskFold, n int) {
	members := []*taskFold{t}
	if g := d.x.MapGroup(t.pos); g != nil {
		members = members[:0]
		for _, p := range d.x.GroupMembers(g.ID) {
			members = append(members, &d.tasks[p])
		}
	}
	for _, m := range members {
		if m.own != nil && n > len(m.own) {
			m.own = append(m.own, make([]counts, n-len(m.own))...)
		}
	}
	for _, m := range members {
		if len(m.insts) > 0 {
			d.stretch(m, n)
		}
	}
}

// stretch makes a task have exactly n live instances. The row it began with becomes element 0; when the task has been
// unfolded before, by a value that is made again, elements beyond the new length are removed.
func (d *decider) stretch(t *taskFold, n int) {
	t.stale = false
	if n == 0 {
		if first := t.insts[0]; t.unfolded() || first.ti.State.IsWaiting() { // one that has ended already keeps its state
			d.end(first, run.Skipped, "mapped over nothing")
		}
	} else if !t.unfolded() {
		d.touch(t.insts[0])
		t.insts[0].ti.MapIndex = 0
	}
	for i, in := range t.insts {
		switch {
		case i >= max(1, n) && !in.ti.State.HasAttempt() && in.ti.State != run.Removed:
			d.end(in, run.Removed, fmt.Sprintf("mapped over %d elements now", n))
		case i < n && in.ti.State == run.Removed:
			d.resetTry(in)
			d.move(in, run.None, "")
		}
	}
	for i := len(t.insts); i < n; i++ {
		in := &instance{task: t, ti: newInstance(d.row, t.spec, i, d.opt.NewID())}
		d.touch(in)
		t.insts = append(t.insts, in)
		d.enter(in)
	}
	d.judgeWhole(t)
}

// sourcesUnfinished tells whether a task has unfolded by values that are being made again.
func (r *Run) sourcesUnfinished(p int) bool {
	if !r.tasks[p].unfolded() {
		return false
	}
	for _, source := range r.x.MapSources(p) {
		if r.tasks[source].unfinished > 0 {
			return true
		}
	}
	return false
}

// forgetValues drops what an instance returned, so that the tasks mapped over it unfold anew.
func (d *decider) forgetValues(in *instance) {
	for _, p := range d.x.Mappers(in.task.pos) {
		t := &d.tasks[p]
		t.stale = t.unfolded()
		for _, s := range d.x.Mapping(p).Sources() {
			if s.Task == in.ti.TaskID {
				delete(d.lengths, XComRef{s.Task, cmp.Or(s.Key, returnValue), in.ti.MapIndex})
			}
		}
	}
}
