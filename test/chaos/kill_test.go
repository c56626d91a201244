package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const configuration = `
scheduler:
  max_infra_retries: 100000
  interval: 500ms
`

// ledgerDAG has chains whose tasks write "attempt task" to a ledger when they begin, print numbered lines, and hand a
// value on. LEDGER is replaced.
const ledgerDAG = `
import os, time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def ledger():
    @task
    def step(n: int, before: int = 0):
        line = "%s %s\n" % (os.environ["OSTRO_ATTEMPT_ID"], n)
        fd = os.open("LEDGER", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, line.encode())
        os.close(fd)
        for i in range(20):
            print("line %d of %d" % (i, n), flush=True)
            time.sleep(0.01)
        return before + n

    for chain in range(3):
        value = 0
        for i in range(4):
            value = step.override(task_id="c%d_s%d" % (chain, i))(chain * 10 + i, value)
ledger()
`

const longDAG = `
import time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def long():
    @task
    def sleeper():
        for i in range(SECONDS * 10):
            print("tick %d" % i, flush=True)
            time.sleep(0.1)
        return "whole"
    sleeper()
long()
`

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// Server, worker and hosts are killed at random moments; OSTRO_CHAOS_KILLS sets how often (make soak: CHAIN, 200).
func TestKilledAtRandomMomentsEveryRunEndsRightAndNothingRunsTwice(t *testing.T) {
	kills := fromEnv("OSTRO_CHAOS_KILLS", 12)
	seed := uint64(fromEnv("OSTRO_CHAOS_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("seed %d, %d kills", seed, kills)
	random := rand.New(rand.NewPCG(seed, 0))

	ledger := filepath.Join(t.TempDir(), "ledger")
	in := newInstallation(t, configuration, map[string]string{"ledger.py": strings.ReplaceAll(ledgerDAG, "LEDGER", ledger)})
	var runs []string
	var live []string
	for k := 0; k < kills; {
		for len(live) < 2 {
			id := fmt.Sprintf("run-%d", len(runs))
			in.trigger("ledger", id)
			runs, live = append(runs, id), append(live, id)
		}
		pause := time.NewTimer(time.Duration(50+random.IntN(1200)) * time.Millisecond)
		<-pause.C
		if in.killOne(random.IntN(3)) {
			k++
		}
		live = live[:0]
		for _, id := range runs {
			if s := in.state("ledger", id); s != "success" && s != "failed" {
				live = append(live, id)
			}
		}
	}
	for _, id := range runs {
		in.eventually("the end of "+id, 3*time.Minute, func() bool {
			s := in.state("ledger", id)
			return s == "success" || s == "failed"
		})
	}
	in.checkRuns(runs)
	in.checkLedger(ledger)
}

// killOne kills the server, the worker or a host; false when there was none of that kind.
func (in *installation) killOne(which int) bool {
	switch which {
	case 0:
		in.killServer()
		in.startServer()
		return true
	case 1:
		return killFirst(in.processes("worker"))
	default:
		return killFirst(in.processes("ostro.host"))
	}
}

func killFirst(pids []int) bool {
	return len(pids) > 0 && syscall.Kill(pids[0], syscall.SIGKILL) == nil
}

func (in *installation) checkRuns(runs []string) {
	t := in.t
	for _, id := range runs {
		if s := in.state("ledger", id); s != "success" {
			t.Errorf("%s ended as %s", id, s)
		}
		for _, ti := range in.taskInstances("ledger", id) {
			if ti.State != "success" {
				t.Errorf("%s %s ended as %s: %s", id, ti.TaskID, ti.State, ti.Ostro.Reason)
				continue
			}
			in.checkLog("ledger", id, ti)
		}
		for chain := range 3 {
			want := 0
			for i := range 4 {
				want += chain*10 + i
			}
			var x struct {
				Value json.Number `json:"value"`
			}
			path := fmt.Sprintf("/api/v2/dags/ledger/dagRuns/%s/taskInstances/c%d_s3/xcomEntries/return_value?stringify=false", id, chain)
			if err := in.call("GET", path, nil, &x); err != nil {
				t.Errorf("%s: %v", id, err)
			} else if x.Value.String() != strconv.Itoa(want) {
				t.Errorf("%s chain %d handed on %s, want %d", id, chain, x.Value, want)
			}
		}
	}
}

// checkLog: the log of the successful attempt holds each line exactly once, in order.
func (in *installation) checkLog(dagID, runID string, ti taskInstance) {
	path := filepath.Join(in.home, "logs", "dag_id="+dagID, "run_id="+runID, "task_id="+ti.TaskID, fmt.Sprintf("attempt=%d.log", ti.TryNumber))
	var got []string
	for _, m := range logMessages(in.t, path) {
		if strings.HasPrefix(m, "line ") {
			got = append(got, m)
		}
	}
	if len(got) != 20 {
		in.t.Errorf("%s: %d of 20 lines", path, len(got))
		return
	}
	for i, m := range got {
		if !strings.HasPrefix(m, fmt.Sprintf("line %d of ", i)) {
			in.t.Errorf("%s: line %d is %q", path, i, m)
			return
		}
	}
}

func logMessages(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return nil
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		var record struct {
			Message string `json:"m"`
		}
		if json.Unmarshal([]byte(line), &record) == nil {
			found = append(found, record.Message)
		}
	}
	return found
}

// checkLedger: no attempt id began twice.
func (in *installation) checkLedger(path string) {
	f, err := os.Open(path)
	if err != nil {
		in.t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		id, _, _ := strings.Cut(scanner.Text(), " ")
		if seen[id] {
			in.t.Errorf("attempt %s began twice", id)
		}
		seen[id] = true
	}
	if err := scanner.Err(); err != nil {
		in.t.Error(err)
	}
	in.t.Logf("%d attempts began", len(seen))
}

// One long task is adopted by three new servers in a row. OSTRO_CHAOS_LONG sets its seconds (make soak: 60).
func TestALongTaskLivesThroughThreeServerKills(t *testing.T) {
	seconds := fromEnv("OSTRO_CHAOS_LONG", 8)
	in := newInstallation(t, configuration, map[string]string{"long.py": strings.ReplaceAll(longDAG, "SECONDS", strconv.Itoa(seconds))})
	in.trigger("long", "r")
	in.eventually("the task runs", 30*time.Second, func() bool {
		tis := in.taskInstances("long", "r")
		return len(tis) == 1 && tis[0].State == "running"
	})
	for range 3 {
		in.killServer()
		pause := time.NewTimer(time.Duration(seconds) * time.Second / 8)
		<-pause.C
		in.startServer()
	}
	in.eventually("the run ends", time.Duration(seconds)*time.Second+60*time.Second, func() bool { return in.state("long", "r") != "running" })
	if got := in.state("long", "r"); got != "success" {
		t.Fatalf("the run ended as %q", got)
	}
	if ti := in.taskInstances("long", "r")[0]; ti.TryNumber != 1 {
		t.Errorf("the task needed %d attempts, want 1", ti.TryNumber)
	}
	ticks := 0
	for _, m := range logMessages(t, filepath.Join(in.home, "logs", "dag_id=long", "run_id=r", "task_id=sleeper", "attempt=1.log")) {
		if m == fmt.Sprintf("tick %d", ticks) {
			ticks++
		}
	}
	if ticks != seconds*10 {
		t.Errorf("%d of %d lines in the log", ticks, seconds*10)
	}
}
