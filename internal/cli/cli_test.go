package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ostro": func() {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		code := Run(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs the program as people do: every script starts what it needs in a home of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("OSTRO_HOME", filepath.Join(e.WorkDir, "h"))
			python, err := exec.LookPath("python3")
			if err != nil {
				return err
			}
			if path, err := exec.Command(python, "-c", "import sys; print(sys.executable)").Output(); err == nil {
				python = strings.TrimSpace(string(path)) // a shim would need its own settings
			}
			e.Setenv("OSTRO_PYTHON", python)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "exits": exits},
	})
}

// until runs `ostro ARGS…` again and again until its output holds a text: until TEXT ARGS…
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT ARGS...")
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		_ = ts.Exec("ostro", args[1:]...) // it may fail until the server answers
		if out := ts.ReadFile("stdout"); strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("ostro %s never said %q: %s%s", strings.Join(args[1:], " "), args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		}
	}
}

// exits runs `ostro ARGS…` and checks its exit code: exits CODE ARGS…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS...")
	}
	err := ts.Exec("ostro", args[1:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("ostro %s: exit code %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

func run(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Run(context.Background(), args, Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestMistakesAreUsageErrorsThatNameTheNearestSpelling(t *testing.T) {
	t.Setenv("OSTRO_HOME", t.TempDir())
	for _, c := range []struct{ args, want string }{
		{"dgas list", `unknown command "dgas" for "ostro"; did you mean dags?`},
		{"dags triger x", `unknown command "triger" for "ostro dags"; did you mean trigger?`},
		{"dags trigger x --wiat", "unknown flag: --wiat; did you mean --wait?"},
		{"dags list --oputput json", "unknown flag: --oputput; did you mean --output?"},
		{"dags list -o jsn", `unknown output format "jsn"; did you mean json?`},
		{"dags trigger", "an argument is missing\n  usage: ostro dags trigger DAG_ID [flags]"},
		{"runs watch a b c", "too many arguments"},
		{"dags trigger x --conf [1]", "--conf is not a JSON object (it is another JSON value): [1]"},
		{"dags trigger x --logical-date yesterday", `"yesterday" is not a date`},
		{"tasks state d t --set succes", "did you mean success?"},
		{"pools set gpu many", `"many" is not a number of slots` + "\n  give 0 or more, or -1 (or unlimited) for no limit, as in: ostro pools set gpu 4"},
		{"pools set gpu -5", `"-5" is not a number of slots` + "\n  give 0 or more"},
		{"pools set gpu -11", `"-11" is not a number of slots`},
		{"pools set gpu -1.5 --description d", `"-1.5" is not a number of slots`},
		{"pools set gpu 4 --unlimited", "slots are given twice"},
		{"pools set gpu", "an argument is missing"},
		{"pools set gpu 2 one --description two", `the description is given twice: "one" and "two"`},
		{"connections add c --conn-uri nonsense", "--conn-uri: this is no URI of the form"},
		{"dags list -o xml", "the formats are: table, json, yaml"},
		{"connections set c --type http --extra {bad", "the extra is not a JSON object (invalid character 'b'"},
		{"connections set c --type http --extra [1]", "the extra is not a JSON object (it is another JSON value)"},
		{"dags trigger x --conf {bad", "--conf is not a JSON object (invalid character 'b'"},
		{"tasks test x t --conf [1]", "--conf is not a JSON object"},
		{"connections set c --type http --port-number 65536", "65536 is not a port"},
		{"db clean --keep long", `"long" is not an age; write 30d or 12h`},
		{"runs list --limit many", `invalid argument "many" for "--limit" flag: it is not a whole number`},
		{"runs list --limit 99999999999999999999", `for "--limit" flag: it is too large`},
		{"dags trigger x --wait=maybe", `for "--wait" flag: it is not true or false`},
		{"connections add a/b --conn-type x", `"a/b" cannot be the id of a connection: it may have letters, digits`},
		{"connections set c --conn-json {\"port\":\"x\"}", "--conn-json: x is not a port"},
		{"connections set c --conn-json {\"port\":99999}", "99999 is not a port: they go from 0 to 65535"},
		{"connections set c --conn-json {\"host\":5}", "--conn-json: the host is not a text"},
		{"connections add c --conn-uri postgres://u:p%E4ss@h", "the password is not UTF-8 text; in a URI an ä is written as it is, or as %C3%A4"},
		{"connections add c --conn-uri postgres://h/?a=%FC", "the extra is not UTF-8 text"},
		{"variables set k v\xe4", "the value is not UTF-8 text"},
		{"variables import .", "read .: is a directory"},
		{"dags trigger x --logical-date 2024-01-01 --no-logical-date", "--logical-date and --no-logical-date exclude each other"},
		{"completion bsh", `unknown command "bsh" for "ostro completion"; did you mean bash?`},
		{"completion bash extra", "too many arguments"},
		{"help nothing", `unknown help topic "nothing"`},
	} {
		code, _, errs := run(strings.Fields(c.args)...)
		if code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("ostro %s: exit code %d, %s; want %s", c.args, code, errs, c.want)
		}
	}
}

func TestAnEmptyArgumentNamesNothing(t *testing.T) {
	t.Setenv("OSTRO_HOME", t.TempDir())
	for _, line := range [][]string{{"runs", "cancel", "d", ""}, {"dags", "trigger", ""}, {"dags", "pause", "d", ""}, {"variables", "set", "", "v"}} {
		code, _, errs := run(line...)
		if code != exitUsage || !strings.Contains(errs, " is empty\n  usage: ostro "+line[0]) {
			t.Errorf("%q: exit code %d, %s", line, code, errs)
		}
	}
	if code, _, errs := run("variables", "set", "k", ""); code != exitUnreachable {
		t.Errorf("a value may be empty: exit code %d, %s", code, errs)
	}
}

func TestNegativeNumbersAreArguments(t *testing.T) {
	for line, want := range map[string]string{
		"variables set k -5":                              "variables set -- k -5",
		"variables set -o json k -.5 --description -5":    "variables set -o json --description -5 -- k -.5",
		"--home /h pools set -ojson p -1 -- x":            "--home /h pools set -ojson p -1 -- x",
		"--home /h pools set p -1 --include-deferred":     "pools set --home /h --include-deferred -- p -1",
		"tasks clear d -yt x --map-index -1":              "tasks clear -yt x --map-index -1 -- d",
		"tasks clear d -y -tx --map-index=-1 -5":          "tasks clear -y -tx --map-index=-1 -- d -5",
		"variables set k 5":                               "variables set k 5",
		"__complete pools set p -1":                       "__complete pools set p -1",
		"dags trigger x --note -1 --wiat -c {} -2024":     "dags trigger --note -1 --wiat -c {} -- x -2024",
		"connections set c --conn-port -5 --conn-uri - y": "connections set --conn-port -5 --conn-uri - -- c y",
	} {
		got := strings.Join(numbersAreArguments((&command{}).root(), strings.Fields(line)), " ")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ostro %s (-want +got):\n%s", line, diff)
		}
	}
}

func TestAWrongConfigurationKeyIsNamedWithItsLine(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "ostro.yaml"), []byte("prot: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := run("config", "show", "--home", home)
	if code != exitUsage || !strings.Contains(errs, "ostro.yaml:1:") || !strings.Contains(errs, "port") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func TestWithoutAServerTheNextStepIsNamed(t *testing.T) {
	home := t.TempDir()
	code, _, errs := run("dags", "list", "--home", home)
	if code != exitUnreachable || !strings.Contains(errs, "start one with: ostro standalone --home "+home) {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs = run("dags", "list", "--home", home, "--port", "1")
	if code != exitUnreachable || !strings.Contains(errs, "no server answers at http://127.0.0.1:1") || !strings.Contains(errs, "ostro standalone") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

func commands(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		out = append(out, commands(sub)...)
	}
	return out
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	for _, cmd := range commands((&command{}).root()) {
		if strings.Contains(cmd.CommandPath(), " completion") { // cobra's own
			continue
		}
		if cmd.Short == "" || !strings.Contains(cmd.Example, "  ostro ") {
			t.Errorf("%s has no short help or no example", cmd.CommandPath())
		}
	}
}

func TestTheExitCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitNotFound, exitUnreachable, exitConflict, exitRefused, exitHome, exitInternal, exitInterrupted} {
		if !strings.Contains(string(text), fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("exit code %d is not in docs/exit-codes.md", code)
		}
	}
}

func TestYAMLKeepsWhatIsText(t *testing.T) {
	var out bytes.Buffer
	c := &command{Streams: Streams{Out: &out}, output: "yaml"}
	if err := c.show(json.RawMessage(`{"s":["1","true","null","plain","a: b",""],"n":1,"b":true,"z":null,"e":{},"l":[]}`), nil); err != nil {
		t.Fatal(err)
	}
	want := "s:\n  - \"1\"\n  - \"true\"\n  - \"null\"\n  - plain\n  - 'a: b'\n  - \"\"\nn: 1\nb: true\nz: null\ne: {}\nl: []\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestABarShowsWhenInTheRunATaskRan(t *testing.T) {
	at := func(s int) *wire.Time { w := wire.At(time.Unix(int64(s), 0)); return &w }
	from, until := time.Unix(0, 0), time.Unix(24, 0)
	for _, c := range []struct {
		ti   wire.TaskInstance
		want string
	}{
		{wire.TaskInstance{StartDate: at(0), EndDate: at(24)}, strings.Repeat("█", 24)},
		{wire.TaskInstance{StartDate: at(12), EndDate: at(18)}, strings.Repeat("·", 12) + strings.Repeat("█", 6) + strings.Repeat("·", 6)},
		{wire.TaskInstance{StartDate: at(24), EndDate: at(24)}, strings.Repeat("·", 23) + "█"},
		{wire.TaskInstance{StartDate: at(6)}, strings.Repeat("·", 6) + strings.Repeat("█", 18)},
		{wire.TaskInstance{}, strings.Repeat("·", 24)},
	} {
		if got := bar(c.ti, from, until, until, barWidth); got != c.want {
			t.Errorf("%+v: %s, want %s", c.ti, got, c.want)
		}
	}
}

func TestATableThatDoesNotFitShowsTroubleFirst(t *testing.T) {
	b := &board{height: 8, run: &wire.DAGRun{}}
	for i, s := range []string{"success", "success", "success", "success", "running", "failed", "success", ""} {
		ti := wire.TaskInstance{TaskID: fmt.Sprint(i), MapIndex: -1}
		if s != "" {
			ti.State = &s
		}
		b.tasks = append(b.tasks, ti)
	}
	tasks, hidden := b.visible()
	var ids []string
	for _, ti := range tasks {
		ids = append(ids, ti.TaskID)
	}
	if got := strings.Join(ids, " "); got != "5 4 7 0" || hidden != 4 {
		t.Errorf("shown %s, hidden %d", got, hidden)
	}
}
