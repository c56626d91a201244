package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/config.md from the keys and the example file")

const configPage = "../../docs/config.md"

func TestThePageOfSettingsIsWhatTheKeysAndTheExampleSay(t *testing.T) {
	got := settingsPage(t)
	if *update {
		if err := os.WriteFile(configPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/config.md is not what the settings are; write it with: go test ./internal/config -run PageOfSettings -update\n%s", diff)
	}
}

// settingsPage describes every key in Markdown: its default, its variable, and what the example file says about it.
func settingsPage(t *testing.T) string {
	meaning := exampleComments()
	var b strings.Builder
	b.WriteString("# Settings\n\n<!-- Written by: go test ./internal/config -run PageOfSettings -update -->\n\n" + `Settings are kept in ` + "`HOME/ostro.yaml`" + `, where HOME is the home folder: ` + "`--home`" + `, else ` + "`OSTRO_HOME`" + `, else ` + "`~/.ostro`" + `. Another file
is named with ` + "`--config`" + ` or ` + "`OSTRO_CONFIG`" + `. The file need not exist, and what you leave out keeps its default. A key that does not exist
is an error with the line and the nearest key that does.

An environment variable overrides the file, and a flag of the command line overrides both. Text stays as it is in a variable; other
values are written as in YAML, on one line: ` + "`OSTRO_TASKS_ENV='{LANG: C}'`" + `. Relative paths in the file start at the file's folder.
A variable ` + "`OSTRO_…`" + ` that does not exist is an error, too, where it looks like one that does (` + "`OSTRO_PARALELLISM`" + `); ` + "`ostro standalone`" + `
warns of any other, which may be somebody else's. Variables and Connections are given as ` + "`AIRFLOW_VAR_…`" + ` and ` + "`AIRFLOW_CONN_…`" + `.

` + "`ostro standalone`" + ` does not start when the Python, the DAG folder or an image's ` + "`dir`" + ` or ` + "`python`" + ` is not there; only ` + "`HOME/dags`" + ` is
made. The exit code is 2.

` + "`ostro config show`" + ` prints what is in force and where each value came from. A file with every key to start from is
[example.yaml](../internal/config/example.yaml).
`)
	section := "-"
	for _, f := range fields() {
		head, _, nested := strings.Cut(f.key, ".")
		if !nested {
			head = ""
		}
		if head != section {
			title := "`" + head + ":`"
			switch {
			case head == "" && section == "-":
				title = "General"
			case head == "":
				title = "Pods"
			}
			section = head
			fmt.Fprintf(&b, "\n## %s\n\n| key | default | variable | meaning |\n| --- | --- | --- | --- |\n", title)
		}
		text := meaning[f.key]
		if text == "" {
			t.Errorf("the example file says nothing about %s", f.key)
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", f.key, defaultOf(t, f.key), EnvName(f.key), strings.ReplaceAll(text, "|", "\\|"))
	}
	return b.String()
}

// defaultOf is what the example file gives for a key; where the example shows something else, and for a value that
// depends on the machine or on another setting, it is said in words.
func defaultOf(t *testing.T, key string) string {
	switch key {
	case "dags":
		return "`HOME/dags`"
	case "base_url":
		return "`http://HOST:PORT`"
	case "python":
		return "found"
	case "pods", "images", "tasks.retry_delay_override":
		return "none"
	case "scheduler.catchup_by_default":
		return "by `compat`"
	case "s3.dev":
		return "found"
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(Example), &doc); err != nil {
		t.Fatal(err)
	}
	at := doc.Content[0]
	for part := range strings.SplitSeq(key, ".") {
		at = child(at, part)
		if at == nil {
			t.Fatalf("the example file lacks %s", key)
		}
	}
	switch {
	case at.Kind == yaml.MappingNode, at.Value == "":
		return "none"
	default:
		return "`" + at.Value + "`"
	}
}

func child(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// exampleComments reads the example file as people do: a comment belongs to the keys below it, up to the next comment or
// empty line. A key that is commented out counts as a key.
func exampleComments() map[string]string {
	known := map[string]bool{}
	for _, key := range Keys() {
		known[key] = true
	}
	out := map[string]string{}
	section, comment, open := "", "", false // open: the line before was a comment too
	for line := range strings.Lines(Example) {
		words, commented := strings.CutPrefix(strings.TrimSpace(line), "# ")
		name, value, isKey := strings.Cut(words, ":")
		key := name
		if strings.HasPrefix(line, "  ") && section != "" {
			key = section + "." + name
		}
		switch {
		case words == "":
			comment, open = "", false
		case commented && (!known[key] || value == ""):
			if !open {
				comment = ""
			}
			comment, open = strings.TrimSpace(comment+" "+words), true
		case isKey && known[key]:
			out[key], open = comment, false
		}
		if !commented && isKey && !strings.HasPrefix(line, "  ") {
			section = name
		}
	}
	return out
}
