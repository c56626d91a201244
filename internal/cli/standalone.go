package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
)

func (c *command) standalone() *cobra.Command {
	var o config.LoadOptions
	cmd := &cobra.Command{Use: "standalone", Short: "Run everything on this machine: server, scheduler and worker",
		Long: `Run everything on this machine: the server with its API, the scheduler and the worker that runs tasks.

All state is kept under the home folder. TERM or Ctrl-C stops in order: tasks get a grace, results are
stored, and the last lines say what was done.`,
		Example: "  ostro standalone\n  ostro standalone --home ~/.ostro --dags ./dags --port 8080", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadConfig(o)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), cfg)
		}}
	cmd.Flags().StringVar(&o.DAGs, "dags", "", "folder of the DAG files (default HOME/dags)")
	cmd.Flags().StringVar(&o.Host, "host", "", "address to listen on (default 127.0.0.1)")
	cmd.Flags().StringVar(&o.Python, "python", "", "Python that runs DAG files and tasks")
	cmd.Flags().StringVar(&o.File, "config", "", "configuration file (default HOME/ostro.yaml)")
	return cmd
}

func (c *command) logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		l = slog.LevelInfo // Load has checked it; WARNING and the like are spelled as levels of other programs
		if strings.EqualFold(level, "warning") {
			l = slog.LevelWarn
		}
	}
	return slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: l}))
}

func (c *command) serve(ctx context.Context, cfg config.Config) error {
	version, revision := buildVersion()
	a, err := app.New(cfg, c.logger(cfg.LogLevel), app.Options{Version: version, Revision: revision}) //nolint:contextcheck // what New made is closed also when ctx has ended
	switch {
	case errors.Is(err, app.ErrHomeInUse), errors.Is(err, app.ErrPortInUse), errors.Is(err, app.ErrLed):
		return &problem{code: exitConflict, err: err}
	case err != nil:
		return homeProblem(err)
	}
	file := filepath.Join(cfg.Home, "run", "server.json")
	announced := make(chan error, 1)
	done, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-a.Ready():
			announced <- c.announce(cfg, a.URL(), file, version)
		case <-done.Done():
			announced <- nil
		}
	}()
	err = a.Run(ctx)
	cancel()
	err = errors.Join(err, <-announced)
	if rm := os.Remove(file); rm != nil && !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", file, rm))
	}
	fmt.Fprintln(c.Out, "Ostro "+a.Report().String()+".")
	if errors.Is(err, app.ErrFenced) {
		return &problem{code: exitConflict, err: err, hint: "this server had not renewed its lead in time; its tasks were ended"}
	}
	return err
}

// announce says where everything is, to people and, in HOME/run/server.json, to other commands.
func (c *command) announce(cfg config.Config, url, file, version string) error {
	b, err := json.Marshal(serverFile{URL: url, PID: os.Getpid()})
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	flags := ""
	if cfg.Home != defaultHome(c.environ) {
		flags = " --home " + cfg.Home
	}
	fmt.Fprintf(c.Out, `Ostro %s is running.
  API    %s/api/v2  (token in %s)
  Home   %s
  DAGs   %s
  Next   ostro dags list%s
         ostro dags trigger DAG_ID --wait%s
Stop it with Ctrl-C.
`, version, url, filepath.Join(cfg.Home, "token"), cfg.Home, cfg.DAGs, flags, flags)
	return nil
}

// defaultHome is the home that commands use when nobody says otherwise.
func defaultHome(environ map[string]string) string {
	if h := environ["OSTRO_HOME"]; h != "" {
		return h
	}
	return filepath.Join(environ["HOME"], ".ostro")
}

func (c *command) worker() *cobra.Command {
	return &cobra.Command{Use: "worker", Short: "Run the process that runs tasks (standalone starts it by itself)",
		Long: `Run the process that runs tasks for the server of the same home.

"ostro standalone" starts one by itself and finds it again after a restart: tasks go on while no server
runs. There is no need to start it by hand.`,
		Example: "  ostro worker --home ~/.ostro", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadConfig(config.LoadOptions{})
			if err != nil {
				return err
			}
			version, _ := buildVersion()
			err = app.RunWorker(cmd.Context(), cfg, c.logger(cfg.LogLevel), version)
			if errors.Is(err, app.ErrWorkerRunning) {
				return &problem{code: exitConflict, err: err, hint: "there is no need for a second one"}
			}
			return err
		}}
}
