package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

func (f *fixture) parse(file string, change ...func(*workerapi.Parse)) *workerapi.Parsed {
	f.t.Helper()
	r := workerapi.Parse{Version: "v1", Describe: protocol.Describe{BundleName: "b", BundlePath: f.bundle, File: file}}
	for _, c := range change {
		c(&r)
	}
	p, err := f.server.Parse(f.t.(*testing.T).Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func TestAFileIsDescribedWithWhatItPrints(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("dag.json", map[string]any{"dags": []string{"d"}, "at_import": "print('garbage at import')"})
	f.connect()
	p := f.parse("dag.json")
	if len(p.Described.DAGs) != 1 || p.Described.DAGs[0].ID != "d" || p.Output != "garbage at import\n" {
		t.Errorf("got %+v", p)
	}
}

func TestAFileThatMisbehavesAtImportIsAnImportErrorInWords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	for _, c := range []struct{ name, code, want string }{
		{"hangs", "time.sleep(1000)", "the import took longer than 500ms and was ended"},
		{"eats memory", "x = bytearray(300 << 20); time.sleep(1000)", "the import used more than 100 MiB of memory and was ended"},
		{"exits", "print('bye', flush=True); os._exit(4)", "importing bad.json ended the process with exit code 4, as os._exit does; a DAG file only declares, leave the rest to its tasks; it printed last: bye"},
		{"crashes", "os.kill(os.getpid(), 11)", "importing bad.json crashed the process (SIGSEGV)"},
		{"is killed", "os.kill(os.getpid(), 9)", "the process that imported bad.json was ended by SIGKILL"},
	} {
		f.dagFile("bad.json", map[string]any{"at_import": c.code})
		p := f.parse("bad.json", func(r *workerapi.Parse) {
			r.TimeoutSeconds, r.MemoryBytes = 30, 100<<20
			if c.name == "hangs" {
				r.TimeoutSeconds = 0.5
			}
		})
		if len(p.Described.Errors) != 1 || p.Described.Errors[0].File != "bad.json" || !strings.Contains(p.Described.Errors[0].Message, c.want) {
			t.Errorf("%s: %+v", c.name, p.Described.Errors)
		}
		if p.Again != (c.name == "is killed" || c.name == "hangs") {
			t.Errorf("%s: to be tried again: %v", c.name, p.Again)
		}
	}
	eventually(t, "no host is left", func() bool { return len(marked(f.home)) == 0 })
}

func TestAnIdleWorkerKeepsNoHost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.HostIdle = 0.3
	f.connect()
	first := f.do(`print(os.getppid())`)
	second := f.do(`print(os.getppid())`)
	a, b := texts(readLog(t, f.logPath(first.AttemptID)), ""), texts(readLog(t, f.logPath(second.AttemptID)), "")
	if a[0] != b[0] {
		t.Errorf("two hosts, %v and %v, for one file", a, b)
	}
	eventually(t, "the idle host has ended", func() bool { return len(marked(f.home)) == 0 })
	if r := f.do(``); r.State != run.Success {
		t.Errorf("after that: %+v", r)
	}
}

func TestAParsedFilesHostServesTheLaunchThatFollows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect()
	f.parse("dag.json")
	before := marked(f.home)
	r := f.do(`print(os.getppid())`)
	after := texts(readLog(t, f.logPath(r.AttemptID)), "")
	if len(before) != 1 || len(after) != 1 {
		t.Errorf("hosts %v, then %v", before, after)
	}
}

func TestIdleHostsBeyondTheMemoryBudgetEndTheOldestFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.settings.HostMemory = 120 << 20
	for _, name := range []string{"a.json", "b.json", "c.json"} {
		f.dagFile(name, map[string]any{"dags": []string{"d"}, "at_import": "sys.keep = bytearray(50 << 20)"})
	}
	f.connect()
	for _, name := range []string{"a.json", "b.json", "c.json"} {
		f.do(``, inFile(name))
	}
	eventually(t, "two of three hosts are left", func() bool { return len(marked(f.home)) == 2 })
}

func TestLimitsAreWrittenForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{30 * time.Second: "30s", 90 * time.Second: "1m30s", time.Hour: "1h", 500 * time.Millisecond: "500ms", 2 * time.Minute: "2m"} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{1 << 30: "1 GiB", 100 << 20: "100 MiB", 1536 << 20: "1.5 GiB", 12: "12 bytes"} {
		if got := shortBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestWhatTasksImportIsPreloadedForLaterOnesUnlessItCannotBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dagFile("other.json", map[string]any{"dags": []string{"d"}})
	f.connect()
	preloaded := func(file string) string {
		r := f.do(`print(sys.preloaded)`, inFile(file))
		return texts(readLog(t, f.logPath(r.AttemptID)), streamOut)[0]
	}
	f.do(`t.succeed(); silent = True; t.send("ImportedModules", modules=["torch", "numpy"])`)
	eventually(t, "a host with torch takes over", func() bool { return preloaded("dag.json") == "['torch', 'numpy']" })
	f.do(`t.succeed(); silent = True; t.send("ImportedModules", modules=["torch", "numpy"])`) // it has them
	f.do(`t.succeed(); silent = True; t.send("ImportedModules", modules=["bad"])`, inFile("other.json"))
	for range 5 {
		if got := preloaded("other.json"); got != "[]" {
			t.Errorf("a host that must not fork took over: %s", got)
		}
	}
	eventually(t, "one host for each file is left", func() bool { return len(marked(f.home)) == 2 })
}

func TestAParseThatTheWorkersStopCutsShortIsMadeByTheNextOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	started := filepath.Join(f.home, "started")
	f.dagFile("slow.json", map[string]any{"dags": []string{"d"},
		"at_import": fmt.Sprintf("os.path.exists(%[1]q) or (open(%[1]q, 'w').close(), time.sleep(1000))", started)})
	s := f.connect()
	got := make(chan string, 1)
	go func() {
		p, err := s.Parse(t.Context(), workerapi.Parse{Version: "v1", Describe: protocol.Describe{BundleName: "b", BundlePath: f.bundle, File: "slow.json"}})
		got <- fmt.Sprintf("%v %+v", err, p)
	}()
	eventually(t, "the import runs", func() bool { _, err := os.Stat(started); return err == nil })
	if err := syscall.Kill(f.workerPID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if p := <-got; !strings.HasPrefix(p, "<nil> ") || strings.Contains(p, "stopping") || !strings.Contains(p, "ID:d ") {
		t.Errorf("got %s", p)
	}
}

func TestAFileThatKillsItsParentAtImportHarmsItselfOnly(t *testing.T) {
	t.Parallel()
	f := realFixture(t)
	f.connect()
	worker := f.workerPID()
	for name, code := range map[string]string{"kills.py": "os.kill(os.getppid(), 9)", "asks.py": "os.kill(os.getppid(), 15)"} {
		if err := os.WriteFile(filepath.Join(f.bundle, name), []byte("import os, time\n"+code+"\ntime.sleep(1000)\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p := f.parse(name, func(r *workerapi.Parse) { r.TimeoutSeconds = 20 })
		if len(p.Described.Errors) != 1 || !strings.Contains(p.Described.Errors[0].Message, "was ended by SIG") {
			t.Errorf("%s: %+v", name, p.Described.Errors)
		}
	}
	if now := f.workerPID(); now != worker {
		t.Errorf("the worker is process %d now, was %d", now, worker)
	}
}
