package python

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTheRuntimeIsLaidOutOnceWhoeverAsks(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	paths := make([]string, 8)
	for i := range paths {
		wg.Go(func() {
			p, err := Extract(dir)
			if err != nil {
				t.Error(err)
			}
			paths[i] = p
		})
	}
	wg.Wait()
	for _, p := range paths {
		if p != paths[0] {
			t.Errorf("two places: %s and %s", p, paths[0])
		}
	}
	for _, name := range []string{"ostro/host.py", "airflow/__init__.py"} {
		if _, err := os.Stat(filepath.Join(paths[0], name)); err != nil {
			t.Error(err)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d entries in the folder, want only the runtime", len(entries))
	}
}

func TestNoTestsAndNoCompiledFilesAreCarried(t *testing.T) {
	names, _, err := contents()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.Contains(n, "__pycache__") || strings.HasSuffix(n, ".pyc") || strings.Contains(n, "/tests/") {
			t.Errorf("%s is carried", n)
		}
	}
}
