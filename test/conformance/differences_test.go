package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// known is where Ostro differs from Airflow on purpose, by the beginning of what differences says of it.
type known map[string]bool

// knownDifferences reads differences.txt. Each of its lines ends in the name of a row of docs/semantics.md, which says why.
func knownDifferences(t *testing.T) known {
	t.Helper()
	text, err := os.ReadFile("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/semantics.md")
	if err != nil {
		t.Fatal(err)
	}
	k := known{}
	for line := range strings.Lines(string(text)) {
		line, row, ok := strings.Cut(strings.TrimSpace(line), " # ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case !ok || !strings.Contains(string(doc), "| "+row+" |"):
			t.Errorf("differences.txt: %q: docs/semantics.md has no row %q", line, row)
		}
		k[line] = false
	}
	return k
}

// without leaves out the differences that are known, and remembers which are.
func (k known) without(found []string) []string {
	return slices.DeleteFunc(found, func(one string) bool {
		at, _, _ := strings.Cut(one, ": ")
		for prefix := range k {
			if at == prefix || strings.HasPrefix(at, prefix+"/") || strings.HasPrefix(at, prefix+"[") {
				k[prefix] = true
				return true
			}
		}
		return false
	})
}

// mustBeUsed fails for differences that are listed and are none any more.
func (k known) mustBeUsed(t *testing.T) {
	t.Helper()
	for at, used := range k {
		if !used {
			t.Errorf("differences.txt lists %s, where Ostro does as Airflow does: take it off", at)
		}
	}
}

// differences says in one line each where two JSON values differ.
func differences(at string, airflow, ours any) []string {
	a, aIs := airflow.(map[string]any)
	b, bIs := ours.(map[string]any)
	if !aIs || !bIs {
		if la, lb := list(airflow), list(ours); la != nil && len(la) == len(lb) {
			var found []string
			for i := range la {
				found = append(found, differences(fmt.Sprintf("%s[%d]", at, i), la[i], lb[i])...)
			}
			return found
		}
		if cmp.Equal(airflow, ours) {
			return nil
		}
		return []string{fmt.Sprintf("%s: Airflow %s, Ostro %s", at, shown(airflow), shown(ours))}
	}
	var found []string
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !returnsBesideSkips(key, a, b) {
			found = append(found, differences(at+"/"+key, a[key], b[key])...)
		}
	}
	return found
}

// returnsBesideSkips tells apart the one thing that differs everywhere: Airflow 3 forgets what a task returned when it
// skipped tasks below it. docs/semantics.md says why we do not.
func returnsBesideSkips(key string, airflow, ours map[string]any) bool {
	_, theirs := airflow[key]
	return key == "return_value" && !theirs && ours["skipmixin_key"] != nil
}

func list(v any) []any { l, _ := v.([]any); return l }

func shown(v any) string {
	if v == nil {
		return "nothing"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
