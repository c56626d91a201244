package taskapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// longestWait is how long one AwaitRuns may take; who wants to wait longer asks again.
const longestWait = 10 * time.Minute

// awaitRuns answers when the states a trigger waits for are reached, or when the time given is over.
func (c *call) awaitRuns() (any, error) {
	ctx, cancel := context.WithTimeout(c.ctx, min(time.Duration(c.req.Seconds*float64(time.Second)), longestWait))
	defer cancel()
	payload, fired, err := c.sched.AwaitRuns(ctx, c.req.Classpath, c.req.TriggerKwargs)
	if err == nil {
		err = c.ctx.Err()
	}
	return struct {
		Type    string          `json:"type"`
		Fired   bool            `json:"fired"`
		Payload json.RawMessage `json:"payload,omitempty"`
	}{"RunsAwaited", fired, payload}, err
}

// getTriggers answers a triggerer when there is something new for it to run.
func (c *call) getTriggers() (any, error) {
	return c.sched.TriggererWork(c.ctx, c.attempt.ID, c.req.Token)
}

func (c *call) triggerFired() (any, error) {
	if s := run.TaskState(c.req.State); s != "" && s != run.Success && s != run.Failed && s != run.Skipped {
		return nil, fmt.Errorf("a trigger cannot end its task as %q: %w", s, scheduler.ErrInvalid)
	}
	return c.reported(scheduler.TriggerReport{Payload: c.req.Payload, State: run.TaskState(c.req.State), XComs: c.req.XComs})
}

func (c *call) triggerFailed() (any, error) {
	return c.reported(scheduler.TriggerReport{Error: excerpt.OfLogged(cmp.Or(c.req.Error, "the trigger failed"), excerpt.Reason),
		Traceback: excerpt.OfLogged(c.req.Traceback, excerpt.Traceback)})
}

func (c *call) triggerBlocks() (any, error) {
	return c.reported(scheduler.TriggerReport{Blocks: cmp.Or(c.req.Text, "it blocks"), Alone: c.req.Alone})
}

func (c *call) reported(r scheduler.TriggerReport) (any, error) {
	r.WaitID = c.req.WaitID
	return ok, c.sched.TriggerReported(c.ctx, c.attempt.ID, r)
}

// named is an instance as an answer names it, and its task.
type named struct{ name, taskID string }

// keepGroup leaves only the tasks of the group that was named, by the version of the DAG their run has.
func (c *call) keepGroup(states map[string]map[string]*string, tasks map[string][]named) error {
	for runID, found := range tasks {
		ids, err := c.groupTasks(runID)
		if err != nil {
			return err
		}
		for _, one := range found {
			if !slices.Contains(ids, one.taskID) {
				delete(states[runID], one.name)
			}
		}
	}
	return nil
}

func (c *call) groupTasks(runID string) ([]string, error) {
	r, err := c.store.Run(c.ctx, c.req.DAGID, runID)
	if err != nil {
		return nil, err
	}
	d, _, err := c.store.DAGVersion(c.ctx, c.req.DAGID, r.DAGVersion)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return dag.NewIndex(d).GroupTasks(c.req.TaskGroupID), nil
}
