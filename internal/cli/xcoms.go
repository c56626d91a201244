package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) xcoms() *cobra.Command {
	return c.parent("xcoms", "Read what tasks passed on", "  ostro xcoms list fraud_detection_training latest train_model\n  ostro xcoms get fraud_detection_training latest train_model",
		c.xcomsList(), c.xcomsGet())
}

func (c *command) xcomsList() *cobra.Command {
	cmd := &cobra.Command{Use: "list DAG_ID [RUN_ID] [TASK_ID]", Short: "List the XComs of a run, or of one task (default the latest run)",
		Long:    "List the XComs of a run, or of one task of it. The run may be named latest.",
		Example: "  ostro xcoms list fraud_detection_training\n  ostro xcoms list fraud_detection_training latest train_model -o json", Args: args(1, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], second(a))
			if err != nil {
				return err
			}
			task := third(a)
			if task == "" {
				task = "~"
			} else if err := knownTasks(cmd.Context(), cl, run, []string{task}); err != nil {
				return err
			}
			found, err := cl.XComs(cmd.Context(), run.DAGID, run.DagRunID, task, nil)
			if err != nil {
				return err
			}
			return c.show(found, func() {
				rows := make([][]string, 0, len(found))
				for _, x := range found {
					rows = append(rows, []string{wire.InstanceName(x.TaskID, x.MapIndex), oneLine(x.Key), moment(&x.Timestamp)})
				}
				c.table([]string{"TASK", "KEY", "PUSHED (UTC)"}, rows)
			})
		}}
	return cmd
}

func (c *command) xcomsGet() *cobra.Command {
	mapIndex := -1
	cmd := &cobra.Command{Use: "get DAG_ID RUN_ID TASK_ID [KEY]", Short: "Print an XCom's value (default the return value)", Args: args(3, 4),
		Long:    "Print an XCom's value: a text as it is, anything else as JSON. The run may be named latest; KEY is return_value by default.",
		Example: "  ostro xcoms get fraud_detection_training latest train_model\n  ostro xcoms get fraud_detection_training latest split rows --map-index 2 -o yaml",
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			run, err := latestRun(cmd.Context(), cl, a[0], a[1])
			if err != nil {
				return err
			}
			key := "return_value"
			if len(a) > 3 {
				key = a[3]
			}
			x, err := cl.XCom(cmd.Context(), run.DAGID, run.DagRunID, a[2], key, mapIndex)
			if client.StatusOf(err) == 404 {
				return noXCom(cmd.Context(), cl, run, a[2], key, mapIndex, err)
			}
			if err != nil {
				return err
			}
			return c.show(x, func() {
				var text string
				if json.Unmarshal(x.Value, &text) != nil {
					text = string(x.Value)
				}
				fmt.Fprintln(c.Out, text)
			})
		}}
	cmd.Flags().IntVar(&mapIndex, "map-index", -1, "map index of a mapped task")
	return cmd
}

// noXCom says what there is instead of an XCom that is not there.
func noXCom(ctx context.Context, cl *client.Client, run wire.DAGRun, task, key string, mapIndex int, err error) error {
	if err := knownTasks(ctx, cl, run, []string{task}); err != nil {
		return err
	}
	found, listErr := cl.XComs(ctx, run.DAGID, run.DagRunID, task, url.Values{})
	if listErr != nil {
		return err
	}
	var keys []string
	for _, x := range found {
		if x.Key == key && x.MapIndex != mapIndex {
			return &problem{code: exitNotFound, err: fmt.Errorf("task %s has no XCom %q with map index %d; it is mapped or has others", task, key, mapIndex),
				hint: "name one with --map-index " + strconv.Itoa(x.MapIndex)}
		}
		keys = append(keys, x.Key)
	}
	return &problem{code: exitNotFound, err: fmt.Errorf("task %s of run %s has no XCom %q%s", task, run.DagRunID, key, didYouMean(key, keys)),
		hint: "see: ostro xcoms list " + run.DAGID + " " + run.DagRunID}
}
