package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) dags() *cobra.Command {
	return c.parent("dags", "List, show, trigger, test, pause and delete DAGs", "  ostro dags list\n  ostro dags trigger fraud_detection_training --wait",
		c.dagsList(), c.dagsShow(), c.dagsTrigger(), c.dagsTest(), c.dagsPause("pause", true), c.dagsPause("unpause", false), c.dagsErrors(), c.dagsNext(), c.dagsDelete())
}

// unknownDAG turns a 404 about a DAG into one that names the nearest DAG there is.
func unknownDAG(ctx context.Context, cl *client.Client, dagID string, err error) error {
	if client.StatusOf(err) != 404 {
		return err
	}
	dags, listErr := cl.DAGs(ctx, nil)
	if listErr != nil {
		return err
	}
	names := make([]string, 0, len(dags))
	for _, d := range dags {
		if d.DAGID == dagID {
			return err // the DAG exists: something else was not found
		}
		names = append(names, d.DAGID)
	}
	if cl.Reading(ctx) {
		return &problem{code: exitNotFound, err: fmt.Errorf("there is no DAG %q yet", dagID), hint: stillReading}
	}
	p := &problem{code: exitNotFound, err: fmt.Errorf("there is no DAG %q%s", dagID, didYouMean(dagID, names)), hint: "see: ostro dags list"}
	if broken, listErr := cl.ImportErrors(ctx); listErr == nil && len(broken) > 0 {
		p.hint = fmt.Sprintf("see: ostro dags list, and ostro dags errors for %d file(s) that could not be imported", len(broken))
	}
	return p
}

// stillReading is said beside what may be missing something.
const stillReading = "the server has just started and is still reading the DAG folder: ask again in a moment"

func (c *command) sayReading(ctx context.Context, cl *client.Client) {
	if cl.Reading(ctx) {
		fmt.Fprintln(c.Err, stillReading)
	}
}

func (c *command) dagsList() *cobra.Command {
	var tags []string
	var pattern string
	var all bool
	cmd := &cobra.Command{Use: "list", Short: "List DAGs", Example: "  ostro dags list\n  ostro dags list --tag ml -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			q := url.Values{"tags": tags}
			if pattern != "" {
				q.Set("dag_id_pattern", pattern)
			}
			if all {
				q.Set("exclude_stale", "false")
			}
			dags, err := cl.DAGs(cmd.Context(), q)
			if err != nil {
				return err
			}
			defer c.sayReading(cmd.Context(), cl)
			return c.show(dags, func() { c.dagTable(cmd.Context(), cl, dags) })
		}}
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "only DAGs with this tag (repeat for any of several)")
	cmd.Flags().StringVar(&pattern, "pattern", "", "only ids like this, with % for anything")
	cmd.Flags().BoolVar(&all, "all", false, "also DAGs whose file is gone")
	return cmd
}

func (c *command) dagTable(ctx context.Context, cl *client.Client, dags []wire.DAG) {
	rows := make([][]string, 0, len(dags))
	for _, d := range dags {
		rows = append(rows, []string{d.DAGID, str(d.TimetableSummary), yes(d.IsPaused), nextRun(d), strings.Join(d.Owners, ","), str(d.RelativeFileloc)})
	}
	c.table([]string{"DAG", "SCHEDULE", "PAUSED", "NEXT RUN (UTC)", "OWNERS", "FILE"}, rows)
	if broken, err := cl.ImportErrors(ctx); err == nil && len(broken) > 0 {
		fmt.Fprintf(c.Err, "%d file(s) could not be imported; see: ostro dags errors\n", len(broken))
	}
}

// byAssets stands where the next run of a DAG would that waits for assets alone.
const byAssets = "when its assets are updated"

func nextRun(d wire.DAG) string {
	if d.NextDagrunRunAfter == nil && str(d.TimetableSummary) == "Asset" {
		return byAssets
	}
	return moment(d.NextDagrunRunAfter)
}

func (c *command) dagsShow() *cobra.Command {
	return &cobra.Command{Use: "show DAG_ID", Short: "Show a DAG and its tasks", Example: "  ostro dags show fraud_detection_training", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			d, err := cl.DAGDetails(cmd.Context(), a[0])
			if err != nil {
				return unknownDAG(cmd.Context(), cl, a[0], err)
			}
			tasks, err := cl.Tasks(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			warnings, err := cl.DAGWarnings(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			return c.show(struct {
				wire.DAGDetails
				Tasks    []wire.Task       `json:"tasks"`
				Warnings []wire.DAGWarning `json:"warnings,omitempty"`
			}{d, tasks, warnings}, func() {
				c.showDAG(d, tasks)
				c.dagWarnings(c.Out, warnings)
			})
		}}
}

func (c *command) showDAG(d wire.DAGDetails, tasks []wire.Task) {
	tags := make([]string, 0, len(d.Tags))
	for _, t := range d.Tags {
		tags = append(tags, t.Name)
	}
	version := "-"
	if d.LatestDagVersion != nil {
		version = fmt.Sprint(d.LatestDagVersion.VersionNumber)
	}
	for _, line := range [][2]string{{"DAG", d.DAGID}, {"Description", str(d.Description)}, {"File", d.Fileloc}, {"Schedule", str(d.TimetableDescription)},
		{"Catch-up", yes(d.Catchup)}, {"Paused", yes(d.IsPaused)}, {"Next run", nextRun(d.DAG)}, {"Start date", moment(d.StartDate)},
		{"Tags", strings.Join(tags, ", ")}, {"Version", version}, {"Compatibility", d.Ostro.Compat}, {"Import errors", yes(d.HasImportErrors)}} {
		fmt.Fprintf(c.Out, "%-14s %s\n", line[0], orDash(line[1]))
	}
	fmt.Fprintln(c.Out)
	c.taskTable(tasks)
}

func (c *command) dagsTrigger() *cobra.Command {
	var conf, runID, date, note string
	var wait, noDate bool
	cmd := &cobra.Command{Use: "trigger DAG_ID", Short: "Start a DAG run",
		Example: "  ostro dags trigger fraud_detection_training\n  ostro dags trigger fraud_detection_training --conf '{\"sample\": 100}' --wait", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			t := client.Trigger{RunID: runID, Note: note}
			if conf != "" {
				if err := checkObject("--conf", conf); err != nil {
					return err
				}
				t.Conf = json.RawMessage(conf)
			}
			switch {
			case date != "" && noDate:
				return usage("--logical-date and --no-logical-date exclude each other")
			case date != "":
				at, err := parseDate(date)
				if err != nil {
					return err
				}
				t.LogicalDate = &at
			case !noDate:
				at := time.Now().UTC().Truncate(time.Microsecond)
				t.LogicalDate = &at
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := cl.Trigger(cmd.Context(), a[0], t)
			if err != nil {
				return unknownDAG(cmd.Context(), cl, a[0], err)
			}
			if !wait {
				return c.show(run, func() {
					fmt.Fprintf(c.Out, "Triggered %s: run %s\n", run.DAGID, run.DagRunID)
					c.warnPaused(cmd.Context(), cl, run.DAGID)
					fmt.Fprintf(c.Err, "Watch it with: ostro runs watch %s %s\n", run.DAGID, run.DagRunID)
				})
			}
			c.warnPaused(cmd.Context(), cl, run.DAGID)
			return c.follow(cmd.Context(), cl, run.DAGID, run.DagRunID)
		}}
	cmd.Flags().StringVarP(&conf, "conf", "c", "", "configuration of the run, a JSON object")
	cmd.Flags().StringVar(&runID, "run-id", "", "id of the run (default made from the date)")
	cmd.Flags().StringVar(&date, "logical-date", "", "logical date, such as 2024-01-31 or 2024-01-31T02:00:00Z (default now)")
	cmd.Flags().BoolVar(&noDate, "no-logical-date", false, "create the run without a logical date")
	cmd.Flags().StringVar(&note, "note", "", "note on the run")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end: exit 0 on success, 1 on failure")
	return cmd
}

// warnPaused says that a run of a paused DAG will not start. Not being able to tell is no reason to fail.
func (c *command) warnPaused(ctx context.Context, cl *client.Client, dagID string) {
	if d, err := cl.DAGDetails(ctx, dagID); err == nil && d.IsPaused {
		fmt.Fprintf(c.Err, "%s is paused: its runs wait until: ostro dags unpause %s\n", dagID, dagID)
	}
}

func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("%q is not a date; write 2024-01-31 or 2024-01-31T02:00:00Z", s)
}

func (c *command) dagsPause(use string, paused bool) *cobra.Command {
	short := "Stop starting runs of DAGs"
	if !paused {
		short = "Let runs of DAGs start again"
	}
	return &cobra.Command{Use: use + " DAG_ID...", Short: short, Example: "  ostro dags " + use + " fraud_detection_training", Args: args(1, -1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			for _, id := range a { // all names are right before the first is changed
				if _, err := cl.DAGDetails(cmd.Context(), id); err != nil {
					return unknownDAG(cmd.Context(), cl, id, err)
				}
			}
			out := []wire.DAG{}
			for _, id := range a {
				d, err := cl.SetPaused(cmd.Context(), id, paused)
				if err != nil {
					return unknownDAG(cmd.Context(), cl, id, err)
				}
				out = append(out, d)
			}
			return c.show(out, func() {
				for _, d := range out {
					fmt.Fprintf(c.Out, "%s: paused %s\n", d.DAGID, yes(d.IsPaused))
				}
			})
		}}
}

func (c *command) dagsErrors() *cobra.Command {
	var trace bool
	cmd := &cobra.Command{Use: "errors", Short: "Show DAG files that could not be imported", Example: "  ostro dags errors\n  ostro dags errors --traceback", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			errs, err := cl.ImportErrors(cmd.Context())
			if err != nil {
				return err
			}
			warnings, err := cl.DAGWarnings(cmd.Context(), "")
			if err != nil {
				return err
			}
			c.sayReading(cmd.Context(), cl)
			if err := c.show(errs, func() { c.importErrors(errs, trace) }); err != nil {
				return err
			}
			if c.output == "table" {
				c.dagWarnings(c.Out, warnings)
			} else {
				c.dagWarnings(c.Err, warnings)
			}
			if len(errs) > 0 {
				return errFailed
			}
			return nil
		}}
	cmd.Flags().BoolVar(&trace, "traceback", false, "with tracebacks")
	cmd.Long = "Show DAG files that could not be imported. The exit code is 1 when there are any. Warnings follow: what was accepted and\nhas no effect, or is spelled in an outdated way; they do not change the exit code. With -o they go to standard error."
	return cmd
}

// dagWarnings prints each warning once, however many DAGs its file declares.
func (c *command) dagWarnings(to io.Writer, warnings []wire.DAGWarning) {
	seen := map[string]bool{}
	for _, w := range warnings {
		text := w.Message
		if !strings.HasPrefix(text, w.Ostro.File) {
			text = w.Ostro.File + ": " + text
		}
		if !seen[text] {
			seen[text] = true
			fmt.Fprintf(to, "warning: %s\n", oneLine(text))
		}
	}
}

func (c *command) dagsDelete() *cobra.Command {
	var sure bool
	cmd := &cobra.Command{Use: "delete DAG_ID...", Short: "Delete DAGs with their runs, task instances, XComs and versions", Args: args(1, -1),
		Long: `Delete DAGs with all their runs, task instances, XComs and versions. Their runs must have ended. The logs stay, and so do
the events of the audit log. A DAG whose file is still in the DAG folder comes back at once, without a past.`,
		Example: "  ostro dags delete old_pipeline\n  ostro dags delete old_pipeline older_pipeline --yes",
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			for _, id := range a { // all names are right before the first is deleted
				if _, err := cl.DAGDetails(cmd.Context(), id); err != nil {
					return unknownDAG(cmd.Context(), cl, id, err)
				}
			}
			if ok, err := c.confirm(sure, fmt.Sprintf("Delete %s with all runs?", strings.Join(a, ", "))); err != nil || !ok {
				return err
			}
			for i, id := range a {
				if err := cl.DeleteDAG(cmd.Context(), id); err != nil {
					if i > 0 {
						fmt.Fprintf(c.Err, "deleted: %s\n", strings.Join(a[:i], ", "))
					}
					return err
				}
			}
			return c.show(map[string][]string{"deleted": a}, func() { fmt.Fprintf(c.Out, "Deleted %s\n", strings.Join(a, ", ")) })
		}}
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks before something that cannot be undone. Where nobody can be asked, --yes must have been given.
func (c *command) confirm(sure bool, question string) (bool, error) {
	if sure {
		return true, nil
	}
	if _, _, ok := terminal(c.Out); !ok || c.output != "table" { // a program is not asked
		return false, &problem{code: exitUsage, err: errors.New("nothing was deleted: there is nobody to ask"), hint: "do it with --yes"}
	}
	ok, err := c.agreed(question)
	if err == nil && !ok {
		fmt.Fprintln(c.Out, "Nothing was deleted.")
	}
	return ok, err
}

func (c *command) importErrors(errs []wire.ImportError, trace bool) {
	if len(errs) == 0 {
		fmt.Fprintln(c.Out, "No import errors.")
		return
	}
	for i, e := range errs {
		if i > 0 && trace {
			fmt.Fprintln(c.Out)
		}
		at := e.Filename
		if e.Ostro.Line > 0 {
			at = fmt.Sprintf("%s:%d", at, e.Ostro.Line)
		}
		if e.Ostro.DAGID != "" {
			at += " (DAG " + e.Ostro.DAGID + ")"
		}
		fmt.Fprintf(c.Out, "%s: %s\n", at, oneLine(e.Ostro.Message))
		if trace {
			fmt.Fprintln(c.Out, strings.TrimRight(e.StackTrace, "\n"))
		}
	}
}

// overdue tells whether a DAG is paused over the date of its next run.
func overdue(d wire.DAGDetails, now time.Time) bool {
	return d.IsPaused && d.NextDagrunRunAfter != nil && !d.NextDagrunRunAfter.Std().After(now)
}

// whilePaused says what comes of the next run of a paused DAG.
func whilePaused(d wire.DAGDetails, overdue bool) string {
	unpause := "; unpause it with: ostro dags unpause " + d.DAGID
	switch {
	case !overdue:
		return d.DAGID + " is paused: it runs only if it is unpaused by then" + unpause
	case d.Catchup:
		return d.DAGID + " is paused, and this run is overdue: it starts once the DAG is unpaused, and the runs after it follow (catchup)" + unpause
	}
	return d.DAGID + " is paused, and this run is overdue: once the DAG is unpaused, the latest run that is due then starts, and those before it do not (no catchup)" + unpause
}

func (c *command) dagsNext() *cobra.Command {
	return &cobra.Command{Use: "next-run DAG_ID", Aliases: []string{"next-execution"}, Short: "Show when a DAG runs next", Example: "  ostro dags next-run fraud_detection_training", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			d, err := cl.DAGDetails(cmd.Context(), a[0])
			if err != nil {
				return unknownDAG(cmd.Context(), cl, a[0], err)
			}
			next := struct {
				DAGID       string     `json:"dag_id"`
				Paused      bool       `json:"is_paused"`
				LogicalDate *wire.Time `json:"logical_date"`
				Start       *wire.Time `json:"data_interval_start"`
				End         *wire.Time `json:"data_interval_end"`
				RunAfter    *wire.Time `json:"run_after"`
				Overdue     bool       `json:"is_overdue"` // it is past, and made when the DAG is unpaused
			}{d.DAGID, d.IsPaused, d.NextDagrunLogicalDate, d.NextDagrunIntervalStart, d.NextDagrunIntervalEnd, d.NextDagrunRunAfter, overdue(d, time.Now())}
			return c.show(next, func() {
				if next.RunAfter == nil && nextRun(d.DAG) == byAssets {
					fmt.Fprintf(c.Out, "%s runs %s; start one with: ostro dags trigger %s\n", d.DAGID, byAssets, d.DAGID)
					return
				}
				if next.RunAfter == nil {
					fmt.Fprintf(c.Out, "%s has no next run by time (%s)\n", d.DAGID, str(d.TimetableDescription))
					return
				}
				c.table([]string{"DAG", "LOGICAL DATE", "DATA INTERVAL", "RUNS AFTER (UTC)", "PAUSED"},
					[][]string{{d.DAGID, moment(next.LogicalDate), moment(next.Start) + " – " + moment(next.End), moment(next.RunAfter), yes(next.Paused)}})
				if next.Paused {
					fmt.Fprintln(c.Out, whilePaused(d, next.Overdue))
				}
			})
		}}
}

// isFile tells whether an argument of `dags test` names a file.
func isFile(arg string) bool {
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir() || errors.Is(err, os.ErrNotExist) && strings.HasSuffix(arg, ".py")
}
