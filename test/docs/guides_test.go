package docs

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/device/smitest"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
	"ostro.dev/ostro/test/program"
)

func TestMain(m *testing.M) { os.Exit(pgserver.Main(m)) }

func TestTheGuidesDoWhatTheySay(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	guides, err := filepath.Glob(filepath.Join(root, "docs/guides/*.md"))
	if err != nil || len(guides) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	guides = append(guides, filepath.Join(root, "README.md"))
	environments := map[string]string{"venv": "test-newest", "client": "airflow-client"}
	for name, of := range environments {
		environments[name] = filepath.Join(root, ".venvs", of)
		if _, err := os.Stat(filepath.Join(environments[name], "bin/python")); err != nil {
			t.Skip("no Python environments here: scripts/test-envs makes them")
		}
	}
	bin := t.TempDir()
	program.Build(t, filepath.Join(bin, "ostro"))
	for _, guide := range guides {
		t.Run(filepath.Base(guide), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(guide)
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(t, bin, environments)
			if filepath.Base(guide) == "postgresql.md" {
				r.environ = append(r.environ, "OSTRO_DATABASE_URL="+pgserver.Database(t))
			}
			if filepath.Base(guide) == "gpus.md" { // a script answers for the GPUs of its machine
				for i, entry := range r.environ {
					if path, ok := strings.CutPrefix(entry, "PATH="); ok {
						r.environ[i] = "PATH=" + smitest.Make(t, 2).Dir() + string(os.PathListSeparator) + path
					}
				}
			}
			for _, b := range blocks(t, string(text)) {
				r.follow(b)
			}
		})
	}
}

// A block is a fenced part of a guide: the words after its fence, what it holds, and the text before it.
type block struct {
	line         int
	words        []string
	text, before string
}

func blocks(t *testing.T, text string) []block {
	t.Helper()
	var out []block
	var now *block
	before := ""
	number := 0
	for line := range strings.Lines(text) {
		number++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && now == nil:
			now = &block{line: number, words: strings.Fields(fence), before: before}
		case isFence:
			out = append(out, *now)
			now, before = nil, ""
		case now != nil:
			now.text += line
		default:
			before += line
		}
	}
	if now != nil {
		t.Fatalf("the block of line %d does not end", now.line)
	}
	return out
}

// A reader follows a guide in a home folder of its own.
type reader struct {
	t       *testing.T
	home    string
	environ []string
	out     string          // what the block before printed
	ended   []chan struct{} // closed when a server has ended
}

func newReader(t *testing.T, bin string, environments map[string]string) *reader {
	t.Helper()
	home := t.TempDir()
	for name, folder := range environments {
		if err := os.Symlink(folder, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	if err := os.Symlink(bin, filepath.Join(home, "bin")); err != nil { // where make build would write it
		t.Fatal(err)
	}
	path := strings.Join([]string{bin, filepath.Join(environments["venv"], "bin"), os.Getenv("PATH")}, string(os.PathListSeparator))
	environ := []string{"HOME=" + home, "OSTRO_HOME=" + filepath.Join(home, ".ostro"), fmt.Sprintf("OSTRO_PORT=%d", port),
		"PATH=" + path, "LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}
	return &reader{t: t, home: home, environ: environ}
}

func (r *reader) follow(b block) {
	r.t.Helper()
	switch what := strings.Join(b.words, " "); {
	case what == "sh":
		r.run(b)
	case what == "sh server":
		r.serve(b)
	case what == "sh network":
		if !strings.Contains(b.text, "~/venv") && !strings.Contains(b.text, "~/client") {
			r.t.Fatalf("line %d: a block that is not run makes neither ~/venv nor ~/client", b.line)
		}
	case what == "sh make":
		r.makes(b)
	case what == "text":
		r.compare(b)
	case len(b.words) == 2 && strings.HasPrefix(b.words[1], "file="):
		r.write(b, strings.TrimPrefix(b.words[1], "file="))
	default:
		r.t.Fatalf("line %d: nobody knows what to do with a block of %q", b.line, what)
	}
}

// shell is a bash that begins with what the blocks before have exported.
func (r *reader) shell(ctx context.Context, text string) *exec.Cmd {
	state := filepath.Join(r.home, ".exported")
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu -o pipefail\n[ ! -e "+state+" ] || . "+state+"\nset -a\n"+text+"\nexport -p > "+state)
	cmd.Dir, cmd.Env = r.home, r.environ
	return cmd
}

func (r *reader) run(b block) {
	r.t.Helper()
	out, err := r.shell(r.t.Context(), b.text).CombinedOutput()
	r.out = string(out)
	if err != nil {
		r.t.Fatalf("line %d: %v\n%s\nprinted:\n%s", b.line, err, b.text, out)
	}
}

// compare looks for the lines of a block among those printed.
func (r *reader) compare(b block) {
	r.t.Helper()
	for line := range strings.Lines(b.text) {
		want := strings.Join(strings.Fields(line), " ")
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$")
		if !slices.ContainsFunc(strings.Split(r.out, "\n"), func(printed string) bool {
			return pattern.MatchString(strings.Join(strings.Fields(printed), " "))
		}) {
			r.t.Fatalf("line %d: the block before does not print %q:\n%s", b.line, want, r.out)
		}
	}
}

// makes looks for targets in the Makefile; what they do takes too long here, and has tests of its own.
func (r *reader) makes(b block) {
	r.t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(b.text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "make" || !strings.Contains(string(makefile), "\n"+words[1]+":") {
			r.t.Errorf("line %d: %q is no target of the Makefile", b.line, line)
		}
	}
}

func (r *reader) write(b block, name string) {
	r.t.Helper()
	if !strings.Contains(b.before, "`"+name+"`") {
		r.t.Errorf("line %d: the text before the block does not name %s", b.line, name)
	}
	path := filepath.Join(r.home, strings.TrimPrefix(name, "~/"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.home, ".ostro/run/server.json")); err == nil && strings.HasPrefix(name, "~/.ostro/dags/") {
		r.parsed(b)
	}
}

// serve runs a block that goes on, until the guide ends or kills it.
func (r *reader) serve(b block) {
	r.t.Helper()
	replaces := strings.Contains(b.text, "--replace")
	if !replaces {
		r.allEnded(b)                                                  // the guide has stopped or killed it
		_ = os.Remove(filepath.Join(r.home, ".ostro/run/server.json")) // of a server that was killed
	}
	said, err := os.Create(filepath.Join(r.home, fmt.Sprintf("server-%d.log", b.line)))
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := r.shell(context.WithoutCancel(r.t.Context()), "exec "+strings.TrimSpace(b.text)) // the cleanup ends it
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	if replaces {
		r.allEnded(b)
	}
	ended := make(chan struct{})
	r.ended = append(r.ended, ended)
	go func() {
		err = cmd.Wait()
		close(ended)
	}()
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, or been killed by the guide
		<-ended
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if err != nil && status.Signal() != syscall.SIGKILL {
			r.t.Errorf("line %d: %s ended with %v", b.line, b.text, err)
		}
		if text, _ := os.ReadFile(said.Name()); r.t.Failed() {
			r.t.Logf("line %d: %s said:\n%s", b.line, b.text, text)
		}
		_ = said.Close()
	})
	r.parsed(b)
}

// allEnded waits for the end of the servers so far.
func (r *reader) allEnded(b block) {
	r.t.Helper()
	for _, ended := range r.ended {
		select {
		case <-ended:
		case <-time.After(60 * time.Second):
			r.t.Fatalf("line %d: the server before still runs", b.line)
		}
	}
}

// parsed waits until a server answers and has read the DAG files as they are now; a person takes longer to go on.
func (r *reader) parsed(b block) {
	r.t.Helper()
	script := `
ostro dags list --all -o json > listed.json && ostro dags errors -o json > errors.json || [ $? = 1 ]
~/venv/bin/python - <<'PY'
import datetime, json, os, sys
seen = {d["relative_fileloc"]: d["last_parsed_time"] for d in json.load(open("listed.json")) or ()}
seen.update({e["filename"]: e["timestamp"] for e in json.load(open("errors.json")) or ()})
folder = os.path.expanduser("~/.ostro/dags")
for name in os.listdir(folder) if os.path.isdir(folder) else []:
    path = os.path.join(folder, name)
    if name.endswith(".py") and "dag" in open(path).read().lower():
        when = datetime.datetime.fromisoformat(seen[name].replace("Z", "+00:00")).timestamp() if name in seen else 0
        if when < os.path.getmtime(path) - 0.001:
            sys.exit("%s has not been read yet" % name)
PY
rm listed.json errors.json`
	deadline := time.Now().Add(60 * time.Second)
	for {
		out, err := r.shell(r.t.Context(), script).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || r.t.Context().Err() != nil {
			r.t.Fatalf("line %d: the server has not read the DAG files:\n%s", b.line, out)
		}
	}
}
