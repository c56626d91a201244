package store_test

import (
	"path/filepath"
	"testing"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// open opens a new database that is closed when the test ends.
func open(t testing.TB, change ...func(*store.Options)) *store.DB {
	t.Helper()
	o := store.Options{Path: filepath.Join(t.TempDir(), "control.db")}
	for _, f := range change {
		f(&o)
	}
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// postgres opens a new database on PostgreSQL that is closed when the test ends.
func postgres(t testing.TB, change ...func(*store.Options)) *store.DB {
	t.Helper()
	url, blobs := pgserver.Database(t), t.TempDir()
	return open(t, append([]func(*store.Options){func(o *store.Options) { o.URL, o.Path, o.BlobDir = url, "", blobs }}, change...)...)
}

type opener func(t testing.TB, change ...func(*store.Options)) *store.DB

// onEachEngine runs a test on SQLite and on PostgreSQL.
func onEachEngine(t *testing.T, test func(t *testing.T, open opener)) {
	t.Run("SQLite", func(t *testing.T) { test(t, open) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, postgres) })
}

func TestEveryEngineConformsToTheStore(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		storetest.Exercise(t, func(t *testing.T) *store.DB { return open(t) })
	})
}
