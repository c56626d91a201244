package client

import (
	"context"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// DAGs lists all DAGs.
func (c *Client) DAGs(ctx context.Context, query url.Values) ([]wire.DAG, error) {
	return pages(query, func(q url.Values) ([]wire.DAG, int, error) {
		p, err := Get[wire.DAGs](ctx, c, Path("dags"), q)
		return p.DAGs, p.Total, err
	})
}

// Reading tells whether the server has yet to read its DAG folder whole for the first time: DAGs may be missing.
func (c *Client) Reading(ctx context.Context) bool {
	h, err := Get[wire.Health](ctx, c, Path("monitor", "health"), nil)
	return err == nil && h.Ostro.Reading
}

// pages collects all pages of a list.
func pages[T any](query url.Values, page func(url.Values) ([]T, int, error)) ([]T, error) {
	all, _, err := UpTo(math.MaxInt, query, page)
	return all, err
}

// mostOfPage is how many entries the server gives at once.
const mostOfPage = 100

// UpTo reads the beginning of a list, page by page until there are so many, and returns how many there are in all.
func UpTo[T any](limit int, query url.Values, page func(url.Values) ([]T, int, error)) (list []T, total int, err error) {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	list = []T{}
	for {
		q.Set("limit", strconv.Itoa(min(limit-len(list), mostOfPage)))
		q.Set("offset", strconv.Itoa(len(list)))
		part, total, err := page(q)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, part...)
		if len(part) == 0 || len(list) >= min(total, limit) {
			return list, total, nil
		}
	}
}

// DAGDetails is one DAG.
func (c *Client) DAGDetails(ctx context.Context, dagID string) (wire.DAGDetails, error) {
	return Get[wire.DAGDetails](ctx, c, Path("dags", dagID, "details"), nil)
}

// SetPaused pauses or unpauses a DAG.
func (c *Client) SetPaused(ctx context.Context, dagID string, paused bool) (wire.DAG, error) {
	return Send[wire.DAG](ctx, c, "PATCH", Path("dags", dagID), nil, map[string]bool{"is_paused": paused})
}

// Tasks lists a DAG's tasks.
func (c *Client) Tasks(ctx context.Context, dagID string) ([]wire.Task, error) {
	t, err := Get[wire.Tasks](ctx, c, Path("dags", dagID, "tasks"), nil)
	return t.Tasks, err
}

// ImportErrors lists what could not be imported.
func (c *Client) ImportErrors(ctx context.Context) ([]wire.ImportError, error) {
	return pages(nil, func(q url.Values) ([]wire.ImportError, int, error) {
		p, err := Get[wire.ImportErrors](ctx, c, Path("importErrors"), q)
		return p.ImportErrors, p.Total, err
	})
}

// DAGWarnings lists what DAG files were accepted with; dagID "" is all DAGs.
func (c *Client) DAGWarnings(ctx context.Context, dagID string) ([]wire.DAGWarning, error) {
	query := url.Values{}
	if dagID != "" {
		query.Set("dag_id", dagID)
	}
	return pages(query, func(q url.Values) ([]wire.DAGWarning, int, error) {
		p, err := Get[wire.DAGWarnings](ctx, c, Path("dagWarnings"), q)
		return p.DAGWarnings, p.Total, err
	})
}

// Questions lists what tasks have asked people; "~" is every DAG or every run.
func (c *Client) Questions(ctx context.Context, dagID, runID string, query url.Values) ([]wire.HITLDetail, error) {
	return pages(query, func(q url.Values) ([]wire.HITLDetail, int, error) {
		p, err := Get[wire.HITLDetails](ctx, c, Path("dags", dagID, "dagRuns", runID, "hitlDetails"), q)
		return p.HITLDetails, p.Total, err
	})
}

// DeleteDAG deletes a DAG with its history.
func (c *Client) DeleteDAG(ctx context.Context, dagID string) error {
	return c.Delete(ctx, Path("dags", dagID))
}

func xcomPath(dagID, runID, taskID string, key ...string) string {
	return Path(append([]string{"dags", dagID, "dagRuns", runID, "taskInstances", taskID, "xcomEntries"}, key...)...)
}

// XComs lists what a task has pushed, without the values; taskID "~" is every task of the run.
func (c *Client) XComs(ctx context.Context, dagID, runID, taskID string, query url.Values) ([]wire.XCom, error) {
	return pages(query, func(q url.Values) ([]wire.XCom, int, error) {
		p, err := Get[wire.XComs](ctx, c, xcomPath(dagID, runID, taskID), q)
		return p.Entries, p.Total, err
	})
}

// XCom is one value; map index -1 is none.
func (c *Client) XCom(ctx context.Context, dagID, runID, taskID, key string, mapIndex int) (wire.XComValue, error) {
	return Get[wire.XComValue](ctx, c, xcomPath(dagID, runID, taskID, key), url.Values{"map_index": {strconv.Itoa(mapIndex)}})
}

// Trigger is the body that creates a DAG run.
type Trigger struct {
	RunID       string          `json:"dag_run_id,omitempty"`
	LogicalDate *time.Time      `json:"logical_date"`
	RunAfter    *time.Time      `json:"run_after,omitempty"`
	Conf        json.RawMessage `json:"conf,omitempty"`
	Note        string          `json:"note,omitempty"`
}

// Trigger creates a DAG run.
func (c *Client) Trigger(ctx context.Context, dagID string, t Trigger) (wire.DAGRun, error) {
	return Send[wire.DAGRun](ctx, c, "POST", Path("dags", dagID, "dagRuns"), nil, t)
}

// Run is one DAG run.
func (c *Client) Run(ctx context.Context, dagID, runID string) (wire.DAGRun, error) {
	return Get[wire.DAGRun](ctx, c, Path("dags", dagID, "dagRuns", runID), nil)
}

// Runs lists at most limit DAG runs; dagID "~" is all DAGs.
func (c *Client) Runs(ctx context.Context, dagID string, query url.Values) (wire.DAGRuns, error) {
	return Get[wire.DAGRuns](ctx, c, Path("dags", dagID, "dagRuns"), query)
}

// MarkRun sets a run's state; failed cancels it.
func (c *Client) MarkRun(ctx context.Context, dagID, runID, state string) (wire.DAGRun, error) {
	return Send[wire.DAGRun](ctx, c, "PATCH", Path("dags", dagID, "dagRuns", runID), nil, map[string]string{"state": state})
}

// TaskInstances lists all instances of a run.
func (c *Client) TaskInstances(ctx context.Context, dagID, runID string, query url.Values) ([]wire.TaskInstance, error) {
	return pages(query, func(q url.Values) ([]wire.TaskInstance, int, error) {
		p, err := Get[wire.TaskInstances](ctx, c, Path("dags", dagID, "dagRuns", runID, "taskInstances"), q)
		return p.TaskInstances, p.Total, err
	})
}

func instancePath(dagID, runID, taskID string, mapIndex int) string {
	if mapIndex < 0 {
		return Path("dags", dagID, "dagRuns", runID, "taskInstances", taskID)
	}
	return Path("dags", dagID, "dagRuns", runID, "taskInstances", taskID, strconv.Itoa(mapIndex))
}

// TaskInstance is one instance; map index -1 is none.
func (c *Client) TaskInstance(ctx context.Context, dagID, runID, taskID string, mapIndex int) (wire.TaskInstance, error) {
	return Get[wire.TaskInstance](ctx, c, instancePath(dagID, runID, taskID, mapIndex), nil)
}

// Tries lists the attempts of an instance, the oldest first; map index -1 is none.
func (c *Client) Tries(ctx context.Context, dagID, runID, taskID string, mapIndex int) ([]wire.Try, error) {
	p, err := Get[wire.Tries](ctx, c, instancePath(dagID, runID, taskID, mapIndex)+"/tries", nil)
	return p.TaskInstances, err
}

// MarkTask sets the state of an instance, or of all instances of a mapped task.
func (c *Client) MarkTask(ctx context.Context, dagID, runID, taskID string, mapIndex int, body map[string]any) ([]wire.TaskInstance, error) {
	p, err := Send[wire.TaskInstances](ctx, c, "PATCH", instancePath(dagID, runID, taskID, mapIndex), nil, body)
	return p.TaskInstances, err
}

// Clear is the body that lets task instances run again.
type Clear struct {
	DryRun            bool   `json:"dry_run"`
	RunID             string `json:"dag_run_id"`
	TaskIDs           []any  `json:"task_ids,omitempty"` // a task id, or [task id, map index]
	OnlyFailed        bool   `json:"only_failed"`
	OnlyRunning       bool   `json:"only_running"`
	IncludeUpstream   bool   `json:"include_upstream"`
	IncludeDownstream bool   `json:"include_downstream"`
	IncludeFuture     bool   `json:"include_future"`
	IncludePast       bool   `json:"include_past"`
}

// Clear lets task instances run again and lists them.
func (c *Client) Clear(ctx context.Context, dagID string, b Clear) ([]wire.TaskInstance, error) {
	p, err := Send[wire.ClearedInstances](ctx, c, "POST", Path("dags", dagID, "clearTaskInstances"), nil, b)
	return p.TaskInstances, err
}

func logPath(dagID, runID, taskID string, try int) string {
	return Path("dags", dagID, "dagRuns", runID, "taskInstances", taskID, "logs", strconv.Itoa(try))
}

// Logs gives a log's lines as they are now.
func (c *Client) Logs(ctx context.Context, dagID, runID, taskID string, mapIndex, try int, visit func(wire.LogLine) error) error {
	q := url.Values{"map_index": {strconv.Itoa(mapIndex)}}
	for {
		p, err := Get[wire.Logs](ctx, c, logPath(dagID, runID, taskID, try), q)
		if err != nil {
			return err
		}
		for _, line := range p.Content {
			if err := visit(line); err != nil {
				return err
			}
		}
		if p.ContinuationToken == nil || *p.ContinuationToken == q.Get("token") || len(p.Content) == 0 {
			return nil
		}
		q.Set("token", *p.ContinuationToken)
	}
}

// FollowLogs gives a log's lines as they come, until the attempt has ended.
func (c *Client) FollowLogs(ctx context.Context, dagID, runID, taskID string, mapIndex, try int, visit func(wire.LogLine) error) error {
	return streamLines(ctx, c, logPath(dagID, runID, taskID, try), url.Values{"map_index": {strconv.Itoa(mapIndex)}}, visit)
}

// Live gives a run's state and its changes until it has ended.
func (c *Client) Live(ctx context.Context, dagID, runID string, visit func(wire.Live) error) error {
	return streamLines(ctx, c, "/live/dags/"+url.PathEscape(dagID)+"/dagRuns/"+url.PathEscape(runID), nil, visit)
}

// Wait returns the final state of a run.
func (c *Client) Wait(ctx context.Context, dagID, runID string) (wire.Waited, error) {
	var last wire.Waited
	err := streamLines(ctx, c, Path("dags", dagID, "dagRuns", runID, "wait"), url.Values{"interval": {"10"}}, func(w wire.Waited) error {
		last = w
		return nil
	})
	return last, err
}

// Variables, Connections and Pools list all of them.
func (c *Client) Variables(ctx context.Context) ([]wire.Variable, error) {
	return pages(nil, func(q url.Values) ([]wire.Variable, int, error) {
		p, err := Get[wire.Variables](ctx, c, Path("variables"), q)
		return p.Variables, p.Total, err
	})
}

// Connections lists all connections.
func (c *Client) Connections(ctx context.Context) ([]wire.Connection, error) {
	return pages(nil, func(q url.Values) ([]wire.Connection, int, error) {
		p, err := Get[wire.Connections](ctx, c, Path("connections"), q)
		return p.Connections, p.Total, err
	})
}

// Pools lists all pools.
func (c *Client) Pools(ctx context.Context) ([]wire.Pool, error) {
	return pages(nil, func(q url.Values) ([]wire.Pool, int, error) {
		p, err := Get[wire.Pools](ctx, c, Path("pools"), q)
		return p.Pools, p.Total, err
	})
}

// Assets lists all assets that a query selects.
func (c *Client) Assets(ctx context.Context, query url.Values) ([]wire.Asset, error) {
	return pages(query, func(q url.Values) ([]wire.Asset, int, error) {
		p, err := Get[wire.Assets](ctx, c, Path("assets"), q)
		return p.Assets, p.Total, err
	})
}

// Put creates a thing or, when it exists, changes it: variables, connections and pools share the shape.
func (c *Client) Put(ctx context.Context, collection, id string, create, change map[string]any) error {
	err := c.call(ctx, "POST", Path(collection), nil, create, nil)
	if StatusOf(err) == 409 {
		return c.call(ctx, "PATCH", Path(collection, id), nil, change, nil)
	}
	return err
}

// Version is the server's version.
func (c *Client) Version(ctx context.Context) (wire.Version, error) {
	return Get[wire.Version](ctx, c, Path("version"), nil)
}
