package taskapi

import (
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// mostInstances is how many task instances one answer holds; who wants more asks for those that follow.
const mostInstances = 1000

// taskInstance is what a task is told of an instance of a DAG run.
type taskInstance struct {
	TaskID    string     `json:"task_id"`
	MapIndex  int        `json:"map_index"`
	State     *string    `json:"state"`
	TryNumber int        `json:"try_number"`
	MaxTries  int        `json:"max_tries"`
	QueuedAt  *time.Time `json:"queued_at,omitempty"`
	StartDate *time.Time `json:"start_date,omitempty"`
	EndDate   *time.Time `json:"end_date,omitempty"`
	Hostname  string     `json:"hostname,omitempty"`
	Note      string     `json:"note,omitempty"`
}

// getTaskInstances lists the instances of one DAG run, in the order of the DAG.
func (c *call) getTaskInstances() (any, error) {
	k := c.key()
	f, err := c.instances()
	if err != nil {
		return nil, err
	}
	if k.RunID == "" || k.RunID == anyID {
		return nil, fault(protocol.CodeInvalid, "%s needs a run_id", c.req.Type)
	}
	f.RunID, f.Offset, f.Limit = k.RunID, max(c.req.Offset, 0), mostInstances
	if c.req.Limit > 0 {
		f.Limit = min(c.req.Limit, mostInstances)
	}
	if c.req.Place != nil {
		return c.instancesAfter(f, *c.req.Place)
	}
	found, total, err := c.store.TaskInstances(c.ctx, f)
	if err != nil {
		return nil, err
	}
	return struct {
		Type      string         `json:"type"`
		Instances []taskInstance `json:"task_instances"`
		Total     int            `json:"total"`
	}{"TaskInstancesResult", wireInstances(found), total}, nil
}

// instancesAfter lists the instances after a place: the states that are asked for change while a task reads page after page.
func (c *call) instancesAfter(f store.TIFilter, place int64) (any, error) {
	found, next, err := c.store.TaskInstancesAfter(c.ctx, f, place, f.Limit)
	if err != nil {
		return nil, err
	}
	return struct {
		Type      string         `json:"type"`
		Instances []taskInstance `json:"task_instances"`
		Next      int64          `json:"next"`
	}{"TaskInstancesResult", wireInstances(found), next}, nil
}

func wireInstances(found []run.TaskInstance) []taskInstance {
	out := make([]taskInstance, 0, len(found))
	for _, ti := range found {
		one := taskInstance{TaskID: ti.TaskID, MapIndex: ti.MapIndex, TryNumber: ti.TryNumber, MaxTries: ti.MaxTries,
			QueuedAt: ti.QueuedAt, StartDate: ti.StartDate, EndDate: ti.EndDate, Hostname: ti.Hostname, Note: ti.Note}
		if state := string(ti.State); state != "" {
			one.State = &state
		}
		out = append(out, one)
	}
	return out
}
