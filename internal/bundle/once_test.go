package bundle_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestABrokenFileIsParsedOncePerContent(t *testing.T) {
	w := newWorld(t)
	w.write("bad.py", "error SyntaxError: invalid syntax")
	w.write("needs.py", "import late.py", "from teams.one import tools", "error ModuleNotFoundError: No module named 'late'")
	w.write("dynamic.py", "importlib", "plugged", "error no such plug-in")
	w.write("invalid.py", "dag not an id")
	w.write("good.py", "dag good")
	w.refresh()
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"another file", func() { w.write("good.py", "dag good", "more") }, []string{"good.py"}},
		{"a new file that nobody imports", func() { w.write("other.py", "dag other") }, []string{"other.py"}},
		{"the missing module", func() { w.write("late.py", "x") }, []string{"late.py", "needs.py"}},
		{"what that module imports", func() { w.write("late.py", "import deep.py") }, []string{"late.py", "needs.py"}},
		{"a module of a module", func() { w.write("deep.py", "x") }, []string{"deep.py", "needs.py"}},
		{"a module of a folder", func() { w.write("teams/one/tools.py", "x") }, []string{"needs.py", "teams/one/tools.py"}},
		{"a module of the same name in another folder", func() { w.write("teams/two/tools.py", "x") }, []string{"teams/two/tools.py"}},
		{"a module named in another way", func() { w.write("plugged.py", "x") }, []string{"dynamic.py", "plugged.py"}},
		{"touched", func() { w.touch("bad.py") }, []string{"bad.py"}},
		{"a good file touched", func() { w.touch("good.py") }, nil},
		{"its own content", func() { w.write("bad.py", "dag mended") }, []string{"bad.py"}},
		{"nothing", func() {}, nil},
	} {
		step.do()
		if diff := cmp.Diff(step.want, w.refresh()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestAHangingFileHoldsUpNoChangeOfAnother(t *testing.T) {
	w := newWorld(t)
	w.parser.hang = make(chan struct{})
	w.write("hangs.py", "import helper.py", "hang", "dag late")
	w.write("a.py", "dag a")
	stop := w.run()
	w.until("a")
	w.write("b.py", "dag b")
	w.until("a", "b")
	w.write("a.py", "dag a2")
	w.until("a2", "b")
	if err := os.Remove(filepath.Join(w.dir, "b.py")); err != nil {
		t.Fatal(err)
	}
	w.until("a2")
	if diff := cmp.Diff([]string{"a.py", "a.py", "b.py", "hangs.py"}, w.parser.since()); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	close(w.parser.hang)
	w.until("a2", "late")
	stop()
	if diff := cmp.Diff([]string(nil), w.parser.since()); diff != "" {
		t.Errorf("parsed in the end (-want +got):\n%s", diff)
	}
}

func TestAFileMendedWhileItHangsIsPublishedAtOnceAndTheOldImportCountsNoMore(t *testing.T) {
	for name, mend := range map[string]func(*world){
		"the file":    func(w *world) { w.write("x.py", "dag new") },
		"its helper":  func(w *world) { w.write("helper.py", "mended") },
		"its removal": func(w *world) { _ = os.Remove(filepath.Join(w.dir, "x.py")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.parser.hang = make(chan struct{})
			w.write("helper.py", "hangs")
			w.write("x.py", "import helper.py", "dag new", "hangswith helper.py")
			w.write("a.py", "dag a")
			stop := w.run()
			w.until("a")
			mend(w)
			want := []string{"a", "new"}
			if name == "its removal" {
				want = want[:1]
			}
			w.write("a.py", "dag a", "more")
			w.until(want...)
			close(w.parser.hang)
			stop()
			if diff := cmp.Diff(want, w.names()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnOutcomeWhoseModulesChangedMeanwhileIsNotPublished(t *testing.T) {
	w := newWorld(t)
	w.parser.hang = make(chan struct{})
	w.write("x.py", "dag x", "data conf", "hang")
	w.write("a.py", "dag a")
	stop := w.run()
	w.until("a")
	before := w.dags()["a"]
	w.write("conf.yaml", "changed while x was parsed")
	w.poll("a on another version", func() bool { return w.dags()["a"] != before })
	close(w.parser.hang)
	w.until("a", "x")
	stop()
	if now := w.dags(); now["x"] != now["a"] {
		t.Errorf("x is on %s, a on %s", now["x"], now["a"])
	}
	if n := len(slices.DeleteFunc(w.parser.since(), func(f string) bool { return f != "x.py" })); n != 2 {
		t.Errorf("x was parsed %d times, want 2", n)
	}
}

// touch gives a file another time.
func (w *world) touch(name string) {
	w.t.Helper()
	at := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(w.dir, name), at, at); err != nil {
		w.t.Fatal(err)
	}
}

// run runs the watcher until the returned function is called.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.w.Run(ctx) }()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// until waits for exactly these DAGs to be published.
func (w *world) until(want ...string) {
	w.t.Helper()
	w.poll(strings.Join(want, ", "), func() bool { return slices.Equal(w.names(), want) })
}

// poll waits until what the store holds is as it should be.
func (w *world) poll(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for changed := w.db.Changed(); !holds(); changed = w.db.Changed() {
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("published are %v, want %s", w.names(), what)
		}
	}
}
