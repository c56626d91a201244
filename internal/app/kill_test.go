package app_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

const ledger = `
import os, time
from datetime import datetime
from airflow import DAG
from airflow.operators.python import PythonOperator


def work(ti, **context):
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, ("%s %s %s\n" % (os.environ.get("OSTRO_ATTEMPT_ID") or ti.attempt_id, ti.run_id, ti.task_id)).encode())
    os.close(fd)
    for i in range(20):
        print("line %d of %s" % (i, ti.task_id))
        time.sleep(0.002)
    return ti.task_id


with DAG("ledger", schedule=None, start_date=datetime(2024, 1, 1)):
    before = None
    for i in range(6):
        one = PythonOperator(task_id="t%d" % i, python_callable=work)
        side = PythonOperator(task_id="s%d" % i, python_callable=work)
        if before is not None:
            before >> [one, side]
        before = one
`

// kills is how many processes TestNothingIsLostWhateverIsKilled kills; OSTRO_TEST_KILLS asks for more.
func kills(t *testing.T) int {
	if v := os.Getenv("OSTRO_TEST_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 30
}

// prey is an installation whose processes are killed.
type prey struct {
	t    *testing.T
	home string
	cmd  *exec.Cmd
	ids  []string

	database string           // its address; empty for SQLite
	server   *pgserver.Server // nil for SQLite
}

// TestNothingIsLostWhateverIsKilled kills the server, the worker and DAG hosts at random moments while DAG runs go on,
// and then asks: has every run ended well, has no attempt begun twice, is every line of every successful attempt there?
func TestNothingIsLostWhateverIsKilled(t *testing.T) {
	cfg := newConfig(t)
	file := filepath.Join(t.TempDir(), "ledger")
	p := &prey{t: t, home: cfg.Home}
	if cfg.Database != "" {
		p.server = pgserver.New(t)
		p.database = p.server.Database(t)
	}
	yaml := fmt.Sprintf("database: %q\ntasks:\n  env: {LEDGER: %q}\n  default_retries: 0\npython: %q\nscheduler: {max_infra_retries: 1000}\n", p.database, file, cfg.Python)
	if err := os.WriteFile(filepath.Join(cfg.Home, "ostro.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	writeDAG(t, cfg, "ledger.py", ledger)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p.serve()
	t.Cleanup(func() { endWorkers(t, cfg.Home) })
	t.Cleanup(func() { p.killServer() })
	t.Cleanup(p.explain)
	killed := map[string]int{}
	for i := range kills(t) {
		if i%3 == 0 {
			p.trigger(fmt.Sprintf("r%03d", i))
		}
		<-time.After(time.Duration(rng.IntN(200)) * time.Millisecond) // the random moment itself
		targets := 3
		if p.server != nil {
			targets++
		}
		switch rng.IntN(targets) {
		case 0:
			killed["server"]++
			p.killServer()
			p.serve()
		case 1:
			killed["worker"] += p.killAll(workers(cfg.Home))
		case 2:
			hosts := p.hosts()
			if len(hosts) > 0 {
				killed["host"] += p.killAll(hosts[rng.IntN(len(hosts)):][:1])
			}
		case 3:
			killed["database"]++
			p.server.Kill()
			p.server.Start(t)
		}
	}
	t.Logf("killed: %v", killed)
	p.finish()
	p.killServer()
	endWorkers(t, cfg.Home)
	p.check(file)
}

// serve starts a server and waits until it answers.
func (p *prey) serve() {
	p.t.Helper()
	_ = os.Remove(filepath.Join(p.home, "url"))
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(exe, "serve", p.home)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "OSTRO_") })
	log, err := os.OpenFile(filepath.Join(p.home, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	await(p.t, "the server", func() bool { return p.url() != "" })
}

func (p *prey) url() string {
	b, _ := os.ReadFile(filepath.Join(p.home, "url"))
	return string(b)
}

func (p *prey) killServer() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *prey) killAll(pids []int) (n int) {
	for _, pid := range pids {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// hosts finds the DAG hosts, with the tasks forked from them: children of our workers.
func (p *prey) hosts() (pids []int) {
	parents := workers(p.home)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, _ := os.ReadFile(path)
		rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
		if f := strings.Fields(rest); len(f) > 1 {
			if ppid, _ := strconv.Atoi(f[1]); slices.Contains(parents, ppid) {
				pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// explain shows, after a failure, what server and worker said last.
func (p *prey) explain() {
	if !p.t.Failed() {
		return
	}
	for _, name := range []string{"server.log", filepath.Join("logs", "worker.log")} {
		b, _ := os.ReadFile(filepath.Join(p.home, name))
		p.t.Logf("%s ends:\n%s", name, b[max(0, len(b)-8000):])
	}
}

// ask sends a request until a server answers it.
func (p *prey) ask(method, path, body string) (code int, answer string) {
	p.t.Helper()
	token, _ := os.ReadFile(filepath.Join(p.home, "token"))
	await(p.t, "an answer to "+path, func() bool {
		req, err := http.NewRequest(method, p.url()+path, strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var b strings.Builder
		_, err = bufio.NewReader(resp.Body).WriteTo(&b)
		code, answer = resp.StatusCode, b.String()
		return err == nil && code < 500
	})
	return code, answer
}

func (p *prey) trigger(id string) {
	p.t.Helper()
	code, body := p.ask("POST", "/api/v2/dags/ledger/dagRuns", fmt.Sprintf(`{"dag_run_id": %q, "logical_date": null}`, id))
	// Asked again after an answer that was lost with the database, it may exist already.
	if code != http.StatusOK && (code != http.StatusConflict || p.server == nil) {
		p.t.Fatalf("trigger %s: %d %s", id, code, body)
	}
	p.ids = append(p.ids, id)
}

// finish waits for the end of every run.
func (p *prey) finish() {
	p.t.Helper()
	for _, id := range p.ids {
		var state string
		await(p.t, "the end of "+id, func() bool {
			_, body := p.ask("GET", "/api/v2/dags/ledger/dagRuns/"+id, "")
			var r struct {
				State string `json:"state"`
			}
			_ = json.Unmarshal([]byte(body), &r)
			state = r.State
			return state == "success" || state == "failed"
		})
		if state != "success" {
			_, tis := p.ask("GET", "/api/v2/dags/ledger/dagRuns/"+id+"/taskInstances", "")
			p.t.Errorf("run %s ended %s\n%s", id, state, tis)
		}
	}
}

// check compares the ledger and the logs with the store.
func (p *prey) check(file string) {
	p.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	begun := map[string]int{}
	for line := range strings.Lines(string(b)) {
		id := strings.Fields(line)[0]
		if begun[id]++; begun[id] > 1 {
			p.t.Errorf("attempt %s began twice", id)
		}
	}
	db, err := store.Open(p.t.Context(), store.Options{
		URL: p.database, Path: filepath.Join(p.home, "control.db"), BlobDir: filepath.Join(p.home, "blobs"),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	attempts, successes := 0, 0
	for _, id := range p.ids {
		tis, _, err := db.TaskInstances(p.t.Context(), store.TIFilter{DAGID: "ledger", RunID: id})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, ti := range tis {
			as, err := db.Attempts(p.t.Context(), ti.Key)
			if err != nil {
				p.t.Fatal(err)
			}
			good := 0
			for _, a := range as {
				attempts++
				if a.State == run.Success {
					good++
					p.checkLog(a, begun)
				}
			}
			successes += good
			if good != 1 {
				p.t.Errorf("%s/%s succeeded %d times", id, ti.TaskID, good)
			}
		}
	}
	p.t.Logf("%d runs, %d attempts of which %d succeeded, %d began", len(p.ids), attempts, successes, len(begun))
}

func (p *prey) checkLog(a run.Attempt, begun map[string]int) {
	p.t.Helper()
	if begun[a.ID] != 1 {
		p.t.Errorf("successful attempt %s of %s/%s is in the ledger %d times", a.ID, a.RunID, a.TaskID, begun[a.ID])
	}
	path := filepath.Join(p.home, "logs", "dag_id=ledger", "run_id="+a.RunID, "task_id="+a.TaskID, fmt.Sprintf("attempt=%d.log", a.TryNumber))
	log, err := os.ReadFile(path)
	if err != nil {
		p.t.Error(err)
	}
	for i := range 20 {
		if n := strings.Count(string(log), fmt.Sprintf("line %d of %s\"", i, a.TaskID)); n != 1 {
			p.t.Errorf("%s holds line %d %d times", path, i, n)
			return
		}
	}
}
