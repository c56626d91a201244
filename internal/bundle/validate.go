package bundle

import (
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/timetable"
)

// validate says why a DAG could not be scheduled.
func validate(d *dag.DAG) error {
	return dag.Validate(d, func(d *dag.DAG) error {
		_, err := timetable.Parse(d.Schedule, d.Timezone, time.LoadLocation)
		return err
	})
}
