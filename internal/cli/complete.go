package cli

import (
	"context"
	_ "embed" // the end of the script for bash
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

// completionTime is how long a shell waits for names from the server.
const completionTime = 2 * time.Second

// complete lets the shell complete what the usage lines name, with the server's own names. Without a server there is
// nothing to offer, and nothing is said about it.
func (c *command) complete(root *cobra.Command) {
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if words := strings.Fields(cmd.Use); len(words) > 1 {
			cmd.ValidArgsFunction = func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
				return c.completeArg(cmd, words[1:], given)
			}
		}
		if cmd.Flags().Lookup("task") != nil {
			_ = cmd.RegisterFlagCompletionFunc("task", func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
				return c.offer(cmd, "TASK_ID", given), cobra.ShellCompDirectiveNoFileComp
			})
		}
		for path, words := range flagWords {
			if name, ok := strings.CutPrefix(path, cmd.CommandPath()+" --"); ok {
				_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// flagWords are the words that flags take.
var flagWords = map[string][]string{
	"ostro runs list --state":                     runStates,
	"ostro tasks state --set":                     markStates,
	"ostro backfills create --reprocess-behavior": {"none", "failed", "completed"},
}

// bashHelpers ends the script for bash: without the bash-completion package the functions of it that the script calls are
// not there.
//
//go:embed completion.bash
var bashHelpers string

// completionCommand is cobra's, apart from exit codes for what it does not know, and from a script for bash that needs no
// package.
func (c *command) completionCommand(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, c.group
		for _, shell := range cmd.Commands() {
			shell.Args = args(0, 0)
			if shell.Name() == "bash" {
				bashScript(root, shell, c.Out)
			}
		}
	}
}

func bashScript(root, cmd *cobra.Command, to io.Writer) {
	cmd.Long = `Generate the autocompletion script for bash (4.1 or newer).

To load completions in your current shell session:

	source <(ostro completion bash)

To load completions for every new session, add that line to ~/.bashrc.`
	descriptions := cmd.Flags().Lookup("no-descriptions")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := root.GenBashCompletionV2(to, descriptions == nil || descriptions.Value.String() != "true"); err != nil {
			return err
		}
		_, err := io.WriteString(to, bashHelpers)
		return err
	}
}

// completeArg offers what may stand at the next place of a usage line such as "DAG_ID [RUN_ID]".
func (c *command) completeArg(cmd *cobra.Command, words, given []string) ([]string, cobra.ShellCompDirective) {
	at := len(given)
	if last := len(words) - 1; at > last && strings.HasSuffix(words[last], "...") {
		at = last
	}
	if at >= len(words) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	word := strings.Trim(words[at], "[].")
	if strings.Contains(word, "FILE") {
		return c.offer(cmd, "DAG_ID", given), cobra.ShellCompDirectiveDefault
	}
	return c.offer(cmd, word, given), cobra.ShellCompDirectiveNoFileComp
}

// offer asks the server for the names that a word of a usage line stands for.
func (c *command) offer(cmd *cobra.Command, word string, given []string) []string {
	c.portGiven = cmd.Flags().Changed("port")
	cl, err := c.connect()
	if err != nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	found, err := namesFor(ctx, cl, word, cmd.Parent().Name(), given)
	if err != nil {
		return nil
	}
	return found
}

func namesFor(ctx context.Context, cl *client.Client, word, group string, given []string) ([]string, error) {
	switch {
	case word == "DAG_ID":
		all, err := cl.DAGs(ctx, nil)
		return names(all, func(d wire.DAG) string { return d.DAGID }), err
	case word == "TASK_ID" && len(given) > 0:
		all, err := cl.Tasks(ctx, given[0])
		return names(all, func(t wire.Task) string { return t.TaskID }), err
	case word == "RUN_ID" && len(given) > 0:
		page, err := cl.Runs(ctx, given[0], url.Values{"order_by": newest, "limit": {"100"}})
		return names(page.DagRuns, func(r wire.DAGRun) string { return r.DagRunID }), err
	case word == "KEY":
		all, err := cl.Variables(ctx)
		return names(all, func(v wire.Variable) string { return v.Key }), err
	case word == "CONN_ID":
		all, err := cl.Connections(ctx)
		return names(all, func(x wire.Connection) string { return x.ID }), err
	case word == "ASSET":
		all, err := cl.Assets(ctx, nil)
		return names(all, func(x wire.Asset) string { return x.Name }), err
	case word == "NAME" && group == "pools":
		all, err := cl.Pools(ctx)
		return names(all, func(p wire.Pool) string { return p.Name }), err
	}
	return nil, nil
}
