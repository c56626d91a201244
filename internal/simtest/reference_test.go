package simtest

import (
	"fmt"
	"slices"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// A reference is the rules of a DAG run a second time: slow, from the author's words alone, and without a line of core/plan or
// core/run but the names of states. It goes through the tasks in the order of their edges and says, of each, which ends its rule
// permits when those before it ended as they have been seen to. Mostly that is one; where Airflow lets the order decide (a task with a
// failed and a skipped task before it is upstream_failed or skipped, by which of the two ended first), each is taken.
//
// By induction along the edges that determines the whole run: what has nothing before it does as its story says.
type reference struct {
	d     *dag.DAG
	story story
	seen  map[string]map[int]run.TaskState // task → map index → state
	wrong []string
}

// check compares a finished run with the rules; what is wrong comes back in words.
func (r *reference) check(state run.State) []string {
	for i := range r.d.Tasks {
		r.checkTask(&r.d.Tasks[i])
	}
	failed := false
	for i := range r.d.Tasks {
		t := &r.d.Tasks[i]
		if t.Teardown || slices.ContainsFunc(r.d.Tasks, func(o dag.Task) bool { return slices.Contains(o.Upstream, t.ID) }) {
			continue
		}
		for _, s := range r.seen[t.ID] {
			failed = failed || s == run.Failed || s == run.UpstreamFailed
		}
	}
	if want := map[bool]run.State{true: run.RunFailed, false: run.RunSuccess}[failed]; state != want {
		r.complain("the run is %s, its leaves say %s", state, want)
	}
	return r.wrong
}

func (r *reference) complain(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// mapping is a task's own, or that of the group around it.
func (r *reference) mapping(t *dag.Task) *dag.Mapping {
	if t.Mapped != nil {
		return t.Mapped
	}
	for g := t.Group; g != ""; g = r.group(g).Parent {
		if m := r.group(g).Mapped; m != nil {
			return m
		}
	}
	return nil
}

func (r *reference) group(id string) dag.TaskGroup {
	for _, g := range r.d.Groups {
		if g.ID == id {
			return g
		}
	}
	return dag.TaskGroup{}
}

// mapGroup is the mapped group around a task; "" when there is none.
func (r *reference) mapGroup(t *dag.Task) string {
	for g := t.Group; g != ""; g = r.group(g).Parent {
		if r.group(g).Mapped != nil {
			return g
		}
	}
	return ""
}

func (r *reference) checkTask(t *dag.Task) {
	seen := r.seen[t.ID]
	m := r.mapping(t)
	if m == nil {
		if len(seen) != 1 || seen[-1] == "" {
			r.complain("%s has the instances %v, it is not mapped", t.ID, seen)
			return
		}
		r.checkInstance(t, -1, r.permitted(t, -1))
		return
	}
	n, ends := r.width(m)
	if whole, alone := seen[-1]; alone {
		// It never unfolded: for what it is mapped over, or for what its rule could say without knowing.
		if len(seen) != 1 {
			r.complain("%s has unfolded and has not: %v", t.ID, seen)
		}
		for s := range r.permitted(t, -1) {
			if s == run.UpstreamFailed || s == run.Skipped {
				ends = append(ends, s)
			}
		}
		if !slices.Contains(ends, whole) {
			r.complain("%s is %s without having unfolded, permitted: %v", t.ID, whole, ends)
		}
		return
	}
	if n <= 0 || len(seen) != n {
		r.complain("%s has %d instances, it is mapped over %d", t.ID, len(seen), n)
		return
	}
	for i := range n {
		r.checkInstance(t, i, r.permitted(t, i))
	}
}

func (r *reference) checkInstance(t *dag.Task, index int, permitted map[run.TaskState]bool) {
	if s := r.seen[t.ID][index]; !permitted[s] {
		r.complain("%s[%d] (%s) is %q, permitted: %v", t.ID, index, t.TriggerRule, s, permitted)
	}
}

// width is how many instances a mapping makes, or how it ends without any.
func (r *reference) width(m *dag.Mapping) (n int, ends []run.TaskState) {
	n = 1
	for _, a := range m.Args {
		if a.Source == nil {
			n *= a.Length
			continue
		}
		source, told := r.seen[a.Source.Task], r.story[a.Source.Task]
		if s, single := source[-1]; single {
			switch {
			case s == run.Failed || s == run.UpstreamFailed:
				ends = append(ends, run.UpstreamFailed)
			case s == run.Skipped:
				ends = append(ends, run.Skipped)
			case told.Returns == 0:
				ends = append(ends, run.Failed)
			}
			n *= max(0, told.Returns-1)
			continue
		}
		returned := 0
		for _, s := range source {
			if s == run.Success && (told.Returns > 0 || told.Text) {
				returned++
			}
		}
		n *= returned
	}
	if n == 0 && len(ends) == 0 {
		ends = append(ends, run.Skipped)
	}
	return n, ends
}

// before are the ends of the instances that one waits for: in one mapped group those with its own index, else all.
func (r *reference) before(t *dag.Task, index int) (ends []run.TaskState) {
	for _, up := range t.Upstream {
		u := r.d.Task(up)
		together := index >= 0 && r.mapGroup(t) != "" && r.mapGroup(t) == r.mapGroup(u)
		for i, s := range r.seen[up] {
			if !together || i == index {
				ends = append(ends, s)
			}
		}
	}
	return ends
}

// permitted are the ends an instance may have.
func (r *reference) permitted(t *dag.Task, index int) map[run.TaskState]bool {
	ends := r.before(t, index)
	out := map[run.TaskState]bool{}
	for _, s := range ruling(t.TriggerRule, ends) {
		if s == runs {
			s = r.story[t.ID].end(t.Retries)
			if t.Kind == dag.KindEmpty {
				s = run.Success
			}
		}
		out[s] = true
	}
	for _, up := range t.Upstream {
		if !slices.Contains(r.story[up].Past, t.ID) {
			continue
		}
		for i, s := range r.seen[up] {
			together := index >= 0 && r.mapGroup(t) != "" && r.mapGroup(t) == r.mapGroup(r.d.Task(up))
			if s != run.Success || together && i != index {
				continue
			}
			if len(ends) == 1 && t.TriggerRule != dag.Always { // nothing else could let it begin, or end, before
				clear(out)
			}
			out[run.Skipped] = true
		}
	}
	return out
}

// runs stands, among ends, for whatever comes of running the task.
const runs run.TaskState = "runs"

// ruling is what a trigger rule says to these ends, as Airflow documents it.
func ruling(rule dag.TriggerRule, ends []run.TaskState) []run.TaskState {
	var ok, failed, upstream, skipped int
	for _, s := range ends {
		switch s {
		case run.Success:
			ok++
		case run.Failed:
			failed++
		case run.UpstreamFailed:
			upstream++
		case run.Skipped:
			skipped++
		}
	}
	bad := failed + upstream
	pick := func(when bool, then, otherwise run.TaskState) []run.TaskState {
		if when {
			return []run.TaskState{then}
		}
		return []run.TaskState{otherwise}
	}
	if len(ends) == 0 {
		return []run.TaskState{runs}
	}
	switch rule {
	case "", dag.AllSuccess:
		if bad > 0 && skipped > 0 {
			return []run.TaskState{run.UpstreamFailed, run.Skipped}
		}
		if bad > 0 {
			return []run.TaskState{run.UpstreamFailed}
		}
		return pick(skipped > 0, run.Skipped, runs)
	case dag.AllFailed:
		return pick(ok+skipped > 0, run.Skipped, runs)
	case dag.AllSkipped:
		return pick(ok+bad > 0, run.Skipped, runs)
	case dag.AllDoneMinOneSuccess:
		if skipped > 0 {
			return []run.TaskState{run.Skipped}
		}
		return pick(ok > 0, runs, run.UpstreamFailed)
	case dag.OneSuccess:
		if ok > 0 {
			return []run.TaskState{runs}
		}
		return pick(bad > 0, run.UpstreamFailed, run.Skipped)
	case dag.OneFailed:
		return pick(bad > 0, runs, run.Skipped)
	case dag.OneDone:
		return pick(ok+failed > 0, runs, run.Skipped)
	case dag.NoneFailed:
		return pick(bad > 0, run.UpstreamFailed, runs)
	case dag.NoneFailedMinOneSuccess:
		if bad > 0 {
			return []run.TaskState{run.UpstreamFailed}
		}
		return pick(ok > 0, runs, run.Skipped)
	case dag.NoneSkipped:
		return pick(skipped > 0, run.Skipped, runs)
	}
	return []run.TaskState{runs} // all_done, always
}
