package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
)

func (c *command) standalone() *cobra.Command {
	var o config.LoadOptions
	replace := false
	cmd := &cobra.Command{Use: "standalone", Short: "Run everything on this machine: server, scheduler and worker",
		Long: `Run everything on this machine: the server with its API, the scheduler and the worker that runs tasks.

All state is kept under the home folder. TERM or Ctrl-C stops in order: tasks get a grace, results are
stored, and the last lines say what was done. Tasks that were interrupted run again at the next start.

To upgrade, start the new program with --replace: the server that runs on the same home stops scheduling,
answers the requests it has, leaves its tasks running with the worker and ends; the new one goes on with
them. Where none runs it simply starts. "ostro stop --keep-tasks", or the signal USR1, stops a server in the
same way without a successor.`,
		Example: "  ostro standalone\n  ostro standalone --home ~/.ostro --dags ./dags --port 8080\n  ostro standalone --replace", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadConfig(o)
			if err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return &problem{code: exitUsage, err: err}
			}
			return c.serve(cmd.Context(), cfg, replace)
		}}
	cmd.Flags().StringVar(&o.DAGs, "dags", "", "folder of the DAG files (default HOME/dags)")
	cmd.Flags().StringVar(&o.Host, "host", "", "address to listen on (default 127.0.0.1)")
	cmd.Flags().StringVar(&o.Python, "python", "", "Python that runs DAG files and tasks")
	cmd.Flags().StringVar(&o.File, "config", "", "configuration file (default HOME/ostro.yaml)")
	cmd.Flags().BoolVar(&replace, "replace", false, "take the place of the server that runs on this home; its tasks go on")
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

// serve runs a server until it is stopped.
func (c *command) serve(ctx context.Context, cfg config.Config, replace bool) error {
	keep := make(chan os.Signal, 1)
	signal.Notify(keep, syscall.SIGUSR1)
	defer signal.Stop(keep)
	for _, text := range cfg.Warnings {
		c.logger(cfg.LogLevel).Warn(text)
	}
	version, revision := buildVersion()
	a, err := app.New(cfg, c.logger(cfg.LogLevel), app.Options{Version: version, Revision: revision, Replace: replace}) //nolint:contextcheck // what New made is closed also when ctx has ended
	if err != nil {
		return startProblem(err)
	}
	done, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-a.Ready():
			c.announce(cfg, a, version)
		case <-done.Done():
		}
	})
	watching.Go(func() {
		select {
		case <-keep:
			a.Stop(app.KeepTasks)
		case <-done.Done():
		}
	})
	err = a.Run(ctx)
	cancel()
	watching.Wait()
	report := a.Report()
	for _, line := range report.Lines() {
		fmt.Fprintln(c.Out, line)
	}
	fmt.Fprintln(c.Out, "Ostro "+report.String()+".")
	if errors.Is(err, app.ErrFenced) {
		return &problem{code: exitConflict, err: err, hint: "this server had not renewed its lead in time; its tasks were ended"}
	}
	return err
}

// startProblem gives an error of a start its exit code.
func startProblem(err error) error {
	switch {
	case errors.Is(err, app.ErrHomeInUse), errors.Is(err, app.ErrPortInUse), errors.Is(err, app.ErrLed), errors.Is(err, app.ErrNoAnswer):
		return &problem{code: exitConflict, err: err}
	case errors.Is(err, app.ErrHomeUnusable):
		return &problem{code: exitHome, err: err, hint: "name another folder with --home"}
	}
	return err
}

// announce says where everything is.
func (c *command) announce(cfg config.Config, a *app.App, version string) {
	switch r := a.Replaced(); {
	case r == nil:
	case r.PID == 0:
		fmt.Fprintf(c.Out, "No server was running on %s: nothing to replace.\n", cfg.Home)
	default:
		fmt.Fprintf(c.Out, "Took over from process %d (%s); running tasks that go on: %d.\n", r.PID, orDash(r.Version), r.Left)
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
`, version, a.URL(), filepath.Join(cfg.Home, "token"), cfg.Home, cfg.DAGs, flags, flags)
}

// stop asks the server to stop.
func (c *command) stop() *cobra.Command {
	keep := false
	cmd := &cobra.Command{Use: "stop", Short: "Stop the server of a home, with its tasks or without",
		Long: `Stop the server of a home in order, wait until it has stopped, and say what it did.

Tasks that are running are asked to end, and killed if they do not; they run again at the next start, which
costs no retry. With --keep-tasks they are left running with the worker, and the next server goes on with
them: nothing is lost or run twice.`,
		Example: "  ostro stop\n  ostro stop --keep-tasks", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadConfig(config.LoadOptions{})
			if err != nil {
				return err
			}
			mode := app.EndTasks
			if keep {
				mode = app.KeepTasks
			}
			s, err := app.StopServer(cmd.Context(), cfg.Home, mode, func(why string) { fmt.Fprintln(c.Err, "Waiting: "+why+".") })
			switch {
			case errors.Is(err, app.ErrNoServer), errors.Is(err, app.ErrNoAnswer):
				return &problem{code: exitUnreachable, err: err}
			case err != nil:
				return err
			}
			return c.show(stopped{s.PID, s.Left, s.Said}, func() {
				for _, line := range s.Said {
					fmt.Fprintln(c.Out, line)
				}
				if len(s.Said) == 0 {
					fmt.Fprintf(c.Out, "The server (process %d) has ended and did not say what it did; the next start finds out.\n", s.PID)
				}
			})
		}}
	cmd.Flags().BoolVar(&keep, "keep-tasks", false, "leave running tasks to the worker and the next server")
	return cmd
}

// stopped is what a stop did, for programs.
type stopped struct {
	PID  int      `json:"pid"`
	Left int      `json:"left"` // tasks left running
	Said []string `json:"said"`
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
			err = app.RunWorker(cmd.Context(), cfg, c.logger(cfg.LogLevel), app.Build(buildVersion()))
			if errors.Is(err, app.ErrWorkerRunning) {
				return &problem{code: exitConflict, err: err, hint: "there is no need for a second one"}
			}
			return err
		}}
}
