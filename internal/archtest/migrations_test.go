package archtest

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryMigrationExistsForEachEngine wants the same migration files for SQLite and PostgreSQL, and no number twice.
func TestEveryMigrationExistsForEachEngine(t *testing.T) {
	files := func(engine string) (names []string) {
		found, err := filepath.Glob(filepath.Join(root(t), "internal", "store", engine, "migrations", "*", "*.sql"))
		if err != nil || len(found) == 0 {
			t.Fatal(engine, found, err)
		}
		for _, f := range found {
			names = append(names, filepath.Join(filepath.Base(filepath.Dir(f)), filepath.Base(f)))
		}
		return names
	}
	want, got := files("sqlite"), files("postgres")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("write each migration for both engines, in internal/store/{sqlite,postgres}/migrations (-SQLite +PostgreSQL):\n%s", d)
	}
	for i, name := range want[1:] {
		if filepath.Dir(name) == filepath.Dir(want[i]) && filepath.Base(name)[:5] == filepath.Base(want[i])[:5] {
			t.Errorf("%s and %s have one number", want[i], name)
		}
	}
}
