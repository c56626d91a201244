package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) tasks() *cobra.Command {
	return c.parent("tasks", "List and test tasks, read logs, clear and mark task instances", "  ostro tasks logs fraud_detection_training train_model -f",
		c.tasksList(), c.tasksLogs(), c.tasksRender(), c.tasksTest(), c.tasksClear(), c.tasksState())
}

func (c *command) taskTable(tasks []wire.Task) {
	rows := make([][]string, 0, len(tasks))
	for _, t := range tasks {
		rows = append(rows, []string{t.TaskID, t.OperatorName, t.TriggerRule, fmt.Sprint(int(t.Retries)), t.Pool, strings.Join(t.DownstreamTaskIDs, ",")})
	}
	c.table([]string{"TASK", "OPERATOR", "TRIGGER RULE", "RETRIES", "POOL", "DOWNSTREAM"}, rows)
}

func (c *command) tasksList() *cobra.Command {
	return &cobra.Command{Use: "list DAG_ID", Short: "List a DAG's tasks", Example: "  ostro tasks list fraud_detection_training", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			tasks, err := cl.Tasks(cmd.Context(), a[0])
			if err != nil {
				return unknownDAG(cmd.Context(), cl, a[0], err)
			}
			return c.show(tasks, func() { c.taskTable(tasks) })
		}}
}

// instanceOf finds a task instance of a run (the latest when runID is empty) and names the nearest task when there is none.
func instanceOf(ctx context.Context, cl *client.Client, dagID, taskID, runID string, mapIndex int) (wire.TaskInstance, error) {
	run, err := latestRun(ctx, cl, dagID, runID)
	if err != nil {
		return wire.TaskInstance{}, err
	}
	ti, err := cl.TaskInstance(ctx, dagID, run.DagRunID, taskID, mapIndex)
	if client.StatusOf(err) != 404 {
		return ti, err
	}
	tis, listErr := cl.TaskInstances(ctx, dagID, run.DagRunID, nil)
	if listErr != nil {
		return ti, err
	}
	switch mapped := instancesOf(tis, taskID); {
	case mapped != "" && mapIndex >= 0:
		return ti, &problem{code: exitNotFound, err: noIndex(tis, dagID, taskID, mapIndex)}
	case mapped != "":
		return ti, &problem{code: exitNotFound, err: fmt.Errorf("task %s of %s is mapped; this run has %s", taskID, dagID, mapped), hint: "name one, as in --map-index 0"}
	}
	names := names(tis, func(ti wire.TaskInstance) string { return ti.TaskID })
	if id, index, ok := asShown(taskID, names); ok {
		return ti, &problem{code: exitNotFound, err: fmt.Errorf("run %s of %s has no task %q", run.DagRunID, dagID, taskID), hint: instanceHint(id, index)}
	}
	return ti, &problem{code: exitNotFound, err: fmt.Errorf("run %s of %s has no task %q%s", run.DagRunID, dagID, taskID, didYouMean(taskID, names)), hint: "see: ostro tasks list " + dagID}
}

// shownName is how the tables name an instance of a mapped task.
var shownName = regexp.MustCompile(`^(.+)\[(\d+)\]$`)

// asShown reads a name as the tables show it, "x[3]", when x is one of the tasks.
func asShown(name string, tasks []string) (taskID, index string, ok bool) {
	m := shownName.FindStringSubmatch(name)
	if m == nil || !slices.Contains(tasks, m[1]) {
		return "", "", false
	}
	return m[1], m[2], true
}

func instanceHint(taskID, index string) string {
	return fmt.Sprintf("the index is given apart: %s with --map-index %s", taskID, index)
}

// instancesOf names the instances of a task with their states, those of one state together: "0–3 success, 4 failed".
func instancesOf(tis []wire.TaskInstance, taskID string) string {
	tis = slices.DeleteFunc(slices.Clone(tis), func(ti wire.TaskInstance) bool { return ti.TaskID != taskID })
	slices.SortFunc(tis, func(x, y wire.TaskInstance) int { return x.MapIndex - y.MapIndex })
	var parts []string
	for i := 0; i < len(tis); {
		last := i
		for last+1 < len(tis) && stateOf(tis[last+1]) == stateOf(tis[i]) && tis[last+1].MapIndex == tis[last].MapIndex+1 {
			last++
		}
		part := strconv.Itoa(tis[i].MapIndex)
		if tis[i].MapIndex < 0 {
			part = "no index"
		}
		if last > i {
			part += "–" + strconv.Itoa(tis[last].MapIndex)
		}
		parts = append(parts, part+" "+stateOf(tis[i]))
		i = last + 1
	}
	const most = 12
	if more := len(parts) - most; more > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more groups of them", more))
	}
	return strings.Join(parts, ", ")
}

func third(a []string) string {
	if len(a) > 2 {
		return a[2]
	}
	return ""
}

func (c *command) tasksLogs() *cobra.Command {
	var try int
	var follow bool
	mapIndex := -1
	cmd := &cobra.Command{Use: "logs DAG_ID TASK_ID [RUN_ID]", Short: "Print a task's log (default the latest run and try)",
		Example: "  ostro tasks logs fraud_detection_training train_model\n  ostro tasks logs fraud_detection_training train_model --try 1\n  ostro tasks logs fraud_detection_training train_model -f", Args: args(2, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ti, err := instanceOf(cmd.Context(), cl, a[0], a[1], third(a), mapIndex)
			if err != nil {
				return err
			}
			if try == 0 {
				try = ti.TryNumber
			}
			if err := withoutLog(ti, try); err != nil {
				return err
			}
			if c.output != "table" && !follow {
				lines := []wire.LogLine{}
				err := cl.Logs(cmd.Context(), ti.DAGID, ti.DagRunID, ti.TaskID, ti.MapIndex, try, func(l wire.LogLine) error {
					lines = append(lines, l)
					return nil
				})
				if err != nil {
					return err
				}
				return c.show(lines, nil)
			}
			out := bufio.NewWriter(c.Out)
			print := func(l wire.LogLine) error { return c.logLine(out, l, follow) }
			read := cl.Logs
			if follow {
				read = cl.FollowLogs
			}
			err = read(cmd.Context(), ti.DAGID, ti.DagRunID, ti.TaskID, ti.MapIndex, try, print)
			return errors.Join(err, out.Flush())
		}}
	cmd.Flags().IntVar(&try, "try", 0, "try number (default the latest)")
	cmd.Flags().IntVar(&mapIndex, "map-index", -1, "map index of a mapped task")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the task ends (with -o json: a document a line)")
	return cmd
}

// withoutLog says why a try of an instance has no log; nil when it may have one.
func withoutLog(ti wire.TaskInstance, try int) error {
	name := wire.InstanceName(ti.TaskID, ti.MapIndex)
	switch {
	case try == 0:
		return &problem{code: exitNotFound, err: fmt.Errorf("task %s has not run yet: %s", name, stateOf(ti)), hint: remark(ti)}
	case try < 0 || try > ti.TryNumber:
		return &problem{code: exitNotFound, err: fmt.Errorf("task %s has no try %d; the last one is %d", name, try, ti.TryNumber),
			hint: fmt.Sprintf("see: ostro tasks state %s %s %s", ti.DAGID, ti.TaskID, ti.DagRunID)}
	case try == ti.TryNumber && ti.EndDate != nil && !ran(ti.Hostname):
		return &problem{code: exitNotFound, err: fmt.Errorf("task %s ended without a process of its own (%s), so it has no log", name, stateOf(ti)), hint: remark(ti)}
	}
	return nil
}

// logLine prints a line for people; a log that is followed with -o json or yaml is a JSON document a line.
func (c *command) logLine(out *bufio.Writer, l wire.LogLine, flush bool) error {
	switch {
	case c.output != "table":
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, _ = out.Write(append(b, '\n'))
	case len(l.Sources) > 0 || l.Event == "::endgroup::" && l.Timestamp == nil: // where the log is, for programs
		return nil
	default:
		at := "                       "
		if l.Timestamp != nil {
			at = l.Timestamp.Std().UTC().Format("2006-01-02 15:04:05.000")
		}
		level := ""
		switch {
		case l.Stream == "stderr": // says nothing about how bad it is: progress bars go there too
			level = "stderr "
		case l.Stream != "stdout" && l.Level != "" && l.Level != "info":
			level = strings.ToUpper(l.Level) + " "
		}
		fmt.Fprintf(out, "%s  %s%s\n", at, level, strings.TrimRight(l.Event, "\n"))
	}
	if flush {
		return out.Flush()
	}
	return nil
}

func (c *command) tasksRender() *cobra.Command {
	mapIndex := -1
	cmd := &cobra.Command{Use: "render DAG_ID TASK_ID [RUN_ID]", Short: "Show a task instance's rendered template fields (default the latest run)",
		Example: "  ostro tasks render fraud_detection_training prepare_data", Args: args(2, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ti, err := instanceOf(cmd.Context(), cl, a[0], a[1], third(a), mapIndex)
			if err != nil {
				return err
			}
			if why := unrendered(ti); why != nil {
				return why
			}
			return c.show(ti.RenderedFields, func() { c.renderedFields(ti) })
		}}
	cmd.Flags().IntVar(&mapIndex, "map-index", -1, "map index of a mapped task")
	return cmd
}

// unrendered says why a task instance has no rendered fields, and what to do; nil when it has some.
func unrendered(ti wire.TaskInstance) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(ti.RenderedFields, &fields) == nil && len(fields) > 0 {
		return nil
	}
	name := wire.InstanceName(ti.TaskID, ti.MapIndex)
	p := &problem{code: exitNotFound, hint: fmt.Sprintf("render and run it here and now with: ostro tasks test %s %s", ti.DAGID, ti.TaskID)}
	why := remark(ti)
	switch {
	case ti.TryNumber == 0 && why != "":
		p.err = fmt.Errorf("%s has not run yet (%s: %s), so nothing was rendered", name, stateOf(ti), why)
	case ti.TryNumber == 0:
		p.err = fmt.Errorf("%s has not run (%s), so nothing was rendered", name, stateOf(ti))
	case stateOf(ti) == "failed" || stateOf(ti) == "up_for_retry":
		p.err = fmt.Errorf("try %d of %s failed before its fields were rendered (%s)", ti.TryNumber, name, orDash(why))
		p.hint = fmt.Sprintf("see: ostro tasks logs %s %s, or %s", ti.DAGID, ti.TaskID, p.hint)
	case ti.EndDate == nil:
		p.err = fmt.Errorf("%s is %s: what was rendered is kept when it ends", name, stateOf(ti))
	default:
		return nil // it has no template fields
	}
	return p
}

func (c *command) renderedFields(ti wire.TaskInstance) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(ti.RenderedFields, &fields) != nil || len(fields) == 0 {
		fmt.Fprintf(c.Out, "%s has no rendered template fields\n", wire.InstanceName(ti.TaskID, ti.MapIndex))
		return
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := string(fields[name])
		var s string
		if json.Unmarshal(fields[name], &s) == nil {
			value = s
		}
		fmt.Fprintf(c.Out, "# %s\n%s\n", name, value)
	}
	for _, n := range ti.Ostro.Notices {
		fmt.Fprintf(c.Out, "# note: %s\n", oneLine(n))
	}
}

func (c *command) tasksClear() *cobra.Command {
	var b client.Clear
	var tasks []string
	var runID string
	var sure bool
	mapIndex := -1
	cmd := &cobra.Command{Use: "clear DAG_ID [RUN_ID]", Short: "Let task instances run again (default the latest run)",
		Long:    "Let task instances run again. What would be cleared is shown first; --yes does it without asking.",
		Example: "  ostro tasks clear fraud_detection_training --failed\n  ostro tasks clear fraud_detection_training --task quality_gate --downstream --yes", Args: args(1, -1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) > 2 {
				return usage("a DAG and a run at most; name tasks with --task, as in: ostro tasks clear %s --task %s", a[0], strings.Join(a[1:], " --task "))
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], second(a))
			if err != nil {
				return taskForRun(cmd.Context(), cl, a, err)
			}
			b.RunID, runID = run.DagRunID, run.DagRunID
			if err := knownTasks(cmd.Context(), cl, run, tasks); err != nil {
				return err
			}
			if err := knownIndex(cmd.Context(), cl, run, tasks, mapIndex); err != nil {
				return err
			}
			for _, t := range tasks {
				if mapIndex >= 0 {
					b.TaskIDs = append(b.TaskIDs, []any{t, mapIndex})
				} else {
					b.TaskIDs = append(b.TaskIDs, t)
				}
			}
			return c.clear(cmd.Context(), cl, a[0], runID, b, sure)
		}}
	f := cmd.Flags()
	f.StringSliceVarP(&tasks, "task", "t", nil, "only this task (repeat for several; default all)")
	f.IntVar(&mapIndex, "map-index", -1, "only this map index of the tasks")
	f.BoolVar(&b.OnlyFailed, "failed", false, "only instances that failed")
	f.BoolVar(&b.OnlyRunning, "running", false, "only instances that run")
	f.BoolVar(&b.IncludeUpstream, "upstream", false, "also all tasks upstream")
	f.BoolVar(&b.IncludeDownstream, "downstream", false, "also all tasks downstream")
	f.BoolVar(&b.IncludePast, "past", false, "also in earlier runs")
	f.BoolVar(&b.IncludeFuture, "future", false, "also in later runs")
	f.BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}

// taskForRun adds to the error about a run that is not there what to write when the name is a task's.
func taskForRun(ctx context.Context, cl *client.Client, a []string, err error) error {
	code, _ := codeOf(err)
	if len(a) < 2 || code != exitNotFound {
		return err
	}
	tasks, listErr := cl.Tasks(ctx, a[0])
	if listErr != nil || !slices.ContainsFunc(tasks, func(t wire.Task) bool { return t.TaskID == a[1] }) {
		return err
	}
	return &problem{code: code, err: err, hint: fmt.Sprintf("%s is a task; clear it with: ostro tasks clear %s --task %s", a[1], a[0], a[1])}
}

// knownTasks refuses tasks that neither the DAG nor the run has, with the nearest name.
func knownTasks(ctx context.Context, cl *client.Client, run wire.DAGRun, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	tasks, err := cl.Tasks(ctx, run.DAGID)
	if err != nil {
		return err
	}
	tis, err := cl.TaskInstances(ctx, run.DAGID, run.DagRunID, nil)
	if err != nil {
		return err
	}
	known := append(names(tasks, func(t wire.Task) string { return t.TaskID }), names(tis, func(ti wire.TaskInstance) string { return ti.TaskID })...)
	for _, id := range ids {
		if taskID, index, ok := asShown(id, known); ok && !slices.Contains(known, id) {
			return &problem{code: exitNotFound, err: fmt.Errorf("there is no task %q in %s", id, run.DAGID), hint: instanceHint(taskID, index)}
		}
		if !slices.Contains(known, id) {
			return &problem{code: exitNotFound, err: fmt.Errorf("there is no task %q in %s%s", id, run.DAGID, didYouMean(id, known)), hint: "see: ostro tasks list " + run.DAGID}
		}
	}
	return nil
}

// knownIndex refuses a map index that one of the tasks has no instance of, with those it has; below 0 none is asked for.
func knownIndex(ctx context.Context, cl *client.Client, run wire.DAGRun, ids []string, index int) error {
	if index < 0 {
		return nil
	}
	if len(ids) == 0 {
		return usage("--map-index needs the task whose index it is: --task TASK_ID")
	}
	tis, err := cl.TaskInstances(ctx, run.DAGID, run.DagRunID, nil)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(tis, func(ti wire.TaskInstance) bool { return ti.TaskID == id && ti.MapIndex == index }) {
			return &problem{code: exitNotFound, err: noIndex(tis, run.DAGID, id, index)}
		}
	}
	return nil
}

// noIndex says which instances a task has in the place of one that is not there.
func noIndex(tis []wire.TaskInstance, dagID, taskID string, index int) error {
	if slices.ContainsFunc(tis, func(ti wire.TaskInstance) bool { return ti.TaskID == taskID && ti.MapIndex < 0 }) {
		return fmt.Errorf("task %s of %s has no map index %d: it is not mapped", taskID, dagID, index)
	}
	return fmt.Errorf("task %s of %s has no map index %d; this run has %s", taskID, dagID, index, orDash(instancesOf(tis, taskID)))
}

func (c *command) clear(ctx context.Context, cl *client.Client, dagID, runID string, b client.Clear, sure bool) error {
	preview := b
	preview.DryRun = true
	tis, err := cl.Clear(ctx, dagID, preview)
	if err != nil {
		return err
	}
	if len(tis) == 0 {
		return &problem{code: exitNotFound, err: fmt.Errorf("nothing to clear in run %s of %s", runID, dagID), hint: "see: ostro runs show " + dagID + " " + runID}
	}
	if !sure && c.output != "table" { // a program is not asked
		if err := c.show(tis, nil); err != nil {
			return err
		}
		return &problem{code: exitUsage, err: errors.New("nothing was cleared: this is what would be"), hint: "do it with --yes"}
	}
	if !sure {
		c.instanceTable(tis)
		if _, _, ok := terminal(c.Out); !ok {
			return &problem{code: exitUsage, err: errors.New("nothing was cleared: this is what would be"), hint: "do it with --yes"}
		}
		switch ok, err := c.agreed(fmt.Sprintf("Clear these %d task instance(s)?", len(tis))); {
		case err != nil:
			return err
		case !ok:
			fmt.Fprintln(c.Out, "Nothing was cleared.")
			return nil
		}
	}
	b.DryRun = false
	if tis, err = cl.Clear(ctx, dagID, b); err != nil {
		return err
	}
	return c.show(tis, func() { fmt.Fprintf(c.Out, "Cleared %d task instance(s) of run %s\n", len(tis), runID) })
}

// instanceState prints an instance, all its notices, and its attempts with how each of them ended.
func (c *command) instanceState(ti wire.TaskInstance, tries []wire.Try) {
	c.instanceTable([]wire.TaskInstance{ti})
	if reason := strings.TrimSpace(ti.Ostro.Reason); beginning(reason) != oneLine(reason) { // the table has its beginning
		fmt.Fprintln(c.Out, "\nreason:")
		for line := range strings.Lines(reason) {
			fmt.Fprintln(c.Out, "  "+oneLine(strings.TrimRight(line, "\n")))
		}
	}
	for _, n := range ti.Ostro.Notices {
		fmt.Fprintf(c.Out, "note: %s\n", oneLine(n))
	}
	for _, line := range gpuLines(ti.Ostro) {
		fmt.Fprintln(c.Out, line)
	}
	if len(tries) == 0 {
		return
	}
	fmt.Fprintln(c.Out)
	now, rows := time.Now(), [][]string{}
	for _, t := range tries {
		rows = append(rows, []string{strconv.Itoa(t.TryNumber), orDash(str(t.State)), moment(t.StartDate), lasted(t.StartDate, t.EndDate, now),
			ending(t.Ostro)})
	}
	c.table([]string{"TRY", "STATE", "STARTED (UTC)", "DURATION", "REASON"}, rows)
}

// ending says in words how an attempt ended.
func ending(x wire.TIExtras) string {
	reason := beginning(x.Reason)
	switch {
	case reason != "":
	case x.Signal != "":
		reason = "ended by " + x.Signal
	case x.ExitCode != nil && *x.ExitCode != 0:
		reason = fmt.Sprintf("exit code %d", *x.ExitCode)
	}
	if x.Infra {
		reason = strings.TrimPrefix(reason+" (not the task's fault, so it does not count as a retry)", " ")
	}
	return reason
}

// markStates are those that a task instance can be set to.
var markStates = []string{"success", "failed", "skipped"}

func (c *command) tasksState() *cobra.Command {
	var set string
	mapIndex := -1
	cmd := &cobra.Command{Use: "state DAG_ID TASK_ID [RUN_ID]", Short: "Show or set the state of a task instance (default the latest run)",
		Example: "  ostro tasks state fraud_detection_training train_model\n  ostro tasks state fraud_detection_training quality_gate --set success", Args: args(2, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			if set != "" && !slices.Contains(markStates, set) {
				return usage("a task instance cannot be set to %q, only to success, failed or skipped%s", set, didYouMean(set, markStates))
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ti, err := instanceOf(cmd.Context(), cl, a[0], a[1], third(a), mapIndex)
			if err != nil {
				return err
			}
			if set != "" {
				changed, err := cl.MarkTask(cmd.Context(), ti.DAGID, ti.DagRunID, ti.TaskID, ti.MapIndex, map[string]any{"new_state": set})
				if err != nil {
					return err
				}
				if len(changed) > 0 {
					ti = changed[0]
				}
			}
			tries, err := cl.Tries(cmd.Context(), ti.DAGID, ti.DagRunID, ti.TaskID, ti.MapIndex)
			if err != nil {
				return err
			}
			return c.show(struct {
				wire.TaskInstance
				Tries []wire.Try `json:"tries"`
			}{ti, tries}, func() { c.instanceState(ti, tries) })
		}}
	cmd.Flags().StringVar(&set, "set", "", "set the state: success, failed or skipped")
	cmd.Flags().IntVar(&mapIndex, "map-index", -1, "map index of a mapped task")
	return cmd
}
