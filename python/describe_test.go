package python

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"ostro.dev/ostro/internal/core/dag"
)

// What the Python side describes is exactly what the Go side reads: no field unknown, and every DAG valid.
func TestDescriptionsOfThePythonSideAreValidDAGs(t *testing.T) {
	files, err := filepath.Glob("tests/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("find golden descriptions: %v, %d files", err, len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.DisallowUnknownFields()
			var d dag.DAG
			if err := decoder.Decode(&d); err != nil {
				t.Fatalf("decode: %v", err)
			}
			if err := dag.Validate(&d); err != nil {
				t.Fatalf("validate: %v", err)
			}
		})
	}
}
