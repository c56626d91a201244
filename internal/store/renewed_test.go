package store_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/store"
)

func TestOnlyCommittedChangesOfVariablesAndConnectionsAreTold(t *testing.T) {
	var told []string
	db, err := store.Open(t.Context(), store.Options{
		Path:    filepath.Join(t.TempDir(), "control.db"),
		Renewed: func(what, name string) { told = append(told, what+" "+name) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	update := func(f func(*store.Tx) error) error { return db.Update(t.Context(), "test", time.Now(), f) }
	broken := errors.New("broken")
	for _, f := range []func(*store.Tx) error{
		func(tx *store.Tx) error { return tx.PutVariable(store.Variable{Key: "a", Value: "1"}) },
		func(tx *store.Tx) error {
			return errors.Join(tx.PutVariable(store.Variable{Key: "never", Value: "1"}), broken)
		},
		func(tx *store.Tx) error { return tx.PutConnection(store.Connection{ID: "c", Type: "http"}) },
		func(tx *store.Tx) error { return tx.PutPool(store.Pool{Name: "p", Slots: 1}) },
		func(tx *store.Tx) error { return errors.Join(tx.DeleteVariable("a"), tx.DeleteConnection("c")) },
		func(tx *store.Tx) error { return tx.DeleteVariable("none") },
	} {
		if err := update(f); err != nil && !errors.Is(err, broken) && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"variable a", "connection c", "variable a", "connection c"}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
