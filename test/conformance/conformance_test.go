package conformance

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ostro.dev/ostro/test/program"
)

var only = flag.String("only", "", "names of DAG files with commas between, instead of all")

func TestEveryDAGFileComesToTheSameEndAsOnAirflow(t *testing.T) {
	goldens := filesBelow(t, "golden", "*.json")
	names := filesBelow(t, "../../examples/conformance", "*.py")
	delete(names, "conformance_notes")
	if *only != "" {
		maps.DeleteFunc(names, func(name, _ string) bool { return !slices.Contains(strings.Split(*only, ","), name) })
	}
	known := knownDifferences(t)
	found, said := observe(t)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		t.Run(name, func(t *testing.T) {
			if goldens[name] == "" {
				t.Fatalf("no golden of %s: make conformance RENEW=1 asks Airflow and writes it", name)
			}
			path := filepath.Join(found, name+".json")
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("%s came to no end:\n%s", name, linesAbout(name, said))
			}
			want, got := document(t, goldens[name]), document(t, path)
			delete(want, "airflow")
			if diffs := known.without(differences(name, want, got)); len(diffs) > 0 {
				t.Errorf("%s\n%s", want["rule"], strings.Join(diffs, "\n"))
			}
		})
	}
	if *only == "" {
		known.mustBeUsed(t)
	}
}

// observe runs every DAG file on the real program and returns the folder of what came of them, and what went wrong.
func observe(t *testing.T) (folder, said string) {
	t.Helper()
	home := t.TempDir()
	binary, dags, notes := filepath.Join(home, "ostro"), filepath.Join(home, "dags"), filepath.Join(home, "notes")
	program.Build(t, binary)
	if err := os.CopyFS(dags, os.DirFS("../../examples/conformance")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(notes, 0o755); err != nil {
		t.Fatal(err)
	}
	url, token := program.Serve(t, binary, home, "CONFORMANCE_NOTES="+notes, "OSTRO_PYTHON="+python(t))
	folder = filepath.Join(home, "found")
	out, _ := exec.CommandContext(t.Context(), "python3", "-B", "observe.py", "--url", url, "--token", token,
		"--dags", dags, "--notes", notes, "--out", folder, "--only", *only).CombinedOutput()
	return folder, string(out) // a file that came to no end has no document
}

func filesBelow(t *testing.T, folder, pattern string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, path := range paths {
		found[strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))] = path
	}
	return found
}

func document(t *testing.T, path string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return d
}

func linesAbout(name, said string) string {
	about := slices.DeleteFunc(strings.Split(said, "\n"), func(line string) bool { return !strings.HasPrefix(line, name) })
	if len(about) == 0 {
		return said
	}
	return strings.Join(about, "\n")
}

// python is the interpreter the DAG files run on: the newest of the tests', which has Jinja2.
func python(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../.venvs/test-newest/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("no Python environment for tests here: scripts/test-envs makes it")
	}
	return path
}
