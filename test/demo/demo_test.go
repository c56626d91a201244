package demo

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMakeDemoTrainsGatesAndPromotesAndSaysSo(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	said := d.make("DEMO_EXIT=1")

	want := [][2]string{{"prepare_data", "success"}, {"train_model", "success"}, {"quality_gate", "success"}, {"promote_to_staging", "success"}}
	if diff := cmp.Diff(want, table(t, section(t, said, "Result"))); diff != "" {
		t.Errorf("the task table (-want +got):\n%s", diff)
	}
	if len(lines(section(t, said, "ml_pipeline (TaskFlow): trigger and wait"), `^promote_if_good success after \d`)) != 1 {
		t.Errorf("ml_pipeline did not run to its end:\n%s", said)
	}
	f1 := one(t, said, `^F1 (0\.\d{4}) against the gate's 0\.9: passed   \(tracking run fraud-\d{4}-\d\d-\d\d, (\w+)\)$`)
	version := one(t, said, `^promoted: fraud-detection version (\d+) is in Staging$`)
	if diff := cmp.Diff(d.tracked(f1[2]), tracked{F1: f1[1], Version: version[1], Stage: "Staging", Source: f1[2]}); diff != "" {
		t.Errorf("what the mlflow client reads and what was printed (-client +printed):\n%s", diff)
	}
	one(t, section(t, said, "Where things are"), `^  page and API `+regexp.QuoteMeta(d.url())+`   \(token in `+regexp.QuoteMeta(d.home)+`/token\)$`)
	one(t, said, `^Ostro stopped: 0 tasks ended, 0 killed, nothing was running\.$`)
	d.nothingRuns()
}

func TestMakeDemoWithAGateTooHighShowsTheFailureAndNextStepsThatWork(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	said := d.make("GATE=0.999", "DEMO_EXIT=1")

	progress := section(t, said, "fraud_detection_training: prepare, train, gate, promote")
	refused := `F1=0\.\d{3} < 0\.999`
	for _, try := range []string{
		`^quality_gate up_for_retry after .*: try 1 failed \(ValueError: Model quality too low: ` + refused + `\), the next is due`,
		`^quality_gate up_for_retry \(try 2\) after .*: try 2 failed \(ValueError: Model quality too low: ` + refused + `\), the next is due`,
		`^quality_gate failed \(try 3\) after .*: ValueError: Model quality too low: ` + refused,
		`^promote_to_staging upstream_failed: an upstream task failed$`,
	} {
		one(t, progress, try)
	}
	one(t, section(t, said, "What happened"),
		`Slack \(no SLACK_WEBHOOK_URL set, logged only\): :red_circle: fraud_detection_training\.quality_gate failed on try 3 of run \S+: Model quality too low: `+refused+`$`)
	want := [][2]string{{"prepare_data", "success"}, {"train_model", "success"}, {"quality_gate", "failed"}, {"promote_to_staging", "upstream_failed"}}
	if diff := cmp.Diff(want, table(t, section(t, said, "Result"))); diff != "" {
		t.Errorf("the task table (-want +got):\n%s", diff)
	}
	f1 := one(t, said, `^F1 (0\.\d{4}) against the gate's 0\.999: refused   \(tracking run fraud-\d{4}-\d\d-\d\d, (\w+)\)$`)
	one(t, said, `^promoted: nothing$`)
	if diff := cmp.Diff(d.tracked(f1[2]), tracked{F1: f1[1]}); diff != "" {
		t.Errorf("what the mlflow client reads and what was printed (-client +printed):\n%s", diff)
	}
	d.nothingRuns()
	d.takeNextSteps(section(t, said, "What to do next"))
	d.nothingRuns()
}

func TestCtrlCWhileTheDemoTrainsStopsEverything(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	cmd := d.command("make", "--no-print-directory", "demo")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := until(out, `(?s)\n▸ fraud_detection_training: .*\ntrain_model running\n`)
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil { // the whole foreground, as a terminal does
		t.Error(err)
	}
	rest, _ := io.ReadAll(out) // to its end, which is when nobody writes any more
	if err := cmd.Wait(); err == nil || !strings.Contains(string(rest), "\nOstro stopped: 1 task ended, ") {
		t.Errorf("make ended with %v:\n%s%s", err, seen, rest)
	}
	d.nothingRuns()
}

// until reads up to what a pattern matches, or to the end.
func until(from io.Reader, pattern string) string {
	wanted := regexp.MustCompile(pattern)
	seen, buffer := "", make([]byte, 4096)
	for !wanted.MatchString(seen) {
		n, err := from.Read(buffer)
		seen += string(buffer[:n])
		if err != nil {
			break
		}
	}
	return seen
}

// takeNextSteps does what the demo says one could do next, in its order, up to watching the training that begins again.
func (d *demo) takeNextSteps(text string) {
	d.t.Helper()
	step := func(label string) string { return one(d.t, text, `^  `+label+` +(.+)$`)[1] }
	stop := d.serve(step("start the server again"))
	defer stop()
	export := step("say which home") + "\n"
	if log := d.shell(export + step("look at the log")); !strings.Contains(log, "Model quality too low") {
		d.t.Errorf("the log shows no reason:\n%s", log)
	}
	if out, err := d.command("scripts/demo.sh").CombinedOutput(); err == nil || !strings.Contains(string(out), "is running at "+d.url()) {
		d.t.Errorf("a second demo in the same home: %v\n%s", err, out)
	}
	d.shell(export + step("run it from there again"))
	watch := d.command("timeout", "-s", "INT", "-k", "10", "60", "bash", "-c", export+"exec "+step("watch it"))
	out, err := watch.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		d.t.Fatal(err)
	}
	if seen := until(out, `\ntrain_model running \(try 2\)\n`); !strings.Contains(seen, "\ntrain_model running (try 2)\n") {
		d.t.Errorf("watching showed no second training:\n%s", seen)
	}
	_ = watch.Process.Signal(syscall.SIGINT) // it ends by itself within its time limit if this fails
	_ = watch.Wait()                         // interrupted
}

func TestTheDemoRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	for setting, want := range map[string]string{
		"DEMO_PORT=" + port:  "Port " + port + " is in use by another program: choose another DEMO_PORT, or none to get a free one.\n",
		"DEMO_PORT=http":     "DEMO_PORT=http is not a port, such as 8090\n",
		"OSTRO_PORT=" + port: "Port " + port + " is in use by another program: choose another OSTRO_PORT, or none to get a free one.\n",
		"OSTRO_PORT=70000":   "OSTRO_PORT=70000 is not a port, such as 8090\n",
		"GATE=1.5":           "GATE=1.5 is not a number between 0 and 1, such as 0.95\n",
		"GATE=high":          "GATE=high is not a number between 0 and 1, such as 0.95\n",
	} {
		d := newDemo(t)
		cmd := d.command("scripts/demo.sh")
		cmd.Env = append(cmd.Env, setting)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 || said.String() != want {
			t.Errorf("%s: %v, %q, want exit code 2 and %q", setting, err, said.String(), want)
		}
	}
}

// serve runs a command that is a server, until it is called back; the server must then end well.
func (d *demo) serve(line string) (stop func()) {
	d.t.Helper()
	server := d.command("bash", "-c", "exec "+line)
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		d.t.Fatal(err)
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGTERM) // it may have ended, which Wait tells
		if err := server.Wait(); err != nil || !strings.Contains(said.String(), "Ostro stopped") {
			d.t.Errorf("%s ended with %v:\n%s", line, err, said.String())
		}
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		if d.page() {
			return stop
		}
		select {
		case <-d.t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) || d.t.Context().Err() != nil {
			stop()
			d.t.Fatalf("%s: no page at %s", line, d.url())
		}
	}
}

// page tells whether there is a page at the printed address.
func (d *demo) page() bool {
	request, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.url(), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK && strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html")
}

// section is what was printed under a heading.
func section(t *testing.T, said, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(said, "\n▸ "+heading+"\n")
	if !found {
		t.Fatalf("there is no heading %q:\n%s", heading, said)
	}
	text, _, _ = strings.Cut(text, "\n▸ ")
	return text
}

// table reads the tasks and their states off the printed table; each that has run must have a duration.
func table(t *testing.T, text string) [][2]string {
	t.Helper()
	_, rows, found := strings.Cut(text, "\nTASK ")
	if !found {
		t.Fatalf("there is no task table:\n%s", text)
	}
	var out [][2]string
	for _, row := range lines(rows, `^(\w+) +(\w+) +(\d+) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +((?:\d+m)?\d+(?:\.\d+)?(?:ms|s))(?: |$)`) {
		out = append(out, [2]string{row[1], row[2]})
	}
	return out
}

func lines(text, pattern string) [][]string {
	return regexp.MustCompile(`(?m)`+pattern).FindAllStringSubmatch(text, -1)
}

// one is the only line that matches, and its groups.
func one(t *testing.T, text, pattern string) []string {
	t.Helper()
	found := lines(text, pattern)
	if len(found) != 1 {
		t.Fatalf("%d lines match %s, want 1:\n%s", len(found), pattern, text)
	}
	return found[0]
}

// A demo has a home and a port of its own.
type demo struct {
	t    *testing.T
	root string
	home string
	port int
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, ".venvs/demo/bin/python")); err != nil {
		t.Skip("no Python environment of the demo here: scripts/test-envs makes it")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	folder, err := os.MkdirTemp("", "demo-") // the path of a socket in it must not be as long as the name of a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return &demo{t: t, root: root, home: filepath.Join(folder, "a home"), port: listener.Addr().(*net.TCPAddr).Port}
}

func (d *demo) url() string { return "http://127.0.0.1:" + strconv.Itoa(d.port) }

// command runs in the repository with this demo's settings, and nothing of the make or the Ostro around it.
func (d *demo) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), 8*time.Minute)
	d.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = d.root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	for _, set := range os.Environ() {
		switch variable, _, _ := strings.Cut(set, "="); {
		case strings.HasPrefix(variable, "MAKE"), strings.HasPrefix(variable, "OSTRO_"), strings.HasPrefix(variable, "AWS_"),
			variable == "MFLAGS", variable == "GATE", variable == "SLACK_WEBHOOK_URL":
		default:
			cmd.Env = append(cmd.Env, set)
		}
	}
	cmd.Env = append(cmd.Env, "DEMO_HOME="+d.home, "OSTRO_PORT="+strconv.Itoa(d.port), "NO_COLOR=1")
	return cmd
}

// make runs make demo, which must succeed, and returns what it printed.
func (d *demo) make(settings ...string) string {
	d.t.Helper()
	out, err := d.command("make", append([]string{"--no-print-directory", "demo"}, settings...)...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("make demo %v: %v\n%s", settings, err, out)
	}
	return string(out)
}

func (d *demo) shell(script string) string {
	d.t.Helper()
	out, err := d.command("bash", "-c", "set -eu\n"+script).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// tracked is what the mlflow client knows of a tracking run and of the version in Staging, if there is one.
type tracked struct{ F1, Version, Stage, Source string }

func (d *demo) tracked(run string) tracked {
	d.t.Helper()
	cmd := d.command(filepath.Join(d.root, ".venvs/demo/bin/python"), filepath.Join(d.root, "test/demo/tracked.py"), run)
	cmd.Env = append(cmd.Env, "MLFLOW_TRACKING_URI=sqlite:///"+d.home+"/mlflow.db")
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("read the tracking store: %v", err)
	}
	fields := strings.Split(strings.TrimSuffix(string(out), "\n"), ",")
	if len(fields) != 4 {
		d.t.Fatalf("the tracking store has %q", out)
	}
	return tracked{F1: fields[0], Version: fields[1], Stage: fields[2], Source: fields[3]}
}

// nothingRuns looks for processes of this demo's home.
func (d *demo) nothingRuns() {
	d.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline")) // it may just have ended
		environ, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if strings.Contains(string(args), d.home) || strings.Contains(string(environ), d.home) {
			d.t.Errorf("process %s is left: %q", entry.Name(), args)
		}
	}
	if d.page() {
		d.t.Errorf("something still answers at %s", d.url())
	}
}
