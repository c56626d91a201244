package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// gated waits in its first task for a file, reads a variable and pushes an XCom while it does, and has a second one.
const gated = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task


@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def gated():
    @task
    def first(ti=None):
        with open(os.environ["LEDGER"], "a") as f:
            f.write(os.environ["OSTRO_ATTEMPT_ID"] + "\n")
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        if os.environ.get("PUSH"):
            ti.xcom_push(key="meanwhile", value=1)
        return 1

    @task
    def second(x):
        with open(os.environ["LEDGER"], "a") as f:
            f.write(os.environ["OSTRO_ATTEMPT_ID"] + "\n")

    second(first())


gated()
`

// gatedConfig is an installation with the DAG gated, its gate and its ledger.
func gatedConfig(t *testing.T, database string) (cfg config.Config, gate, ledger string) {
	t.Helper()
	cfg = newConfig(t)
	cfg.Database = database
	dir := t.TempDir()
	gate, ledger = filepath.Join(dir, "gate"), filepath.Join(dir, "ledger")
	cfg.Tasks.Env = map[string]string{"GATE": gate, "LEDGER": ledger}
	writeDAG(t, cfg, "gated.py", gated)
	return cfg, gate, ledger
}

// lines counts the lines of a file and wants no line twice.
func lines(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if seen[line] {
			t.Errorf("attempt %s began twice", line)
		}
		seen[line] = true
	}
	return len(seen)
}

func openGate(t *testing.T, gate string) {
	t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTheServerRidesOutADatabaseThatIsGone stops PostgreSQL while tasks run: they go on and end, one pushes an XCom, the API
// says 503 in words, and when PostgreSQL is back everything is stored, and nothing ran twice. OSTRO_TEST_OUTAGE sets how
// long it is gone.
func TestTheServerRidesOutADatabaseThatIsGone(t *testing.T) {
	outage := 3 * time.Second
	if v := os.Getenv("OSTRO_TEST_OUTAGE"); v != "" {
		var err error
		if outage, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	pg := pgserver.New(t)
	cfg, gate, ledger := gatedConfig(t, pg.Database(t))
	cfg.Tasks.Env["PUSH"] = "1"
	s := start(t, cfg)
	s.trigger("gated", "r1")
	await(t, "the task", func() bool { return lines(t, ledger) == 1 })
	pg.Kill()
	gone := time.After(outage)
	openGate(t, gate)
	for _, ask := range [][3]string{
		{http.MethodGet, "/api/v2/dags/gated/dagRuns/r1", ""},
		{http.MethodPost, "/api/v2/dags/gated/dagRuns", `{"dag_run_id": "r2", "logical_date": null}`},
	} {
		code, body := s.call(ask[0], ask[1], ask[2])
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
			t.Errorf("%s %s without a database: %d %s", ask[0], ask[1], code, body)
		}
	}
	<-gone
	pg.Start(t)
	s.wait("gated", "r1", "success")
	if n := lines(t, ledger); n != 2 {
		t.Errorf("%d attempts began, want 2", n)
	}
	if code, body := s.call("GET", "/api/v2/dags/gated/dagRuns/r1/taskInstances/first/xcomEntries/meanwhile", ""); code != http.StatusOK {
		t.Errorf("the XCom pushed meanwhile: %d %s", code, body)
	}
	if code, body := s.call("POST", "/api/v2/dags/gated/dagRuns", `{"dag_run_id": "r3", "logical_date": null}`); code != http.StatusOK {
		t.Fatalf("trigger: %d %s", code, body)
	}
	s.wait("gated", "r3", "success")
}

func TestASecondServerOnOneDatabaseIsToldWhoLeads(t *testing.T) {
	url := pgserver.Database(t)
	cfg, _, _ := gatedConfig(t, url)
	first := start(t, cfg)
	other, _, _ := gatedConfig(t, url)
	_, err := app.New(other, logger(t), app.Options{})
	if !errors.Is(err, app.ErrLed) {
		t.Fatalf("a second server: %v", err)
	}
	for _, want := range []string{fmt.Sprintf("process %d on ", os.Getpid()), cfg.Home, first.app.URL()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not say %q: %v", want, err)
		}
	}
	first.close()
	start(t, other) // a leader that stops in order gives its lead up at once
}

// serveApart starts a server in a process of its own.
func serveApart(t *testing.T, cfg config.Config, gate, ledger string) *prey {
	t.Helper()
	yaml := fmt.Sprintf("database: %q\npython: %q\ntasks:\n  env: {GATE: %q, LEDGER: %q}\n", cfg.Database, cfg.Python, gate, ledger)
	if err := os.WriteFile(filepath.Join(cfg.Home, "ostro.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prey{t: t, home: cfg.Home, database: cfg.Database}
	p.serve()
	t.Cleanup(func() { endWorkers(t, cfg.Home) })
	t.Cleanup(p.killServer)
	t.Cleanup(p.explain)
	return p
}

// lead waits until a server of cfg may lead, and starts it.
func lead(t *testing.T, cfg config.Config) *server {
	t.Helper()
	await(t, "the end of the other's lease", func() bool {
		a, err := app.New(cfg, logger(t), app.Options{})
		if err != nil {
			if !errors.Is(err, app.ErrLed) {
				t.Fatal(err)
			}
			return false
		}
		return a.Close() == nil
	})
	return start(t, cfg)
}

// TestALeaderThatWakesUpAfterAnotherTookOverChangesNothing stops a leader (SIGSTOP) until another server leads, and lets it
// go on: it must see that, end, and neither write nor start anything.
func TestALeaderThatWakesUpAfterAnotherTookOverChangesNothing(t *testing.T) {
	url := pgserver.Database(t)
	cfg, gate, ledger := gatedConfig(t, url)
	openGate(t, gate)
	p := serveApart(t, cfg, gate, ledger)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// What is asked of it now waits in its socket until it wakes up.
	asked := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url()+"/api/v2/dags/gated/dagRuns",
			strings.NewReader(`{"dag_run_id": "late", "logical_date": null}`))
		if err != nil {
			asked <- 0
			return
		}
		token, _ := os.ReadFile(filepath.Join(cfg.Home, "token"))
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			asked <- 0
			return
		}
		_ = resp.Body.Close()
		asked <- resp.StatusCode
	}()
	other, _, _ := gatedConfig(t, url)
	other.Tasks.Env = map[string]string{"GATE": gate, "LEDGER": ledger}
	s := lead(t, other)
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the former leader ended as if nothing were wrong")
		}
	case <-time.After(40 * time.Second):
		t.Fatal("the former leader goes on")
	}
	if code := <-asked; code != http.StatusServiceUnavailable && code != 0 {
		t.Errorf("the former leader answered a trigger with %d", code)
	}
	s.trigger("gated", "r1")
	s.wait("gated", "r1", "success")
	if n := lines(t, ledger); n != 2 {
		t.Errorf("%d attempts began, want the 2 of the new leader's run", n)
	}
	if code, _ := s.call("GET", "/api/v2/dags/gated/dagRuns/late", ""); code != http.StatusNotFound {
		t.Errorf("the run asked of the former leader: %d", code)
	}
}

// TestTasksOfADeadServersWorkerAreNotRunElsewhere kills a leader whose worker goes on with a task: another home may not lead
// until its own server has come back, or somebody has given the tasks up.
func TestTasksOfADeadServersWorkerAreNotRunElsewhere(t *testing.T) {
	url := pgserver.Database(t)
	cfg, gate, ledger := gatedConfig(t, url)
	p := serveApart(t, cfg, gate, ledger)
	if code, body := p.ask("POST", "/api/v2/dags/gated/dagRuns", `{"dag_run_id": "r1", "logical_date": null}`); code != http.StatusOK {
		t.Fatalf("trigger: %d %s", code, body)
	}
	await(t, "the task", func() bool { return lines(t, ledger) == 1 })
	p.killServer()
	other, _, _ := gatedConfig(t, url)
	var err error
	await(t, "the end of the lease", func() bool {
		_, err = app.New(other, logger(t), app.Options{})
		if !errors.Is(err, app.ErrLed) {
			t.Fatalf("another home: %v", err)
		}
		return strings.Contains(err.Error(), "is gone")
	})
	if !strings.Contains(err.Error(), "1 task(s)") || !strings.Contains(err.Error(), "ostro db release") {
		t.Errorf("the refusal says: %v", err)
	}
	p.serve() // the same home finds its task again
	openGate(t, gate)
	await(t, "the end of the run", func() bool {
		_, body := p.ask("GET", "/api/v2/dags/gated/dagRuns/r1", "")
		return strings.Contains(body, `"state":"success"`)
	})
	p.killServer()
	if n := lines(t, ledger); n != 2 {
		t.Errorf("%d attempts began, want 2", n)
	}
	lead(t, other)
}

func TestADatabaseIsReleasedOnlyFromALeaderThatIsGone(t *testing.T) {
	url := pgserver.Database(t)
	cfg, _, _ := gatedConfig(t, url)
	s := start(t, cfg)
	db, err := store.Open(t.Context(), store.Options{URL: url, BlobDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Release(t.Context()); !errors.Is(err, store.ErrConflict) {
		t.Errorf("while it leads: %v", err)
	}
	s.close()
	if was, err := db.Release(t.Context()); err != nil || !strings.Contains(was.Server, cfg.Home) {
		t.Errorf("after its end: %+v %v", was, err)
	}
	other, _, _ := gatedConfig(t, url)
	start(t, other)
}
