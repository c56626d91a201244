package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) backfills() *cobra.Command {
	cmd := c.parent("backfills", "Run a DAG for past dates", "  ostro backfills create etl --from-date 2024-01-01 --to-date 2024-01-31\n  ostro backfills list etl",
		c.backfillsCreate(), c.backfillsList(), c.backfillsShow(),
		c.backfillsChange("pause", "Let a backfill's queued runs wait; those that run go on"),
		c.backfillsChange("unpause", "Let a paused backfill go on"),
		c.backfillsChange("cancel", "End a backfill: its queued runs fail, those that run go on"))
	cmd.Aliases = []string{"backfill"}
	return cmd
}

// backfillOptions are the flags of `backfills create`, with Airflow's names.
type backfillOptions struct {
	dagID, from, to, conf, reprocess string
	maxActive                        int
	reverse, dryRun, latest          bool
}

func (o backfillOptions) body() (map[string]any, error) {
	from, err := parseDate(o.from)
	if err != nil {
		return nil, err
	}
	to, err := parseDate(o.to)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"dag_id": o.dagID, "from_date": from, "to_date": to, "run_backwards": o.reverse, "reprocess_behavior": o.reprocess,
		"max_active_runs": o.maxActive, "run_on_latest_version": o.latest}
	if o.conf != "" {
		if err := checkObject("--dag-run-conf", o.conf); err != nil {
			return nil, err
		}
		body["dag_run_conf"] = json.RawMessage(o.conf)
	}
	return body, nil
}

func (c *command) backfillsCreate() *cobra.Command {
	o := backfillOptions{}
	cmd := &cobra.Command{Use: "create [DAG_ID]", Short: "Create the runs of a DAG for the dates of its schedule in a range",
		Long: `Create the runs of a DAG for the dates of its schedule between two dates, both included, as far as they are over.

A date that has a run already is left alone, unless --reprocess-behavior says that a failed or a completed
run is run again. The runs have a limit of their own and do not count against the DAG's max_active_runs.`,
		Example: "  ostro backfills create etl --from-date 2024-01-01 --to-date 2024-01-31 --dry-run\n  ostro backfill create --dag-id etl --from-date 2024-01-01 --to-date 2024-01-31 --max-active-runs 3",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch {
			case len(a) == 1 && o.dagID != "" && o.dagID != a[0]:
				return usage("two DAGs are named: %s and %s", a[0], o.dagID)
			case len(a) == 1:
				o.dagID = a[0]
			case o.dagID == "":
				return args(1, 1)(cmd, a)
			}
			if o.from == "" || o.to == "" {
				return usage("a backfill needs --from-date and --to-date")
			}
			body, err := o.body()
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			if o.dryRun {
				return c.backfillDry(cmd, cl, body)
			}
			b, err := client.Send[wire.Backfill](cmd.Context(), cl, "POST", client.Path("backfills"), nil, body)
			if err != nil {
				return unknownDAG(cmd.Context(), cl, o.dagID, err)
			}
			c.warnPaused(cmd.Context(), cl, b.DAGID)
			return c.show(b, func() {
				runs := 0
				for _, d := range b.Ostro.Dates {
					if d.RunID != "" {
						runs++
					}
				}
				fmt.Fprintf(c.Out, "Backfill %d of %s: %d runs, %d dates left alone; see: ostro backfills show %d\n", b.ID, b.DAGID, runs, len(b.Ostro.Dates)-runs, b.ID)
			})
		}}
	f := cmd.Flags()
	f.StringVar(&o.dagID, "dag-id", "", "the DAG, in place of DAG_ID")
	f.StringVar(&o.from, "from-date", "", "first logical date, such as 2024-01-31 or 2024-01-31T02:00:00Z")
	f.StringVar(&o.to, "to-date", "", "last logical date")
	f.StringVar(&o.conf, "dag-run-conf", "", "configuration of the runs, a JSON object")
	f.StringVar(&o.reprocess, "reprocess-behavior", "none", "finished runs that are run again: none, failed or completed")
	f.IntVar(&o.maxActive, "max-active-runs", 10, "how many of its runs may be running at once")
	f.BoolVar(&o.reverse, "run-backwards", false, "the newest date first")
	f.BoolVar(&o.dryRun, "dry-run", false, "only list the dates that would be run")
	f.BoolVar(&o.latest, "run-on-latest-version", true, "runs that exist go on with the newest version of the DAG")
	return cmd
}

func (c *command) backfillDry(cmd *cobra.Command, cl *client.Client, body map[string]any) error {
	plan, err := client.Send[wire.DryBackfills](cmd.Context(), cl, "POST", client.Path("backfills", "dry_run"), nil, body)
	if err != nil {
		return unknownDAG(cmd.Context(), cl, fmt.Sprint(body["dag_id"]), err)
	}
	return c.show(plan.Backfills, func() {
		rows := [][]string{}
		for _, d := range plan.Backfills {
			rows = append(rows, []string{moment(&d.LogicalDate)})
		}
		c.table([]string{"LOGICAL DATE (UTC)"}, rows)
	})
}

func backfillState(b wire.Backfill) string {
	switch {
	case b.CompletedAt != nil:
		return "completed"
	case b.IsPaused:
		return "paused"
	}
	return "running"
}

func (c *command) backfillsList() *cobra.Command {
	return &cobra.Command{Use: "list [DAG_ID]", Short: "List backfills, newest first", Example: "  ostro backfills list\n  ostro backfills list etl", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			dagID := "~"
			if len(a) > 0 {
				dagID = a[0]
				if _, err := cl.DAGDetails(cmd.Context(), dagID); err != nil { // nothing is said of a DAG that is not there
					return unknownDAG(cmd.Context(), cl, dagID, err)
				}
			}
			found, err := client.Get[wire.Backfills](cmd.Context(), cl, client.Path("backfills"), url.Values{"dag_id": {dagID}, "order_by": {"-id"}, "limit": {"100"}})
			if err != nil {
				return err
			}
			return c.show(found.Backfills, func() {
				rows := [][]string{}
				for _, b := range found.Backfills {
					rows = append(rows, []string{strconv.FormatInt(b.ID, 10), b.DAGID, backfillState(b), moment(&b.FromDate), moment(&b.ToDate), b.Reprocess,
						strconv.Itoa(b.MaxActiveRuns), moment(&b.CreatedAt)})
				}
				c.table([]string{"ID", "DAG", "STATE", "FROM (UTC)", "TO (UTC)", "REPROCESS", "MAX ACTIVE", "CREATED (UTC)"}, rows)
			})
		}}
}

// backfill reads or changes one backfill; change "" reads.
func (c *command) backfill(cmd *cobra.Command, id, change string) (wire.Backfill, error) {
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return wire.Backfill{}, usage("%q is not the number of a backfill; see: ostro backfills list", id)
	}
	cl, err := c.connect()
	if err != nil {
		return wire.Backfill{}, err
	}
	var b wire.Backfill
	if change == "" {
		b, err = client.Get[wire.Backfill](cmd.Context(), cl, client.Path("backfills", id), nil)
	} else {
		b, err = client.Send[wire.Backfill](cmd.Context(), cl, "PUT", client.Path("backfills", id, change), nil, nil)
	}
	if client.StatusOf(err) == 404 {
		return b, &problem{code: exitNotFound, err: fmt.Errorf("there is no backfill %s", id), hint: "see: ostro backfills list"}
	}
	return b, err
}

func (c *command) backfillsShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a backfill and its dates", Example: "  ostro backfills show 1", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			b, err := c.backfill(cmd, a[0], "")
			if err != nil {
				return err
			}
			return c.show(b, func() {
				fmt.Fprintf(c.Out, "Backfill %d of %s: %s, %s to %s, reprocess %s, at most %d at once\n", b.ID, b.DAGID, backfillState(b), moment(&b.FromDate),
					moment(&b.ToDate), b.Reprocess, b.MaxActiveRuns)
				rows := [][]string{}
				for _, d := range b.Ostro.Dates {
					state := d.State
					if d.Reason != "" {
						state = "left alone: " + d.Reason
					}
					rows = append(rows, []string{moment(&d.LogicalDate), d.RunID, state})
				}
				c.table([]string{"LOGICAL DATE (UTC)", "RUN", "STATE"}, rows)
			})
		}}
}

func (c *command) backfillsChange(word, short string) *cobra.Command {
	return &cobra.Command{Use: word + " ID", Short: short, Example: "  ostro backfills " + word + " 1", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			b, err := c.backfill(cmd, a[0], word)
			if err != nil {
				return err
			}
			return c.show(b, func() { fmt.Fprintf(c.Out, "Backfill %d of %s: %s\n", b.ID, b.DAGID, backfillState(b)) })
		}}
}
