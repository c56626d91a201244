package bundle_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestALinkIntoTheHomeIsNotFollowed(t *testing.T) {
	w := newWorld(t)
	home := filepath.Dir(w.dir)
	w.write("a.py", "dag a")
	w.write("../bundles/old/b.py", "dag b")
	w.write("../runtime/r/c.py", "dag c")
	w.write("../notes/d.py", "dag d")
	w.write("../../elsewhere/e.py", "dag e")
	w.write("../../f.py", "dag f")
	for name, to := range map[string]string{
		"loop": home, "snaps": filepath.Join(home, "bundles"), "above": filepath.Dir(home), "one.py": filepath.Join(home, "notes", "d.py"),
		"good": filepath.Join(filepath.Dir(home), "elsewhere"), "gone.py": filepath.Join(home, "nothing.py"),
	} {
		if err := os.Symlink(to, filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		w.refresh()
		if diff := cmp.Diff([]string{"a", "e"}, w.names()); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(map[string][]string{}, w.errors()); diff != "" {
		t.Error(diff)
	}
}

func TestADAGFolderThatIsTheHomeLeavesTheHomesOwnFoldersOut(t *testing.T) {
	w := newWorld(t)
	w.dir = filepath.Dir(w.snaps)
	w.write("a.py", "dag a")
	w.write("dags/b.py", "dag b")
	w.write("runtime/r/c.py", "dag c")
	w.restart()
	for range 2 {
		w.refresh()
		if diff := cmp.Diff([]string{"a", "b"}, w.names()); diff != "" {
			t.Error(diff)
		}
	}
}
