package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/test/program"
)

// TestAirflowsOwnExampleDAGsParse reads the example DAGs where pip has put them: examples.txt has a line for each file,
// with the DAGs it declares.
func TestAirflowsOwnExampleDAGsParse(t *testing.T) {
	airflow, err := filepath.Abs("../../.venvs/airflow")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(airflow); err != nil {
		t.Skip("no genuine Airflow here: make conformance makes its environment")
	}
	want, err := os.ReadFile("examples.txt")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "ostro")
	program.Build(t, binary)
	out, err := exec.CommandContext(t.Context(), "python3", "-B", "airflow_examples.py", "--airflow", airflow, "--ostro", binary).Output()
	if err != nil {
		t.Fatalf("airflow_examples.py: %v", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(out), "\n")); diff != "" {
		t.Errorf("(-examples.txt +now)\n%s", diff)
	}
}
