package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/devs3"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
	"ostro.dev/ostro/python"
)

// DagTest is one run of `ostro dags test`, or of `ostro tasks test`.
type DagTest struct {
	// File is the DAG file; DAGID chooses one of several DAGs in it, empty when there is one.
	File, DAGID string
	// Perhaps says that the file only mentions the DAG; ErrNotHere is the answer when it does not declare it.
	Perhaps bool
	// LogicalDate and Conf are passed on as they were written; empty: now and {}.
	LogicalDate, Conf string
	// Task runs that task alone; MapIndex chooses an instance of a mapped one, -1 the first.
	Task     string
	MapIndex int
	In       io.Reader
	Out, Err io.Writer
}

// ErrNotHere says that a file which mentions a DAG does not declare it.
var ErrNotHere = errors.New("the file does not declare the DAG")

// notHere is how python/ostro/dagtest.py says so, as its exit code.
const notHere = 4

// testSettings is what python/ostro/dagtest.py reads from OSTRO_DAGTEST_SETTINGS.
type testSettings struct {
	Defaults    map[string]json.RawMessage           `json:"defaults"`
	Pods        *protocol.PodSettings                `json:"pods,omitempty"`
	Variables   map[string]string                    `json:"variables,omitempty"`
	Connections map[string]protocol.ConnectionResult `json:"connections,omitempty"`
}

// TestDAG runs a whole DAG in one Python process, without a server, and returns that process's exit code. Variables and
// connections are the home's, when it has any.
func TestDAG(ctx context.Context, cfg config.Config, logger *slog.Logger, t DagTest) (exit int, err error) {
	a := &App{cfg: cfg, log: logger, home: home(cfg.Home)}
	runtime, err := python.Extract(a.home.path("runtime"))
	if err != nil {
		return 0, err
	}
	if dev := cfg.S3.Dev; dev != nil && *dev {
		if a.s3, err = devs3.Start(ctx, devs3.Options{Dir: a.home.path("s3"), Guest: true, Region: cfg.S3.Region, Logger: logger}); err != nil {
			return 0, fmt.Errorf("start the S3 endpoint for tasks: %w", err)
		}
		defer func() {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			err = errors.Join(err, a.s3.Close(stop))
		}()
	}
	worker := a.workerSettings(runtime)
	settings := testSettings{Defaults: a.bundleConfig().Defaults, Pods: worker.Pods}
	if err := a.readSecrets(ctx, &settings); err != nil {
		return 0, err
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return 0, fmt.Errorf("write the settings of the test run: %w", err)
	}
	cmd := exec.CommandContext(ctx, cfg.Python, a.testArguments(t)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.Out, t.Err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // Python ends its children and says where it was
	cmd.WaitDelay = cfg.Tasks.KillGrace
	env := maps.Clone(worker.Env)
	env["PYTHONPATH"], env["PYTHONUNBUFFERED"], env["OSTRO_DAGTEST_SETTINGS"] = runtime, "1", string(text)
	cmd.Env = slices.DeleteFunc(config.Environ(), func(v string) bool { return strings.HasPrefix(v, "OSTRO_DATABASE") })
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var ended *exec.ExitError
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.As(err, &ended) && ended.ExitCode() == notHere && t.Perhaps:
		return 0, ErrNotHere
	case errors.As(err, &ended) && ended.ExitCode() >= 0:
		return ended.ExitCode(), nil
	case ended != nil && endedBy(ended, syscall.SIGPIPE): // nobody reads the output any more
		return 128 + int(syscall.SIGPIPE), nil
	case ended != nil:
		fmt.Fprintf(t.Err, "ostro: the run was ended in the midst of the task named last (%s)\n", ended.ProcessState)
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("run %s: %w", cfg.Python, err)
	}
	return 0, nil
}

func endedBy(e *exec.ExitError, signal syscall.Signal) bool {
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == signal
}

func (a *App) testArguments(t DagTest) []string {
	args := []string{"-m", "ostro.dagtest", "--file", t.File, "--compat", a.cfg.Compat}
	bundle := shown(a.cfg.DAGs)
	if file, err := filepath.Abs(t.File); err == nil {
		if rel, err := filepath.Rel(bundle, file); err == nil && filepath.IsLocal(rel) {
			args = append(args, "--bundle", bundle) // helper modules are found as the server finds them
			args[3] = rel
		}
	}
	for _, f := range [][2]string{{"--dag-id", t.DAGID}, {"--logical-date", t.LogicalDate}, {"--conf", t.Conf}} {
		if f[1] != "" {
			args = append(args, f[0], f[1])
		}
	}
	if t.Perhaps {
		args = append(args, "--perhaps")
	}
	if t.Task != "" {
		args = append(args, "--task", t.Task, "--map-index", strconv.Itoa(t.MapIndex))
	}
	return args
}

// readSecrets reads the home's variables and connections. A home without a database has none.
func (a *App) readSecrets(ctx context.Context, into *testSettings) (err error) {
	if _, err := os.Stat(a.home.path("control.db")); a.cfg.Database == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	box, err := secret.OpenBox(a.home.path("secret.key"))
	if err != nil {
		return err
	}
	_, serves := a.home.server()
	db, err := store.Open(ctx, store.Options{URL: a.cfg.Database, Path: a.home.path("control.db"), BlobDir: a.home.path("blobs"), KeepSchema: serves,
		Seal: func([]byte) ([]byte, error) { return nil, errors.New("a test run writes no secrets") },
		Open: func(b []byte) ([]byte, error) { return box.Open("control.db", string(b)) }})
	if errors.Is(err, store.ErrOlder) {
		return fmt.Errorf("%w: the server that runs on %s is of that version; replace it, or test with its program", err, a.home)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	variables, err := db.Variables(ctx, "")
	if err != nil {
		return err
	}
	into.Variables = map[string]string{}
	for _, v := range variables {
		into.Variables[v.Key] = v.Value
	}
	connections, err := db.Connections(ctx)
	if err != nil {
		return err
	}
	into.Connections = map[string]protocol.ConnectionResult{}
	for _, c := range connections {
		into.Connections[c.ID] = protocol.ConnectionResult{Type: "ConnectionResult", ConnID: c.ID, ConnType: c.Type, Host: c.Host, Schema: c.Schema,
			Login: c.Login, Password: c.Password, Port: c.Port, Extra: c.Extra}
	}
	return nil
}
