package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
)

func (c *command) dagsTest() *cobra.Command {
	var t app.DagTest
	var o config.LoadOptions
	cmd := &cobra.Command{Use: "test FILE|DAG_ID", Short: "Run a whole DAG here and now, without a server",
		Long: `Run a whole DAG in one process, without a server, and print what its tasks print. Nothing is recorded.

The argument is a DAG file, or the id of a DAG in the DAG folder. Unless they are named, folder and Python are those of the
home's server, if one runs. Pods run as the configuration says.`,
		Example: "  ostro dags test dags/fraud_detection.py\n  ostro dags test fraud_detection_training --logical-date 2024-01-31", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.testDAG(cmd.Context(), a[0], t, o)
		}}
	cmd.Flags().StringVar(&t.DAGID, "dag-id", "", "which DAG of the file, when it declares several")
	cmd.Flags().StringVar(&t.LogicalDate, "logical-date", "", "logical date of the run (default now)")
	cmd.Flags().StringVarP(&t.Conf, "conf", "c", "", "configuration of the run, a JSON object")
	cmd.Flags().StringVar(&o.DAGs, "dags", "", "folder of the DAG files (default HOME/dags)")
	cmd.Flags().StringVar(&o.Python, "python", "", "Python that runs the DAG")
	return cmd
}

// testDAG runs the DAG of a file, or of an id in the DAG folder, or one task of it.
func (c *command) testDAG(ctx context.Context, what string, t app.DagTest, o config.LoadOptions) error {
	cfg, err := c.loadConfig(o)
	if err != nil {
		return err
	}
	server := announced(cfg.Home)
	follow := func(key string, value *string, served string) bool {
		if cfg.Origins[key] != config.FromDefault || served == "" {
			return false
		}
		*value = served
		return true
	}
	follow("python", &cfg.Python, server.Python)
	served := follow("dags", &cfg.DAGs, server.DAGs)
	if t.Conf != "" {
		if err := checkObject("--conf", t.Conf); err != nil {
			return err
		}
	}
	if t.File = what; !isFile(what) {
		if t.File = ""; served {
			t.File = c.askForFile(ctx, what)
		}
		if t.File == "" {
			if t.File, err = findDAG(cfg.DAGs, what); err != nil {
				return err
			}
		}
		t.DAGID = what
	} else if _, err := os.Stat(t.File); err != nil {
		return &problem{code: exitNotFound, err: fmt.Errorf("there is no file %s", t.File)}
	}
	t.In, t.Out, t.Err = plainInput(c.In), plain(c.Out), c.Err
	code, err := app.TestDAG(ctx, cfg, c.logger("warn"), t)
	var at *fs.PathError
	if errors.As(err, &at) && at.Op == "fork/exec" {
		return &problem{code: exitUsage, err: err, hint: "name another Python with --python"}
	}
	if err != nil {
		return err
	}
	if code != exitOK {
		return &problem{code: code}
	}
	return nil
}

func (c *command) tasksTest() *cobra.Command {
	var t app.DagTest
	var o config.LoadOptions
	cmd := &cobra.Command{Use: "test FILE|DAG_ID TASK_ID [DATE]", Short: "Run one task here and now, without a server",
		Long: `Run one task in a process of its own, without a server, and print what it prints. Nothing is recorded, what
stands before the task is not run, and it is not retried.

The first argument is a DAG file, or the id of a DAG in the DAG folder; DATE is the logical date, by default now.`,
		Example: "  ostro tasks test dags/fraud_detection.py prepare_data\n  ostro tasks test fraud_detection_training prepare_data 2024-01-31", Args: args(2, 3),
		RunE: func(cmd *cobra.Command, a []string) error {
			if t.Task, t.LogicalDate = a[1], third(a); t.LogicalDate != "" {
				if _, err := parseDate(t.LogicalDate); err != nil {
					return err
				}
			}
			return c.testDAG(cmd.Context(), a[0], t, o)
		}}
	cmd.Flags().StringVar(&t.DAGID, "dag-id", "", "which DAG of the file, when it declares several")
	cmd.Flags().IntVar(&t.MapIndex, "map-index", -1, "map index of a mapped task (default the first)")
	cmd.Flags().StringVarP(&t.Conf, "conf", "c", "", "configuration of the run, a JSON object")
	cmd.Flags().StringVar(&o.DAGs, "dags", "", "folder of the DAG files (default HOME/dags)")
	cmd.Flags().StringVar(&o.Python, "python", "", "Python that runs the task")
	return cmd
}

// askForFile asks the home's server for the file of a DAG; "" when there is no answer, or no such file here.
func (c *command) askForFile(ctx context.Context, id string) string {
	cl, err := c.connect()
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d, err := cl.DAGDetails(ctx, id)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(d.Fileloc); err != nil {
		return ""
	}
	return d.Fileloc
}

// findDAG looks for the file that declares a DAG: the one where the id stands as a string, or as the name of a function.
func findDAG(dir, id string) (string, error) {
	declared := regexp.MustCompile(`["']` + regexp.QuoteMeta(id) + `["']|def ` + regexp.QuoteMeta(id) + `\b`)
	anyID := regexp.MustCompile(`(?:DAG\(\s*|dag_id\s*=\s*)["']([\w.-]+)["']|(?s:@dag\b.*?\ndef (\w+))`)
	var hits, known []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".py") {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // a symbolic link to nothing declares nothing
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range anyID.FindAllSubmatch(text, -1) {
			known = append(known, string(m[1])+string(m[2]))
		}
		if declared.Match(text) && strings.Contains(strings.ToLower(string(text)), "dag") {
			hits = append(hits, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", usage("look for DAG %s: %w", id, err)
	}
	switch len(hits) {
	case 0:
		return "", &problem{code: exitNotFound, err: fmt.Errorf("no file in %s declares a DAG %q%s", dir, id, didYouMean(id, known)), hint: "name the file, or the folder with --dags"}
	case 1:
		return hits[0], nil
	}
	return "", &problem{code: exitUsage, err: fmt.Errorf("several files mention a DAG %q: %s", id, strings.Join(hits, ", ")), hint: "name the file"}
}
