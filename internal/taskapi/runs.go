package taskapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// triggerDagRun creates a run in the attempt's name, or resets one. A request that arrives twice must have its effect once:
// the worker numbers an attempt's requests, and the scheduler keeps the number with the effect. A run id that has to be
// made is made of it as well.
func (c *call) triggerDagRun() (any, error) {
	r := scheduler.TriggerRequest{
		DAGID: c.req.DAGID, RunID: c.req.RunID, LogicalDate: c.req.LogicalDate, Conf: c.req.Conf, Note: c.req.Note,
		Reset: c.req.ResetDagRun, Key: c.req.RequestID,
	}
	if r.RunID == "" && c.req.RequestID != "" {
		at := c.attempt.QueuedAt // the same each time the attempt asks
		switch {
		case r.LogicalDate != nil:
			at = *r.LogicalDate
		case at.IsZero(): // a callback's
			at = time.Now()
		}
		sum := sha256.Sum256([]byte(c.req.RequestID))
		r.RunID = timetable.RunID(string(run.TypeManual), at) + "_" + hex.EncodeToString(sum[:4])
	}
	created, err := c.sched.Trigger(c.ctx, c.actor(), r)
	if errors.Is(err, scheduler.ErrConflict) {
		return nil, fault(protocol.CodeDagRunExists, "%v", err)
	}
	return struct {
		Type  string `json:"type"`
		RunID string `json:"run_id"`
	}{"TriggerDagRunResult", created.RunID}, err
}

func (c *call) getDagRunState() (any, error) {
	r, err := c.store.Run(c.ctx, c.req.DAGID, c.req.RunID)
	return struct {
		Type  string `json:"type"`
		State string `json:"state"`
	}{"DagRunStateResult", string(r.State)}, err
}

// dagRunResult is a DAG run with a type.
type dagRunResult struct {
	Type string `json:"type"`
	protocol.DagRun
}

func (c *call) getDagRun() (any, error) {
	r, err := c.store.Run(c.ctx, c.req.DAGID, c.req.RunID)
	return dagRunResult{"DagRunResult", scheduler.WireRun(r)}, err
}

func (c *call) getPreviousDagRun() (any, error) {
	var out struct {
		Type   string           `json:"type"`
		DagRun *protocol.DagRun `json:"dag_run"`
	}
	out.Type = "PreviousDagRunResult"
	if c.req.LogicalDate == nil {
		return out, nil
	}
	r, err := c.before(c.req.DAGID, *c.req.LogicalDate, c.req.State)
	if r != nil {
		wire := scheduler.WireRun(*r)
		out.DagRun = &wire
	}
	return out, err
}

// before is the newest run of a DAG before a logical date, in a state unless that is empty; nil when there is none.
func (c *call) before(dagID string, at time.Time, state string) (*run.DAGRun, error) {
	at = at.Add(-time.Microsecond)
	f := store.RunFilter{DAGID: dagID, LogicalDateLTE: &at, OrderBy: []string{"-logical_date"}, Limit: 1}
	if state != "" {
		f.States = []run.State{run.State(state)}
	}
	runs, _, err := c.store.Runs(c.ctx, f)
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

func (c *call) getPrevSuccessfulDagRun() (any, error) {
	var out struct {
		Type      string     `json:"type"`
		Start     *time.Time `json:"data_interval_start"`
		End       *time.Time `json:"data_interval_end"`
		StartDate *time.Time `json:"start_date"`
		EndDate   *time.Time `json:"end_date"`
	}
	out.Type = "PrevSuccessfulDagRunResult"
	own, err := c.store.Run(c.ctx, c.attempt.DAGID, c.attempt.RunID)
	if err != nil || own.LogicalDate == nil {
		return out, err
	}
	r, err := c.before(own.DAGID, *own.LogicalDate, string(run.RunSuccess))
	if r != nil {
		out.Start, out.End, out.StartDate, out.EndDate = r.DataIntervalStart, r.DataIntervalEnd, r.StartDate, r.EndDate
	}
	return out, err
}

// maxStates is how many task states one answer holds: it must fit into a message.
const maxStates = 100_000

// anyID stands for all DAGs, or all runs, in a filter of the store; a task asks for one.
const anyID = "~"

// instances are the task instances a request names: all of a DAG that fit what it says.
func (c *call) instances() (store.TIFilter, error) {
	if c.req.DAGID == "" || c.req.DAGID == anyID {
		return store.TIFilter{}, fault(protocol.CodeInvalid, "%s needs a dag_id", c.req.Type)
	}
	f := store.TIFilter{DAGID: c.req.DAGID, RunIDs: c.req.RunIDs, TaskIDs: c.req.TaskIDs, LogicalDates: c.req.LogicalDates,
		MapIndex: c.req.MapIndex}
	for _, s := range c.req.States {
		if s == "null" || s == "none" { // Airflow's words for no state yet
			s = ""
		}
		f.States = append(f.States, run.TaskState(s))
	}
	return f, nil
}

type count struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
}

func (c *call) getTICount() (any, error) {
	f, err := c.instances()
	if err != nil {
		return nil, err
	}
	f.Limit = 1 // the store counts, nothing is read
	_, n, err := c.store.TaskInstances(c.ctx, f)
	return count{"TICount", n}, err
}

func (c *call) getTaskStates() (any, error) {
	f, err := c.instances()
	if err != nil {
		return nil, err
	}
	states, n := map[string]map[string]*string{}, 0
	tasks := map[string][]named{} // by run; filled where a group was named
	err = c.store.TaskStates(c.ctx, f, func(k run.Key, s run.TaskState) error {
		if n++; n > maxStates {
			return fault(protocol.CodeInvalid, "more than %d task instances of %s: name run_ids, logical_dates or task_ids", maxStates, k.DAGID)
		}
		if states[k.RunID] == nil {
			states[k.RunID] = map[string]*string{}
		}
		name := k.TaskID
		if k.MapIndex >= 0 {
			name = fmt.Sprintf("%s_%d", name, k.MapIndex)
		}
		if c.req.TaskGroupID != "" {
			tasks[k.RunID] = append(tasks[k.RunID], named{name, k.TaskID})
		}
		states[k.RunID][name] = nil
		if text := string(s); text != "" {
			states[k.RunID][name] = &text
		}
		return nil
	})
	if err == nil {
		err = c.keepGroup(states, tasks)
	}
	return struct {
		Type   string                        `json:"type"`
		States map[string]map[string]*string `json:"task_states"`
	}{"TaskStatesResult", states}, err
}

func (c *call) getDRCount() (any, error) {
	if c.req.DAGID == "" {
		return nil, fault(protocol.CodeInvalid, "%s needs a dag_id", c.req.Type)
	}
	f := store.RunFilter{DAGID: c.req.DAGID, RunIDs: c.req.RunIDs, LogicalDates: c.req.LogicalDates, Limit: 1}
	for _, s := range c.req.States {
		f.States = append(f.States, run.State(s))
	}
	_, n, err := c.store.Runs(c.ctx, f)
	return count{"DRCount", n}, err
}

func (c *call) getDag() (any, error) {
	i, err := c.store.DAG(c.ctx, c.req.DAGID)
	if err != nil {
		return nil, err
	}
	var next *time.Time
	if n := i.Schedule.NextRun; n != nil {
		next = &n.LogicalDate
	}
	return struct {
		Type          string     `json:"type"`
		DAGID         string     `json:"dag_id"`
		Paused        bool       `json:"is_paused"`
		Stale         bool       `json:"is_stale"`
		Bundle        string     `json:"bundle_name"`
		BundleVersion string     `json:"bundle_version"`
		File          string     `json:"relative_fileloc"`
		Description   string     `json:"description,omitempty"`
		Tags          []string   `json:"tags"`
		NextDagRun    *time.Time `json:"next_dagrun"`
	}{"DagResult", i.DAG.ID, i.Paused, i.Removed, i.Bundle, i.BundleVersion, i.DAG.File, i.DAG.Description, i.DAG.Tags, next}, nil
}
