package taskapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// triggerDagRun creates a run in the attempt's name. A request that arrives twice must not create two: its run id is made
// from the request's id, and a run that this very attempt has created already is the answer.
func (c *call) triggerDagRun() (any, error) {
	r := scheduler.TriggerRequest{
		DAGID: c.req.DAGID, RunID: c.req.RunID, LogicalDate: c.req.LogicalDate, Conf: c.req.Conf, Note: c.req.Note,
		Reset: c.req.ResetDagRun,
	}
	if r.RunID == "" && c.req.RequestID != "" {
		at := time.Now()
		if r.LogicalDate != nil {
			at = *r.LogicalDate
		} else if t, err := c.attemptTime(); err == nil {
			at = t
		}
		sum := sha256.Sum256([]byte(c.req.RequestID))
		r.RunID = timetable.RunID(string(run.TypeManual), at) + "_" + hex.EncodeToString(sum[:4])
	}
	created, err := c.sched.Trigger(c.ctx, c.actor(), r)
	if errors.Is(err, scheduler.ErrConflict) {
		if have, rerr := c.store.Run(c.ctx, r.DAGID, r.RunID); rerr == nil && have.TriggeredBy == c.actor() && c.req.RequestID != "" {
			created, err = have, nil
		} else {
			return nil, fault(protocol.CodeDagRunExists, "%v", err)
		}
	}
	return struct {
		Type  string `json:"type"`
		RunID string `json:"run_id"`
	}{"TriggerDagRunResult", created.RunID}, err
}

// attemptTime is a moment that is the same each time the attempt asks.
func (c *call) attemptTime() (time.Time, error) {
	if c.attempt.QueuedAt.IsZero() {
		return time.Time{}, errors.New("no time")
	}
	return c.attempt.QueuedAt, nil
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

// chosenRuns are the runs a request names by ids or dates; nil names all.
func (c *call) chosenRuns() ([]string, error) {
	if len(c.req.RunIDs) > 0 {
		return c.req.RunIDs, nil
	}
	var ids []string
	for _, at := range c.req.LogicalDates {
		runs, _, err := c.store.Runs(c.ctx, store.RunFilter{DAGID: c.req.DAGID, LogicalDateGTE: &at, LogicalDateLTE: &at})
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			ids = append(ids, r.RunID)
		}
	}
	if len(c.req.LogicalDates) > 0 && ids == nil {
		ids = []string{}
	}
	return ids, nil
}

// instances are the task instances a request names.
func (c *call) instances() ([]run.TaskInstance, error) {
	if c.req.DAGID == "" {
		return nil, fault(protocol.CodeInvalid, "%s needs a dag_id", c.req.Type)
	}
	ids, err := c.chosenRuns()
	if err != nil {
		return nil, err
	}
	filters := []store.TIFilter{{DAGID: c.req.DAGID}}
	if ids != nil {
		filters = nil
		for _, id := range ids {
			filters = append(filters, store.TIFilter{DAGID: c.req.DAGID, RunID: id})
		}
	}
	var out []run.TaskInstance
	for _, f := range filters {
		for _, s := range c.req.States {
			f.States = append(f.States, run.TaskState(s))
		}
		f.MapIndex = c.req.MapIndex
		tis, _, err := c.store.TaskInstances(c.ctx, f)
		if err != nil {
			return nil, err
		}
		for _, ti := range tis {
			if len(c.req.TaskIDs) == 0 || slices.Contains(c.req.TaskIDs, ti.TaskID) {
				out = append(out, ti)
			}
		}
	}
	return out, nil
}

type count struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
}

func (c *call) getTICount() (any, error) {
	tis, err := c.instances()
	return count{"TICount", len(tis)}, err
}

func (c *call) getTaskStates() (any, error) {
	tis, err := c.instances()
	states := map[string]map[string]*string{}
	for _, ti := range tis {
		if states[ti.RunID] == nil {
			states[ti.RunID] = map[string]*string{}
		}
		name := ti.TaskID
		if ti.MapIndex >= 0 {
			name = fmt.Sprintf("%s_%d", name, ti.MapIndex)
		}
		var state *string
		if s := string(ti.State); s != "" {
			state = &s
		}
		states[ti.RunID][name] = state
	}
	return struct {
		Type   string                        `json:"type"`
		States map[string]map[string]*string `json:"task_states"`
	}{"TaskStatesResult", states}, err
}

func (c *call) getDRCount() (any, error) {
	f := store.RunFilter{DAGID: c.req.DAGID}
	for _, s := range c.req.States {
		f.States = append(f.States, run.State(s))
	}
	ids, err := c.chosenRuns()
	if err != nil {
		return nil, err
	}
	runs, n, err := c.store.Runs(c.ctx, f)
	if ids != nil {
		n = len(slices.DeleteFunc(runs, func(r run.DAGRun) bool { return !slices.Contains(ids, r.RunID) }))
	}
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
