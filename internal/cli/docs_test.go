package cli

import (
	goflag "flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = goflag.Bool("update", false, "write docs/cli.md from the commands")

const cliPage = "../../docs/cli.md"

func TestThePageOfCommandsIsWhatTheCommandsSay(t *testing.T) {
	got := commandPage((&command{}).root())
	if *update {
		if err := os.WriteFile(cliPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/cli.md is not what the commands say; write it with: go test ./internal/cli -run PageOfCommands -update\n%s", diff)
	}
}

// commandPage describes every command in Markdown: a list to jump from, then a section for each.
func commandPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# The commands

<!-- Written by: go test ./internal/cli -run PageOfCommands -update -->

Every command also says this about itself: ` + "`ostro COMMAND --help`" + `. What commands end with is in
[exit codes](exit-codes.md).

| command | what it does |
| --- | --- |
`)
	leaves := runnable(root)
	for _, cmd := range leaves {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
	}
	b.WriteString("\n## Flags of every command\n\n")
	writeFlags(&b, root.PersistentFlags())
	for _, cmd := range leaves {
		fmt.Fprintf(&b, "\n## %s\n\n", cmd.CommandPath())
		text, usage := cmd.Short+".", cmd.UseLine()
		if cmd.Long != "" {
			text = cmd.Long
		}
		if cmd.Name() == "completion" {
			text = cmd.Short + ": " + strings.Join(subcommands(cmd), ", ") + ".\n`ostro completion SHELL --help` says how to load it."
			usage += " SHELL"
		}
		fmt.Fprintf(&b, "%s\n\n```\n%s\n```\n", text, usage)
		if cmd.LocalNonPersistentFlags().HasAvailableFlags() {
			b.WriteString("\n")
			writeFlags(&b, cmd.LocalNonPersistentFlags())
		}
		if cmd.Example != "" {
			b.WriteString("\nExamples:\n\n```\n")
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				b.WriteString(strings.TrimPrefix(line, "  ") + "\n")
			}
			b.WriteString("```\n")
		}
	}
	return b.String()
}

// runnable lists the commands that do something themselves, in the order of help; completion counts as one.
func runnable(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range cmd.Commands() {
		switch {
		case !sub.IsAvailableCommand():
		case sub.HasSubCommands() && sub.Name() != "completion":
			out = append(out, runnable(sub)...)
		default:
			out = append(out, sub)
		}
	}
	return out
}

func subcommands(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, "`"+sub.Name()+"`")
	}
	return names
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	b.WriteString("| flag | meaning |\n| --- | --- |\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, meaning := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind != "" {
			name += " " + kind
		}
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "-1" {
			meaning += "; default `" + d + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, strings.ReplaceAll(meaning, "|", "\\|"))
	})
}
