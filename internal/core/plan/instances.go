package plan

import (
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

func pastOf(r run.DAGRun, tis []run.TaskInstance) *Past { return nil }
func instances(x *dag.Index, r run.DAGRun, newID func() string) []run.TaskInstance {
	return nil
}
