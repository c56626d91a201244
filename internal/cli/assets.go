package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) assets() *cobra.Command {
	return c.parent("assets", "List, show, update and materialize assets", "  ostro assets list\n  ostro assets events orders\n  ostro assets materialize orders",
		c.assetsList(), c.assetsShow(), c.assetsEvents(), c.assetsUpdate(), c.assetsMaterialize())
}

// allAssets lists the assets, also those that no DAG names any more.
func allAssets(ctx context.Context, cl *client.Client) ([]wire.Asset, error) {
	return cl.Assets(ctx, url.Values{"only_active": {"false"}})
}

// findAsset finds an asset by its number, its name or its URI.
func findAsset(ctx context.Context, cl *client.Client, given string) (wire.Asset, error) {
	all, err := allAssets(ctx, cl)
	if err != nil {
		return wire.Asset{}, err
	}
	var found []wire.Asset
	var known []string
	for _, a := range all {
		known = append(known, a.Name)
		if a.Name == given || a.URI == given || strconv.FormatInt(a.ID, 10) == given {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return wire.Asset{}, &problem{code: exitNotFound, err: fmt.Errorf("there is no asset %q%s", given, didYouMean(given, known)), hint: "see: ostro assets list --all"}
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, a := range found {
		ids = append(ids, strconv.FormatInt(a.ID, 10))
	}
	return wire.Asset{}, usage("%q means several assets; give the number: %s", given, strings.Join(ids, ", "))
}

func (c *command) assetsList() *cobra.Command {
	all := false
	cmd := &cobra.Command{Use: "list", Short: "List assets with who produces them and whom they schedule", Example: "  ostro assets list", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			found, err := cl.Assets(cmd.Context(), url.Values{"only_active": {strconv.FormatBool(!all)}})
			if err != nil {
				return err
			}
			return c.show(found, func() {
				rows := [][]string{}
				for _, a := range found {
					rows = append(rows, []string{strconv.FormatInt(a.ID, 10), a.Name, a.URI, a.Group, tasksOf(a.ProducingTasks), dagsOf(a.ScheduledDags), moment(a.LastAssetEvent.Timestamp)})
				}
				c.table([]string{"ID", "ASSET", "URI", "GROUP", "PRODUCED BY", "SCHEDULES", "LAST EVENT (UTC)"}, rows)
			})
		}}
	cmd.Flags().BoolVar(&all, "all", false, "also assets that no DAG names any more")
	return cmd
}

func tasksOf(uses []wire.AssetTask) string {
	var out []string
	for _, u := range uses {
		out = append(out, u.DAGID+"."+u.TaskID)
	}
	return strings.Join(out, ", ")
}

func dagsOf(uses []wire.AssetDAG) string {
	var out []string
	for _, u := range uses {
		out = append(out, u.DAGID)
	}
	return strings.Join(out, ", ")
}

func (c *command) assetsShow() *cobra.Command {
	return &cobra.Command{Use: "show ASSET", Aliases: []string{"details"}, Short: "Show an asset, by its number, name or URI, and whose queue it is in", Example: "  ostro assets show orders", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			x, err := findAsset(cmd.Context(), cl, a[0])
			if err != nil {
				return err
			}
			queued, err := client.Get[wire.QueuedEvents](cmd.Context(), cl, client.Path("assets", strconv.FormatInt(x.ID, 10), "queuedEvents"), nil)
			if err != nil {
				return err
			}
			return c.show(struct {
				wire.Asset
				Queued []wire.QueuedEvent `json:"queued_events"`
			}{x, queued.Events}, func() {
				var aliases, waiting []string
				for _, l := range x.Aliases {
					aliases = append(aliases, l.Name)
				}
				for _, q := range queued.Events {
					waiting = append(waiting, q.DAGID)
				}
				for _, line := range [][2]string{{"asset", x.Name}, {"id", strconv.FormatInt(x.ID, 10)}, {"uri", x.URI}, {"group", x.Group}, {"extra", string(x.Extra)},
					{"produced by", tasksOf(x.ProducingTasks)}, {"read by", tasksOf(x.ConsumingTasks)}, {"schedules", dagsOf(x.ScheduledDags)},
					{"aliases", strings.Join(aliases, ", ")}, {"last event", moment(x.LastAssetEvent.Timestamp)}, {"queued for", strings.Join(waiting, ", ")}} {
					if line[1] == "" {
						line[1] = "-"
					}
					fmt.Fprintf(c.Out, "%-12s %s\n", line[0], line[1])
				}
			})
		}}
}

func (c *command) assetsEvents() *cobra.Command {
	dagID, limit := "", 25
	cmd := &cobra.Command{Use: "events [ASSET]", Short: "List asset events, newest first, with the runs that consumed them", Example: "  ostro assets events orders\n  ostro assets events --dag producer", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			query := url.Values{"order_by": {"-timestamp"}}
			if len(a) > 0 {
				x, err := findAsset(cmd.Context(), cl, a[0])
				if err != nil {
					return err
				}
				query.Set("asset_id", strconv.FormatInt(x.ID, 10))
			}
			if dagID != "" {
				query.Set("source_dag_id", dagID)
			}
			events, total, err := upTo(limit, query, func(q url.Values) ([]wire.AssetEvent, int, error) {
				page, err := client.Get[wire.AssetEvents](cmd.Context(), cl, client.Path("assets", "events"), q)
				return page.Events, page.Total, err
			})
			if err != nil {
				return err
			}
			defer c.sayMore(len(events), total)
			return c.show(events, func() {
				rows := [][]string{}
				for _, e := range events {
					rows = append(rows, []string{strconv.FormatInt(e.ID, 10), e.Name, moment(&e.Timestamp), sourceOf(e), oneLine(string(e.Extra)), runsOfEvent(e)})
				}
				c.table([]string{"ID", "ASSET", "AT (UTC)", "FROM", "EXTRA", "CONSUMED BY"}, rows)
			})
		}}
	cmd.Flags().StringVar(&dagID, "dag", "", "only events of this DAG's tasks")
	cmd.Flags().IntVar(&limit, "limit", limit, "at most so many")
	return cmd
}

func sourceOf(e wire.AssetEvent) string {
	if e.SourceDAGID == nil {
		return "outside"
	}
	return str(e.SourceDAGID) + "." + str(e.SourceTaskID) + " in " + str(e.SourceRunID)
}

func runsOfEvent(e wire.AssetEvent) string {
	var out []string
	for _, r := range e.CreatedDagruns {
		out = append(out, r.DAGID+" "+r.RunID)
	}
	return strings.Join(out, ", ")
}

func (c *command) assetsUpdate() *cobra.Command {
	extra := ""
	cmd := &cobra.Command{Use: "update ASSET", Short: "Say that an asset was updated outside: make an event of it", Example: `  ostro assets update orders --extra '{"rows": 3}'`, Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			body := map[string]any{}
			if extra != "" {
				if err := checkObject("--extra", extra); err != nil {
					return err
				}
				body["extra"] = json.RawMessage(extra)
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			x, err := findAsset(cmd.Context(), cl, a[0])
			if err != nil {
				return err
			}
			body["asset_id"] = x.ID
			e, err := client.Send[wire.AssetEvent](cmd.Context(), cl, "POST", client.Path("assets", "events"), nil, body)
			if err != nil {
				return err
			}
			return c.show(e, func() { fmt.Fprintf(c.Out, "Event %d of asset %s\n", e.ID, x.Name) })
		}}
	cmd.Flags().StringVar(&extra, "extra", "", "what comes with the event, a JSON object")
	return cmd
}

func (c *command) assetsMaterialize() *cobra.Command {
	conf := ""
	cmd := &cobra.Command{Use: "materialize ASSET", Short: "Trigger the DAG that produces an asset", Example: "  ostro assets materialize orders", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			body := map[string]any{}
			if conf != "" {
				if err := checkObject("--conf", conf); err != nil {
					return err
				}
				body["conf"] = json.RawMessage(conf)
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			x, err := findAsset(cmd.Context(), cl, a[0])
			if err != nil {
				return err
			}
			r, err := client.Send[wire.DAGRun](cmd.Context(), cl, "POST", client.Path("assets", strconv.FormatInt(x.ID, 10), "materialize"), nil, body)
			if err != nil {
				return err
			}
			c.warnPaused(cmd.Context(), cl, r.DAGID)
			return c.show(r, func() { fmt.Fprintf(c.Out, "Triggered %s %s\n", r.DAGID, r.DagRunID) })
		}}
	cmd.Flags().StringVarP(&conf, "conf", "c", "", "configuration of the run, a JSON object")
	return cmd
}
