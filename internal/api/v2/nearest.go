package v2

import (
	"context"
	"fmt"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/spelling"
	"ostro.dev/ostro/internal/store"
)

// meant is the end of a 404: the name that was likely meant, or nothing.
func meant(name string, known []string) string {
	if near := spelling.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean `%s`?", near)
	}
	return ""
}

// nearestDAG is meant among the DAGs there are. That they cannot be listed is no reason for another answer.
func (a *API) nearestDAG(ctx context.Context, dagID string) string {
	infos, _, err := a.Store.DAGs(ctx, store.DAGFilter{})
	if err != nil {
		return ""
	}
	known := make([]string, len(infos))
	for i := range infos {
		known[i] = infos[i].DAG.ID
	}
	return meant(dagID, known)
}

// nearestTask is meant among the tasks of the DAG version that a run has; of the newest version when there is no such run.
func (a *API) nearestTask(ctx context.Context, dagID, runID, taskID string) string {
	number := 0
	if one, err := a.Store.Run(ctx, dagID, runID); err == nil {
		number = one.DAGVersion
	}
	d, _, err := a.Store.DAGVersion(ctx, dagID, number)
	if err != nil {
		return ""
	}
	return meant(taskID, taskIDs(d))
}

func taskIDs(d *dag.DAG) []string {
	out := make([]string, len(d.Tasks))
	for i := range d.Tasks {
		out[i] = d.Tasks[i].ID
	}
	return out
}
