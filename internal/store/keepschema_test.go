package store_test

import (
	"errors"
	"path/filepath"
	"testing"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

func TestADatabaseThatIsToBeLeftAsItIsIsNotMigrated(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]store.Options{
		"SQLite":     {Path: filepath.Join(dir, "control.db")},
		"PostgreSQL": {URL: pgserver.Database(t), BlobDir: dir},
	} {
		o.KeepSchema = true
		if _, err := store.Open(t.Context(), o); !errors.Is(err, store.ErrOlder) {
			t.Errorf("%s, without a schema: %v", name, err)
		}
		o.KeepSchema = false
		from, _, err := store.Migrate(t.Context(), o)
		if err != nil || from != 0 {
			t.Errorf("%s: it had schema %d already, %v", name, from, err)
		}
		o.KeepSchema = true
		db, err := store.Open(t.Context(), o)
		if err != nil {
			t.Fatalf("%s, with the newest schema: %v", name, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
