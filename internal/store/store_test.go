package store_test

import (
	"path/filepath"
	"testing"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
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

func TestSQLiteConformsToTheStore(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T) *store.DB { return open(t) })
}
