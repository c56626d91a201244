package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
)

func (c *command) dagsTest() *cobra.Command {
	var t app.DagTest
	var o config.LoadOptions
	cmd := &cobra.Command{Use: "test FILE|DAG_ID [DATE]", Short: "Run a whole DAG here and now, without a server",
		Long: `Run a whole DAG in one process, without a server, and print what its tasks print. Nothing is recorded.

The first argument is a DAG file, or the id of a DAG in the DAG folder; DATE is the logical date, by default now. Unless
they are named, folder and Python are those of the home's server, if one runs. Pods run as the configuration says.`,
		Example: "  ostro dags test dags/fraud_detection.py\n  ostro dags test fraud_detection_training 2024-01-31", Args: args(1, 2),
		RunE: func(cmd *cobra.Command, a []string) error {
			if date := second(a); date != "" {
				if t.LogicalDate != "" {
					return usage("the logical date is given twice: %s, and --logical-date %s", date, t.LogicalDate)
				}
				t.LogicalDate = date
			}
			return c.testDAG(cmd.Context(), a[0], t, o)
		}}
	cmd.Flags().StringVar(&t.DAGID, "dag-id", "", "which DAG of the file, when it declares several")
	cmd.Flags().StringVar(&t.LogicalDate, "logical-date", "", "logical date of the run, as DATE")
	cmd.Flags().StringVarP(&t.Conf, "conf", "c", "", "configuration of the run, a JSON object")
	cmd.Flags().StringVar(&o.DAGs, "dags", "", "folder of the DAG files (default HOME/dags)")
	cmd.Flags().StringVar(&o.Python, "python", "", "Python that runs the DAG")
	return cmd
}

// testDAG runs the DAG of a file, or of an id in the DAG folder, or one task of it.
func (c *command) testDAG(ctx context.Context, what string, t app.DagTest, o config.LoadOptions) error {
	if err := checkRun(t); err != nil {
		return err
	}
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
	t.In, t.Out, t.Err = plainInput(c.In), plain(c.Out), c.Err
	if isFile(what) {
		if _, err := os.Stat(what); err != nil {
			return &problem{code: exitNotFound, err: fmt.Errorf("there is no file %s", what)}
		}
		t.File = what
		return c.runTest(ctx, cfg, t)
	}
	t.DAGID = what
	if served {
		if t.File = c.askForFile(ctx, what); t.File != "" {
			return c.runTest(ctx, cfg, t)
		}
	}
	found, err := findDAG(cfg.DAGs, what)
	if err != nil {
		return err
	}
	if t.File = found.file; t.File != "" {
		return c.runTest(ctx, cfg, t)
	}
	t.Perhaps = true
	for _, t.File = range found.mentioned {
		if err := c.runTest(ctx, cfg, t); !errors.Is(err, app.ErrNotHere) {
			return err
		}
	}
	return &problem{code: exitNotFound, err: fmt.Errorf("there is no DAG %q%s", what, didYouMean(what, found.known)),
		hint: "looked for in " + cfg.DAGs + "; name the file, or another folder with --dags"}
}

// checkRun refuses what no run can be given.
func checkRun(t app.DagTest) error {
	if t.LogicalDate != "" {
		if _, err := parseDate(t.LogicalDate); err != nil {
			return err
		}
	}
	if t.Conf != "" {
		return checkObject("--conf", t.Conf)
	}
	return nil
}

// runTest runs the DAG of t.File.
func (c *command) runTest(ctx context.Context, cfg config.Config, t app.DagTest) error {
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
			t.Task, t.LogicalDate = a[1], third(a)
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

// whereabouts is what the text of DAG files says about where a DAG is.
type whereabouts struct {
	file      string   // it declares the DAG
	mentioned []string // otherwise: where the id stands as a string or the name of a function; only an import tells
	known     []string // the ids that are declared
}

// findDAG looks for the file that declares a DAG.
func findDAG(dir, id string) (whereabouts, error) {
	mention := regexp.MustCompile(`["']` + regexp.QuoteMeta(id) + `["']|def ` + regexp.QuoteMeta(id) + `\b`)
	anyID := regexp.MustCompile(`(?:\bDAG\(\s*|dag_id\s*=\s*)["']([\w.-]+)["']|(?s:@dag\b.*?\ndef (\w+))`)
	var found whereabouts
	var declared []string
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
		var here []string
		for _, m := range anyID.FindAllSubmatch(text, -1) {
			here = append(here, string(m[1])+string(m[2]))
		}
		found.known = append(found.known, here...)
		switch {
		case slices.Contains(here, id):
			declared = append(declared, path)
		case mention.Match(text) && strings.Contains(strings.ToLower(string(text)), "dag"):
			found.mentioned = append(found.mentioned, path)
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return found, usage("look for DAG %s: %w", id, err)
	case len(declared) == 1:
		found.file = declared[0]
	case len(declared) > 1:
		return found, &problem{code: exitUsage, err: fmt.Errorf("several files declare a DAG %q: %s", id, strings.Join(declared, ", ")), hint: "name the file"}
	}
	return found, nil
}
