package store

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// TestBothEnginesHaveTheSameTables compares the columns that the migrations of SQLite and PostgreSQL have made, and which of
// them may be empty; and the indexes by name, which queries were written for.
func TestBothEnginesHaveTheSameTables(t *testing.T) {
	for _, s := range []schema{controlSchema, trackingSchema} {
		want := columns(t, Options{Path: filepath.Join(t.TempDir(), "a.db")}, s, `SELECT m.name || '.' || c.name,
			CASE WHEN c."notnull" = 1 OR c.pk > 0 THEN 'NOT NULL' ELSE '' END FROM sqlite_schema m
			JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'
			UNION ALL SELECT 'index ' || name, '' FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite_%'`)
		got := columns(t, Options{URL: pgserver.Database(t)}, s, `SELECT table_name || '.' || column_name,
			CASE is_nullable WHEN 'NO' THEN 'NOT NULL' ELSE '' END FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name <> 'leader'
			UNION ALL SELECT 'index ' || indexname, '' FROM pg_indexes WHERE schemaname = current_schema()
			AND indexname NOT LIKE '%\_pkey' AND indexname NOT LIKE '%\_key'`)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-SQLite +PostgreSQL):\n%s", s, d)
		}
	}
}

func columns(t *testing.T, o Options, s schema, text string) []string {
	t.Helper()
	eng, err := openEngine(t.Context(), o, s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := eng.Readers().QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	err = drain(rows, func(row scanner) error {
		var name, null string
		err := row.Scan(&name, &null)
		found[fmt.Sprint(name, " ", null)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(found, func(name string, _ bool) bool { return len(name) > 6 && name[:6] == "goose_" })
	return slices.Sorted(maps.Keys(found))
}
