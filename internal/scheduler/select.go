package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/spelling"
	"ostro.dev/ostro/internal/store"
)

// selection says which runs of a DAG a command is about.
type selection struct {
	dagID, runID string
	future, past bool
	from, to     *time.Time
}

// selectRuns finds the runs of a selection, oldest first.
func (s *Scheduler) selectRuns(ctx context.Context, sel selection) ([]*liveRun, error) {
	filter := store.RunFilter{DAGID: sel.dagID, LogicalDateGTE: sel.from, LogicalDateLTE: sel.to, OrderBy: []string{"logical_date"}}
	if sel.runID != "" {
		lr, err := s.find(ctx, plan.RunKey{DAGID: sel.dagID, RunID: sel.runID})
		if err != nil {
			return nil, notFound(err)
		}
		at := lr.run.Row().LogicalDate
		if (!sel.future && !sel.past) || at == nil {
			return []*liveRun{lr}, nil
		}
		filter.LogicalDateGTE, filter.LogicalDateLTE = nil, nil
		if !sel.past {
			filter.LogicalDateGTE = at
		}
		if !sel.future {
			filter.LogicalDateLTE = at
		}
	}
	if _, err := s.store.DAG(ctx, sel.dagID); err != nil {
		return nil, notFound(err)
	}
	rows, _, err := s.store.Runs(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("find runs of %s: %w", sel.dagID, err)
	}
	var out []*liveRun
	for _, r := range rows {
		if r.LogicalDate == nil {
			continue
		}
		lr, err := s.find(ctx, runKey(r))
		if err != nil {
			return nil, notFound(err)
		}
		out = append(out, lr)
	}
	return out, nil
}

// selectTasks widens a choice of tasks and returns the keys of their instances. No choice means all tasks.
func selectTasks(lr *liveRun, sel []TaskSel, upstream, downstream, setups bool) ([]run.Key, error) {
	x := lr.run.Index()
	indexes := map[string][]int{} // chosen map indexes; nil: all
	var ids []string
	for _, t := range sel {
		if x.Task(t.TaskID) == nil && !hasTask(lr, t.TaskID) {
			return nil, unknownTask(x, t.TaskID)
		}
		if !slices.Contains(ids, t.TaskID) {
			ids = append(ids, t.TaskID)
			indexes[t.TaskID] = []int{}
		}
		switch {
		case t.MapIndex == nil:
			indexes[t.TaskID] = nil
		case indexes[t.TaskID] != nil:
			indexes[t.TaskID] = append(indexes[t.TaskID], *t.MapIndex)
		}
	}
	all := len(sel) == 0
	wide := append(x.Relatives(ids, upstream, downstream), ids...)
	if setups {
		wide = append(wide, x.WithSetups(ids)...)
	}
	var keys []run.Key
	for _, ti := range lr.run.Instances() {
		chosen, named := indexes[ti.TaskID]
		switch {
		case all, !named && slices.Contains(wide, ti.TaskID), named && chosen == nil, named && slices.Contains(chosen, ti.MapIndex):
			keys = append(keys, ti.Key)
		}
	}
	if len(keys) == 0 && !all {
		return nil, fmt.Errorf("DAG run %s has no such task instance: %w", lr.key.RunID, ErrNotFound)
	}
	return keys, nil
}

func hasTask(lr *liveRun, id string) bool {
	return slices.ContainsFunc(lr.run.Instances(), func(ti run.TaskInstance) bool { return ti.TaskID == id })
}

func unknownTask(x *dag.Index, id string) error {
	names := make([]string, x.Len())
	for i := range names {
		names[i] = x.At(i).ID
	}
	hint := ""
	if near := spelling.Nearest(id, names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return fmt.Errorf("DAG %s has no task %q%s: %w", x.DAG.ID, id, hint, ErrNotFound)
}
