// Package cli is the command line. Commands reach a running server over HTTP only; `standalone` and `worker` are the
// server and the worker, and only `dags test` and `db …` touch files.
//
// It promises documented exit codes (docs/exit-codes.md), tables for people, JSON and YAML for programs, and errors that
// name what, where and the nearest right spelling. It must not know how the server works inside.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/config"
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// command is what all subcommands share.
type command struct {
	Streams
	home, output string
	port         int
	portGiven    bool
	environ      map[string]string
}

// Run runs a command line (without the program's name) and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	s.Out, s.In = &output{Writer: s.Out}, &input{Reader: s.In, over: ctx.Done()}
	c := &command{Streams: s, environ: map[string]string{}}
	for _, kv := range config.Environ() {
		if k, v, ok := strings.Cut(kv, "="); ok {
			c.environ[k] = v
		}
	}
	root := c.root() //nolint:contextcheck // commands take their context from cobra when they run
	root.SetArgs(numbersAreArguments(root, args))
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var p *problem
	if fault := c.written(); fault != nil && !errors.As(err, &p) { // the writer's own error says less
		err = fault
	}
	if errors.As(err, &p) && p.err == nil { // shown already
		return p.code
	}
	code, hint := codeOf(err)
	if code == exitInterrupted {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(s.Err, "ostro: "+err.Error())
	if hint != "" {
		fmt.Fprintln(s.Err, "  "+hint)
	}
	return code
}

// formats are what -o takes.
var formats = []string{"table", "json", "yaml"}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ostro",
		Short: "Run machine-learning pipelines: Airflow DAG files, one binary",
		Long: `Ostro runs pipelines written as Airflow DAG files, without Airflow.

Start everything on this machine with "ostro standalone", put DAG files into the DAG folder, and
trigger them. The other commands speak to the running server.`,
		Example: `  ostro standalone --home ~/.ostro --dags ./dags
  ostro dags list
  ostro dags trigger fraud_detection_training --wait
  ostro runs watch fraud_detection_training
  ostro tasks logs fraud_detection_training train_model`,
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 3,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return c.group(cmd, args) },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			c.portGiven = cmd.Flags().Changed("port")
			switch c.output {
			case "table", "json", "yaml":
				return nil
			}
			return &problem{code: exitUsage, err: fmt.Errorf("unknown output format %q%s", c.output, didYouMean(c.output, formats)),
				hint: "the formats are: " + strings.Join(formats, ", ")}
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.home, "home", "", "home folder with all state (OSTRO_HOME; default ~/.ostro)")
	f.IntVar(&c.port, "port", 0, "port of the server (OSTRO_PORT; default the running server's, else 8080)")
	f.StringVarP(&c.output, "output", "o", "table", "output: table, json or yaml")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(c.dags(), c.tasks(), c.runs(), c.xcoms(), c.variables(), c.connections(), c.pools(), c.assets(), c.backfills(), c.approvals(),
		c.configCommand(), c.versionCommand(),
		c.standalone(), c.stop(), c.worker(), c.db())
	root.Version, _ = buildVersion()
	root.SetVersionTemplate("ostro {{.Version}}\n")
	c.complete(root)
	c.completionCommand(root)
	root.SetHelpCommand(helpCommand(root))
	return root
}

// helpCommand is cobra's, apart from an exit code for an unknown topic.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [command]", Short: "Help about any command", Example: "  ostro help dags trigger",
		RunE: func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage("unknown help topic %q", strings.Join(args, " "))
			}
			return found.Help()
		}}
}

// group is what a command with subcommands does when none is named, or an unknown one.
func (c *command) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return &problem{code: exitUsage, err: fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(args[0], names)),
		hint: "see: " + cmd.CommandPath() + " --help"}
}

// parent makes a command that only holds subcommands.
func (c *command) parent(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return c.group(cmd, args) }}
	cmd.AddCommand(subs...)
	return cmd
}
