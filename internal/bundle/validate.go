package bundle

import "ostro.dev/ostro/internal/core/dag"

// validate says why a DAG could not be scheduled.
func validate(d *dag.DAG) error { return nil }
