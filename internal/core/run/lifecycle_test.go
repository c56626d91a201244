package run

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the diagrams in docs/run-lifecycle.md from the tables")

const lifecycleDoc = "../../../docs/run-lifecycle.md"

// TestTheDocumentedDiagramsAreTheTables compares docs/run-lifecycle.md with the transition tables.
func TestTheDocumentedDiagramsAreTheTables(t *testing.T) {
	raw, err := os.ReadFile(lifecycleDoc)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	fresh := doc
	for name, diagram := range map[string]string{
		"runs":  Mermaid(RunTransitions, RunQueued, State.IsFinished),
		"tasks": Mermaid(TaskTransitions, None, TaskState.IsFinished),
	} {
		fresh = replaceBetween(t, fresh, "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->", "```mermaid\n"+diagram+"```\n")
	}
	if *update {
		if err := os.WriteFile(lifecycleDoc, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(doc, fresh); d != "" {
		t.Errorf("docs/run-lifecycle.md is not what the tables say; run go test ./internal/core/run -update\n%s", d)
	}
}

func replaceBetween(t *testing.T, doc, begin, end, with string) string {
	t.Helper()
	head, rest, found := strings.Cut(doc, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("the document lacks %q or %q", begin, end)
	}
	return head + begin + with + end + tail
}
