package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) runs() *cobra.Command {
	return c.parent("runs", "List, show, watch and cancel DAG runs", "  ostro runs list fraud_detection_training\n  ostro runs watch fraud_detection_training",
		c.runsList(), c.runsShow(), c.runsWatch(), c.runsCancel())
}

// newest is the order of creation, the newest first: a run for an old date, started by hand, is the newest all the same.
var newest = []string{"-id"}

// latest stands for the newest run where a run has to be named before other arguments.
const latest = "latest"

// latestRun is the run that was asked for, or the DAG's newest.
func latestRun(ctx context.Context, cl *client.Client, dagID, runID string) (wire.DAGRun, error) {
	if runID != "" && runID != latest {
		run, err := cl.Run(ctx, dagID, runID)
		if client.StatusOf(err) != 404 {
			return run, err
		}
		if err := unknownDAG(ctx, cl, dagID, err); client.StatusOf(err) != 404 {
			return run, err
		}
		if run, ok := runOfDate(ctx, cl, dagID, runID); ok {
			return run, nil
		}
		var ids []string
		if page, err := cl.Runs(ctx, dagID, url.Values{"order_by": newest}); err == nil {
			for _, r := range page.DagRuns {
				ids = append(ids, r.DagRunID)
			}
		}
		return run, &problem{code: exitNotFound, err: fmt.Errorf("DAG %s has no run %q%s", dagID, runID, didYouMean(runID, ids)), hint: "see: ostro runs list " + dagID}
	}
	page, err := cl.Runs(ctx, dagID, url.Values{"order_by": newest, "limit": {"1"}})
	if err != nil {
		return wire.DAGRun{}, unknownDAG(ctx, cl, dagID, err)
	}
	if len(page.DagRuns) == 0 {
		return wire.DAGRun{}, &problem{code: exitNotFound, err: fmt.Errorf("DAG %s has no runs yet", dagID), hint: "start one with: ostro dags trigger " + dagID}
	}
	return page.DagRuns[0], nil
}

// runOfDate is the run of a logical date, which Airflow's commands take in the place of a run's id.
func runOfDate(ctx context.Context, cl *client.Client, dagID, date string) (wire.DAGRun, bool) {
	at, err := parseDate(date)
	if err != nil {
		return wire.DAGRun{}, false
	}
	exactly := at.UTC().Format(time.RFC3339Nano)
	page, err := cl.Runs(ctx, dagID, url.Values{"logical_date_gte": {exactly}, "logical_date_lte": {exactly}, "order_by": newest, "limit": {"1"}})
	if err != nil || len(page.DagRuns) == 0 {
		return wire.DAGRun{}, false
	}
	return page.DagRuns[0], true
}

func first(a []string) string {
	if len(a) > 0 {
		return a[0]
	}
	return ""
}

func second(a []string) string {
	if len(a) > 1 {
		return a[1]
	}
	return ""
}

var runStates = []string{"queued", "running", "success", "failed"}

// upTo reads the beginning of a list.
func upTo[T any](limit int, query url.Values, page func(url.Values) ([]T, int, error)) (list []T, total int, err error) {
	if limit < 0 {
		return nil, 0, usage("--limit is how many to list, and cannot be %d", limit)
	}
	return client.UpTo(limit, query, page)
}

// sayMore says beside a list that it is not all there is: also to who reads it with a program, which cannot tell.
func (c *command) sayMore(shown, total int) {
	if total > shown {
		fmt.Fprintf(c.Err, "%d of %d; more with --limit\n", shown, total)
	}
}

func (c *command) runsList() *cobra.Command {
	var states []string
	limit := 25
	cmd := &cobra.Command{Use: "list [DAG_ID]", Short: "List DAG runs, newest first", Example: "  ostro runs list\n  ostro runs list fraud_detection_training --state failed", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			dagID := "~"
			if len(a) > 0 {
				dagID = a[0]
			}
			for _, s := range states {
				if !slices.Contains(runStates, s) {
					return usage("a run is never %q, only %s%s", s, strings.Join(runStates, ", "), didYouMean(s, runStates))
				}
			}
			query := url.Values{"order_by": newest, "state": states}
			runs, total, err := upTo(limit, query, func(q url.Values) ([]wire.DAGRun, int, error) {
				page, err := cl.Runs(cmd.Context(), dagID, q)
				return page.DagRuns, page.Total, err
			})
			if err != nil {
				return unknownDAG(cmd.Context(), cl, dagID, err)
			}
			defer c.sayMore(len(runs), total)
			return c.show(runs, func() {
				now, rows := time.Now(), [][]string{}
				for _, r := range runs {
					rows = append(rows, []string{r.DAGID, r.DagRunID, r.State, r.RunType, moment(r.StartDate), lasted(r.StartDate, r.EndDate, now), str(r.Note)})
				}
				c.table([]string{"DAG", "RUN", "STATE", "TYPE", "STARTED (UTC)", "DURATION", "NOTE"}, rows)
			})
		}}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only runs in this state (queued, running, success, failed)")
	cmd.Flags().IntVar(&limit, "limit", limit, "at most so many")
	return cmd
}

func (c *command) runsShow() *cobra.Command {
	return &cobra.Command{Use: "show DAG_ID [RUN_ID]", Short: "Show a DAG run and its tasks (default the latest run)", Example: "  ostro runs show fraud_detection_training", Args: args(1, 2),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], second(a))
			if err != nil {
				return err
			}
			tis, err := cl.TaskInstances(cmd.Context(), run.DAGID, run.DagRunID, nil)
			if err != nil {
				return err
			}
			byTask(tis)
			return c.show(struct {
				wire.DAGRun
				Tasks []wire.TaskInstance `json:"task_instances"`
			}{run, tis}, func() {
				for _, line := range [][2]string{{"DAG", run.DAGID}, {"Run", run.DagRunID}, {"State", run.State}, {"Type", run.RunType}, {"By", run.Ostro.Actor},
					{"Logical date", moment(run.LogicalDate)}, {"Started", moment(run.StartDate)}, {"Duration", lasted(run.StartDate, run.EndDate, time.Now())},
					{"Conf", string(run.Conf)}, {"Note", str(run.Note)}} {
					fmt.Fprintf(c.Out, "%-14s %s\n", line[0], orDash(line[1]))
				}
				fmt.Fprintln(c.Out)
				c.instanceTable(tis)
			})
		}}
}

// byTask sorts instances by task, in the order the tasks come in, and those of a mapped task by map index.
func byTask(tis []wire.TaskInstance) {
	at := map[string]int{}
	for _, ti := range tis {
		if _, ok := at[ti.TaskID]; !ok {
			at[ti.TaskID] = len(at)
		}
	}
	slices.SortStableFunc(tis, func(a, b wire.TaskInstance) int {
		return cmp.Or(cmp.Compare(at[a.TaskID], at[b.TaskID]), cmp.Compare(a.MapIndex, b.MapIndex))
	})
}

func (c *command) instanceTable(tis []wire.TaskInstance) {
	now, rows := time.Now(), [][]string{}
	for _, ti := range tis {
		rows = append(rows, []string{wire.InstanceName(ti.TaskID, ti.MapIndex), stateOf(ti), fmt.Sprintf("%d", ti.TryNumber), moment(ti.StartDate),
			lasted(ti.StartDate, ti.EndDate, now), clip(remark(ti), cellColumns)})
	}
	c.table([]string{"TASK", "STATE", "TRY", "STARTED (UTC)", "DURATION", "REMARK"}, rows)
}

func stateOf(ti wire.TaskInstance) string { return orDash(str(ti.State)) }

// remark is the most telling of what is known beside the state.
func remark(ti wire.TaskInstance) string {
	for _, s := range []string{ti.Ostro.Waiting, ti.Ostro.Reason, ti.Ostro.IsolationReason} {
		if s != "" && stateOf(ti) != "success" {
			return firstLine(s)
		}
	}
	if n := ti.Ostro.InfraRetries; n > 0 {
		return fmt.Sprintf("lost tries, by no fault of the task: %d; see: ostro tasks state %s %s", n, ti.DAGID, ti.TaskID)
	}
	switch n := len(ti.Ostro.Notices); n {
	case 0:
	case 1:
		return oneLine(ti.Ostro.Notices[0])
	default:
		return fmt.Sprintf("%d notices: ostro tasks state %s %s", n, ti.DAGID, ti.TaskID)
	}
	return oneLine(ti.Ostro.IsolationReason)
}

func (c *command) runsWatch() *cobra.Command {
	return &cobra.Command{Use: "watch DAG_ID [RUN_ID]", Short: "Watch a DAG run until it ends (default the latest run)",
		Long:    "Watch a DAG run until it ends. On a terminal the table is redrawn in place; elsewhere every change is a line.\nThe exit code is 0 when the run succeeds and 1 when it fails.",
		Example: "  ostro runs watch fraud_detection_training", Args: args(1, 2),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], second(a))
			if err != nil {
				return err
			}
			return c.follow(cmd.Context(), cl, run.DAGID, run.DagRunID)
		}}
}

func (c *command) runsCancel() *cobra.Command {
	return &cobra.Command{Use: "cancel DAG_ID [RUN_ID]", Short: "End a DAG run: its tasks are stopped and it counts as failed (default the latest run)",
		Example: "  ostro runs cancel fraud_detection_training", Args: args(1, 2),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], second(a))
			if err != nil {
				return err
			}
			if run.State == "success" || run.State == "failed" {
				return &problem{code: exitConflict, err: fmt.Errorf("run %s of %s has ended already: %s", run.DagRunID, run.DAGID, run.State)}
			}
			if run, err = cl.MarkRun(cmd.Context(), run.DAGID, run.DagRunID, "failed"); err != nil {
				return err
			}
			return c.show(run, func() { fmt.Fprintf(c.Out, "Cancelled run %s of %s\n", run.DagRunID, run.DAGID) })
		}}
}
