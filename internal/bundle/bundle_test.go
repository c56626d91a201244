package bundle_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// parser reads test files line by line instead of running Python: "dag NAME", "import FILE", "error TEXT",
// "killed TEXT", "variable KEY", "connection ID", "warn TEXT", "hang", "hangswith FILE", "refuse".
type parser struct {
	mu     sync.Mutex
	parsed []string
	hang   chan struct{}
}

func (p *parser) Parse(_ context.Context, r workerapi.Parse) (*workerapi.Parsed, error) {
	file := r.Describe.File
	p.mu.Lock()
	p.parsed = append(p.parsed, file)
	p.mu.Unlock()
	b, err := os.ReadFile(filepath.Join(r.Describe.BundlePath, file))
	if err != nil {
		return nil, err
	}
	out := &workerapi.Parsed{Described: protocol.Described{Modules: []string{file}}}
	d := &out.Described
	for line := range strings.Lines(string(b)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "# ")), " ")
		switch word {
		case "dag":
			d.DAGs = append(d.DAGs, dag.DAG{
				ID: rest, Schedule: dag.Schedule{Kind: dag.ScheduleNone}, Tasks: []dag.Task{{ID: "t", Operator: "EmptyOperator"}},
			})
		case "import":
			d.Modules = append(d.Modules, rest)
		case "error", "killed":
			out.Again = word == "killed"
			d.DAGs = nil
			d.Errors = append(d.Errors, protocol.ImportError{File: file, Message: rest})
		case "variable":
			d.Variables = append(d.Variables, rest)
		case "connection":
			d.Connections = append(d.Connections, rest)
		case "warn":
			d.Warnings = append(d.Warnings, rest)
		case "hang":
			<-p.hang
		case "hangswith": // as long as the other file says so
			other, err := os.ReadFile(filepath.Join(r.Describe.BundlePath, rest))
			if err == nil && strings.Contains(string(other), "hangs") {
				<-p.hang
			}
		case "refuse":
			return nil, errors.New("no worker")
		}
	}
	return out, nil
}

// since returns what was parsed since the last call.
func (p *parser) since() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.parsed
	p.parsed = nil
	slices.Sort(out)
	return out
}

type world struct {
	t      *testing.T
	dir    string
	snaps  string
	db     *store.DB
	parser *parser
	w      *bundle.Watcher
}

func newWorld(t *testing.T) *world {
	t.Helper()
	home := t.TempDir()
	w := &world{t: t, dir: filepath.Join(home, "dags"), snaps: filepath.Join(home, "bundles"), parser: &parser{}}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(home, "control.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	w.restart()
	return w
}

func (w *world) restart() {
	w.t.Helper()
	b, err := bundle.New(bundle.Config{Dir: w.dir, Snapshots: w.snaps, Home: filepath.Dir(w.snaps), Keep: 1}, w.db, w.parser, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.w = b
}

// write writes a file whose text passes for a DAG file.
func (w *world) write(name string, lines ...string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	text := "# airflow dag\n"
	for _, l := range lines {
		text += "# " + l + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) refresh() []string {
	w.t.Helper()
	if err := w.w.Refresh(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.parser.since()
}

// dags maps every DAG that is there to its bundle version.
func (w *world) dags() map[string]string {
	w.t.Helper()
	infos, _, err := w.db.DAGs(w.t.Context(), store.DAGFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for _, i := range infos {
		if !i.Removed {
			out[i.DAG.ID] = i.BundleVersion
		}
	}
	return out
}

func (w *world) names() []string {
	var out []string
	for id := range w.dags() {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func (w *world) errors() map[string][]string {
	w.t.Helper()
	errs, err := w.db.ImportErrors(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string][]string{}
	for _, e := range errs {
		out[e.File] = append(out[e.File], e.Message)
	}
	return out
}

func TestOnlyFilesTouchedByAChangeAreParsed(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a", "import lib/helper.py")
	w.write("b.py", "dag b")
	w.write("lib/helper.py", "x")
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"first", func() {}, []string{"a.py", "b.py", "lib/helper.py"}},
		{"nothing changed", func() {}, nil},
		{"one file", func() { w.write("b.py", "dag b", "more") }, []string{"b.py"}},
		{"a module", func() { w.write("lib/helper.py", "y") }, []string{"a.py", "lib/helper.py"}},
		{"a new file", func() { w.write("c.py", "dag c") }, []string{"c.py"}},
		{"data that any file may read", func() { w.write("conf.yaml", "z") }, []string{"a.py", "b.py", "c.py", "lib/helper.py"}},
		{"touched, with the same content", func() { w.write("c.py", "dag c") }, nil},
	} {
		step.do()
		if diff := cmp.Diff(step.want, w.refresh()); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, w.names()); diff != "" {
		t.Error(diff)
	}
}

func TestABrokenFileKeepsItsLastGoodVersion(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a")
	w.write("b.py", "dag b")
	w.refresh()
	good := w.dags()["a"]
	w.write("a.py", "dag a", "error SyntaxError: invalid syntax")
	w.refresh()
	now := w.dags()
	if now["a"] != good || now["b"] == good {
		t.Errorf("a is on %s (want %s), b on %s (want a newer one)", now["a"], good, now["b"])
	}
	if diff := cmp.Diff(map[string][]string{"a.py": {"SyntaxError: invalid syntax"}}, w.errors()); diff != "" {
		t.Error(diff)
	}
	w.restart() // a new server finds it broken and keeps it too
	w.refresh()
	if w.dags()["a"] != good {
		t.Error("a lost its last good version at a restart")
	}
	w.write("a.py", "dag a", "repaired")
	w.refresh()
	if w.dags()["a"] == good || len(w.errors()) != 0 {
		t.Errorf("after the repair: %v %v", w.dags(), w.errors())
	}
}

func TestADAGDeclaredInTwoFilesIsAnErrorThatNamesBoth(t *testing.T) {
	w := newWorld(t)
	w.write("z.py", "dag same")
	w.refresh()
	w.write("a.py", "dag same", "dag other")
	w.refresh()
	errs := w.errors()["a.py"]
	if len(errs) != 1 || !strings.Contains(errs[0], "z.py") || !strings.Contains(errs[0], "a.py") || !strings.Contains(errs[0], `"same"`) {
		t.Errorf("errors: %v", w.errors())
	}
	if i, err := w.db.DAG(t.Context(), "same"); err != nil || i.DAG.File != "z.py" {
		t.Errorf("the first file does not keep it: %v %v", i.DAG.File, err)
	}
	if err := os.Remove(filepath.Join(w.dir, "z.py")); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if i, err := w.db.DAG(t.Context(), "same"); err != nil || i.DAG.File != "a.py" || len(w.errors()) != 0 {
		t.Errorf("the other file does not get it: %v %v %v", i.DAG.File, err, w.errors())
	}
}

func TestAVanishedFilesDAGsAreRemovedAndAVanishedFolderChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a")
	w.write("b.py", "dag b1", "dag b2")
	w.refresh()
	w.write("b.py", "dag b2")
	w.refresh()
	if diff := cmp.Diff([]string{"a", "b2"}, w.names()); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(filepath.Join(w.dir, "a.py")); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if diff := cmp.Diff([]string{"b2"}, w.names()); diff != "" {
		t.Error(diff)
	}
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := w.w.Refresh(t.Context()); err == nil {
		t.Error("a folder that is not there is no error")
	}
	if diff := cmp.Diff([]string{"b2"}, w.names()); diff != "" {
		t.Error(diff)
	}
}

func TestAFileTheParserCannotAnswerForDoesNotKeepOthersBack(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag a")
	w.write("b.py", "refuse")
	if err := w.w.Refresh(t.Context()); err == nil {
		t.Error("the refusal is not reported")
	}
	if diff := cmp.Diff([]string{"a"}, w.names()); diff != "" {
		t.Error(diff)
	}
	w.parser.since()
	w.write("b.py", "dag b")
	if diff := cmp.Diff([]string{"b.py"}, w.refresh()); diff != "" {
		t.Error(diff)
	}
}

func TestADAGThatCannotBeScheduledIsAnImportError(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "dag bad id with spaces", "dag good")
	w.refresh()
	if len(w.errors()["a.py"]) != 1 || !slices.Equal(w.names(), []string{"good"}) {
		t.Errorf("errors %v, DAGs %v", w.errors(), w.names())
	}
}

func TestFilesThatAreIgnored(t *testing.T) {
	w := newWorld(t)
	w.write(".airflowignore", "skipped_*.py")
	w.write("a.py", "dag a")
	w.write("skipped_x.py", "dag x")
	w.write("sub/skipped_y.py", "dag y")
	w.write("sub/.hidden/z.py", "dag z")
	w.write("venv/pyvenv.cfg")
	w.write("venv/lib/v.py", "dag v")
	if err := os.WriteFile(filepath.Join(w.dir, "plain.py"), []byte("print('nothing of interest')"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, ".airflowignore"), []byte("# comment\nskipped_*.py\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.py"}, w.refresh()); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(bundle.SnapshotPath(w.snaps, w.dags()["a"]), "skipped_x.py")); err != nil {
		t.Errorf("an ignored file is missing from the snapshot, where others may import it: %v", err)
	}
}

func TestSnapshotsAreReusedAndOldOnesCollected(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.write("a.py", "dag a", strings.Repeat("x", i))
		w.refresh()
		old := time.Now().Add(-time.Duration(10-i) * time.Hour)
		if err := os.Chtimes(bundle.SnapshotPath(w.snaps, w.dags()["a"]), old, old); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(w.snaps)
	if err != nil || len(entries) > 3 {
		t.Errorf("%d snapshots are left: %v", len(entries), err)
	}
	w.write("a.py", "dag a", "xxx")
	w.refresh()
	if got := w.dags()["a"]; got == "" {
		t.Error("no DAG")
	}
}

func TestRunSeesAChangeAtOnce(t *testing.T) {
	w := newWorld(t)
	changed := make(chan struct{}, 10)
	b, err := bundle.New(bundle.Config{Dir: w.dir, Snapshots: w.snaps, Rescan: time.Hour}, w.db, w.parser,
		func() { changed <- struct{}{} }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	next := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("no publication after %s", what)
		}
	}
	next("the start")
	w.write("a.py", "dag a")
	next("a new file")
	w.write("deep/er/b.py", "dag b")
	for !slices.Equal(w.names(), []string{"a", "b"}) {
		next("a file in a new folder")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFileThatHangsDoesNotKeepOthersFromBeingPublished(t *testing.T) {
	w := newWorld(t)
	w.parser.hang = make(chan struct{})
	for _, name := range []string{"a.py", "b.py", "c.py"} {
		w.write(name, "hang", "dag "+name[:1])
	}
	w.write("z.py", "dag z")
	done := make(chan error, 1)
	go func() { done <- w.w.Refresh(t.Context()) }()
	deadline := time.After(20 * time.Second)
	for changed := w.db.Changed(); !slices.Equal(w.names(), []string{"z"}); changed = w.db.Changed() {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("z is not published")
		}
	}
	close(w.parser.hang)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "z"}, w.names()); diff != "" {
		t.Error(diff)
	}
}

func TestAFileWhoseParsingProcessIsKilledIsParsedAgainAFewTimes(t *testing.T) {
	w := newWorld(t)
	w.write("a.py", "killed the process that imported a.py was ended by SIGKILL")
	for i, want := range [][]string{{"a.py"}, {"a.py"}, {"a.py"}, nil} {
		if diff := cmp.Diff(want, w.refresh()); diff != "" {
			t.Errorf("refresh %d: %s", i+1, diff)
		}
	}
}

func TestAChangedVariableOrConnectionHasTheFilesParsedThatReadIt(t *testing.T) {
	w := newWorld(t)
	w.write("v.py", "dag v", "variable env")
	w.write("c.py", "dag c", "connection env", "variable other")
	w.write("bad.py", "variable missing", "error Variable missing does not exist")
	w.write("plain.py", "dag plain")
	w.refresh()
	for _, c := range []struct {
		what, name string
		want       []string
	}{
		{"variable", "env", []string{"v.py"}},
		{"connection", "env", []string{"c.py"}},
		{"variable", "missing", []string{"bad.py"}},
		{"variable", "unread", nil},
	} {
		w.w.Renewed(c.what, c.name)
		if diff := cmp.Diff(c.want, w.refresh()); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.what, c.name, diff)
		}
		if again := w.refresh(); len(again) > 0 {
			t.Errorf("%s %s: parsed twice: %q", c.what, c.name, again)
		}
	}
}

func TestAVariableThatChangesWhileAFileIsParsedHasItParsedAgain(t *testing.T) {
	w := newWorld(t)
	w.parser.hang = make(chan struct{})
	w.write("v.py", "dag v", "variable env", "hang")
	done := make(chan error)
	go func() { done <- w.w.Refresh(t.Context()) }()
	for len(w.parser.since()) == 0 {
		runtime.Gosched()
	}
	w.w.Renewed("variable", "env")
	close(w.parser.hang)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"v.py"}, w.refresh()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARunningWatcherParsesAFileAgainWhoseVariableChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.parser.hang = make(chan struct{})
	w.write("v.py", "dag v", "variable env", "hang")
	w.write("a.py", "dag a")
	stop := w.run()
	w.until("a")
	w.parser.since()
	before := w.dags()["a"]
	w.w.Renewed("variable", "env")
	w.write("a.py", "dag a", "more") // what is looked at for it has been looked at for the variable, too
	w.poll("a on another version", func() bool { return w.dags()["a"] != before })
	close(w.parser.hang)
	w.poll("v is parsed once more", func() bool { return slices.Contains(w.parser.since(), "v.py") })
	w.until("a", "v")
	stop()
}

func TestARunningWatcherIsWokenByAChangedVariable(t *testing.T) {
	w := newWorld(t)
	w.write("v.py", "dag v", "variable env")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.w.Run(ctx) }()
	<-w.w.Ready()
	w.parser.since()
	w.w.Renewed("variable", "env")
	for deadline := time.Now().Add(10 * time.Second); len(w.parser.since()) == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the file is not parsed again")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
