package bundle_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/store"
)

func (w *world) warnings() map[string][]string {
	out := map[string][]string{}
	for _, one := range w.w.Warnings() {
		out[one.File+": "+one.Message] = one.DAGIDs
	}
	return out
}

func TestWarningsAreThoseOfTheFilesAsTheyAreNow(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a", "dag b", "warn old spelling")
	w.write("c.py", "dag c")
	w.refresh()
	if d := cmp.Diff(map[string][]string{"a.py: old spelling": {"a", "b"}}, w.warnings()); d != "" {
		t.Error(d)
	}
	since := w.w.Warnings()[0].At
	w.write("c.py", "dag c", "warn no effect")
	w.refresh()
	if d := cmp.Diff(map[string][]string{"a.py: old spelling": {"a", "b"}, "c.py: no effect": {"c"}}, w.warnings()); d != "" {
		t.Error(d)
	}
	if !w.w.Warnings()[0].At.Equal(since) {
		t.Error("a warning that was there before has a new time")
	}
	w.write("a.py", "dag a")
	w.refresh()
	if d := cmp.Diff(map[string][]string{"c.py: no effect": {"c"}}, w.warnings()); d != "" {
		t.Error(d)
	}
	w.restart()
	w.refresh()
	if len(w.w.Warnings()) != 1 {
		t.Errorf("after a restart: %v", w.w.Warnings())
	}
}

func TestADeletedDAGWhoseFileIsThereComesBack(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a")
	w.refresh()
	if err := w.db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error { return tx.DeleteDAG("a") }); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if len(w.dags()) != 0 {
		t.Fatal("it came back without being asked to")
	}
	w.w.Republish()
	if parsed := w.refresh(); len(parsed) != 0 {
		t.Errorf("parsed anew: %v", parsed)
	}
	if len(w.dags()) != 1 {
		t.Error("it did not come back")
	}
}
