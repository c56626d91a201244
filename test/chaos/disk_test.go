package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a folder on a file system of its own that is soon full.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill takes all room that is left in dir; it may be called again when some was freed.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

func makeRoom(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
}

// health is what the server says about itself.
func (in *installation) health() (database, problem string) {
	var answer struct {
		Database struct {
			Status string `json:"status"`
		} `json:"metadatabase"`
		Ostro struct {
			Problem string `json:"problem"`
		} `json:"ostro"`
	}
	if err := in.call("GET", "/api/v2/monitor/health", nil, &answer); err != nil {
		in.t.Logf("health: %v", err)
	}
	return answer.Database.Status, answer.Ostro.Problem
}

func lines(path string) int {
	text, _ := os.ReadFile(path)
	return strings.Count(string(text), "\n")
}

// elapse waits; for spans in which something must not happen.
func elapse(d time.Duration) { <-time.NewTimer(d).C }

func TestAFullDiskStopsNothingForGoodAndLosesNothing(t *testing.T) {
	home := smallDisk(t, "40m")
	ledger := filepath.Join(t.TempDir(), "ledger")
	in := prepare(t, home, configuration, map[string]string{"ledger.py": strings.ReplaceAll(ledgerDAG, "LEDGER", ledger)})
	in.startServer()
	in.trigger("ledger", "run-0")
	in.eventually("tasks run", 30*time.Second, func() bool { return lines(ledger) >= 4 })

	fill(t, home)
	in.eventually("the server says that the disk is full", 30*time.Second, func() bool {
		fill(t, home)
		in.ostro("variables", "set", "refused", "v") // all tasks may wait for their logs, and nothing else is to be stored
		database, problem := in.health()
		return database == "unhealthy" && strings.Contains(problem, "no space left")
	})
	for _, line := range []string{
		"dags trigger ledger --run-id refused", "variables set refused v", "connections add refused --conn-type http", "pools set refused 3",
		"tasks clear ledger --yes", "db backup " + filepath.Join(home, "backup.db"),
	} {
		_, stderr, code := in.ostro(strings.Fields(line)...)
		in.expect("ostro "+line+" on a full disk", stderr, code, 7, "no space left")
	}
	if got := in.state("ledger", "run-0"); got != "running" {
		t.Errorf("reading on a full disk gives the state %q, want running", got)
	}
	began := lines(ledger)
	elapse(time.Second) // the tasks that ran have ended meanwhile
	if now := lines(ledger); now > began+3 {
		t.Errorf("%d attempts began while nothing could be stored", now-began)
	}
	makeRoom(t, home)

	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("ledger", "run-0") == "success" })
	if got := in.state("ledger", "refused"); got != "" {
		t.Errorf("the run whose trigger was refused is there and %s", got)
	}
	in.trigger("ledger", "run-1")
	in.eventually("another run ends", 60*time.Second, func() bool { return in.state("ledger", "run-1") == "success" })
	in.checkRuns([]string{"run-0", "run-1"})
	in.checkLedger(ledger)
	for _, ti := range in.taskInstances("ledger", "run-0") {
		if ti.TryNumber != 1 {
			t.Errorf("%s needed %d attempts, want 1", ti.TaskID, ti.TryNumber)
		}
	}
	if database, problem := in.health(); database != "healthy" || problem != "" {
		t.Errorf("afterwards the database is said to be %s, with the problem %q", database, problem)
	}
	if said := in.said(); !strings.Contains(said, "no space left") || !strings.Contains(said, "can be written again") {
		t.Error("the server does not say that the disk was full and that it goes on")
	}
}

const shoutingDAG = `
import time
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def shouting():
    @task
    def shouts():
        for i in range(SECONDS * 10):
            print("x" * 1000, flush=True)
            time.sleep(0.1)
    shouts()
shouting()
`

func TestOnAFullDiskAServerStopsSaysWhatItLeavesAndGoesOnAfterwards(t *testing.T) {
	t.Parallel() // it mostly waits
	home := smallDisk(t, "40m")
	in := prepare(t, home, hostileConfiguration, map[string]string{"shouting.py": strings.ReplaceAll(shoutingDAG, "SECONDS", "3")})
	in.startServer()
	in.trigger("shouting", "r")
	in.eventually("the task runs", 30*time.Second, func() bool { return in.taskInstances("shouting", "r")[0].State == "running" })
	fill(t, home)
	elapse(time.Second)
	in.stopServer()
	// The database may have found room within its files where the logs did not.
	if said := in.said(); !strings.Contains(said, "Ostro stopped: 1 task ended, 0 killed, some results wait in the spool for the next start") &&
		!strings.Contains(said, "Ostro stopped: 1 task ended, 0 killed, results stored") {
		t.Errorf("the stop does not say what it leaves:\n%s", said)
	}
	in.eventually("every process is gone", 10*time.Second, func() bool { return len(in.processes("")) == 0 })

	in.startServer() // it can read, and waits for room
	fill(t, home)
	elapse(time.Second)
	makeRoom(t, home)
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("shouting", "r") == "success" })
	if ti := in.taskInstances("shouting", "r")[0]; ti.TryNumber != 2 {
		t.Errorf("the interrupted task needed %d attempts, want 2", ti.TryNumber)
	}
	if said := tail(filepath.Join(home, "logs", "worker.log"), 100); !strings.Contains(said, "lines of a task's log are lost") {
		t.Errorf("the worker does not say that lines were lost:\n%s", said)
	}
}

func TestAFirstStartOnAFullDiskLeavesNothingHalfMade(t *testing.T) {
	home := smallDisk(t, "24m")
	in := prepare(t, home, "", map[string]string{"good.py": good("good")})
	fill(t, home)
	_, stderr, code := in.ostro("standalone", "--port", "0")
	if code != 7 || !strings.Contains(stderr, "no space left") {
		t.Errorf("a first start on a full disk ends with %d and says %q", code, stderr)
	}
	makeRoom(t, home)
	in.startServer()
	in.trigger("good", "r")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("good", "r") == "success" })
}

// remount makes a small disk read-only, or writable again.
func remount(t *testing.T, dir string, readOnly bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
		t.Fatalf("remount %s: %v", dir, err)
	}
}

func TestLogsThatFindNoRoomAreSaidByTheServerWhileTheDatabaseIsHealthy(t *testing.T) {
	t.Parallel() // it mostly waits
	home, logs := t.TempDir(), smallDisk(t, "1m")
	if err := os.Symlink(logs, filepath.Join(home, "logs")); err != nil {
		t.Fatal(err)
	}
	in := prepare(t, home, hostileConfiguration, map[string]string{"shouting.py": strings.ReplaceAll(shoutingDAG, "SECONDS", "3")})
	in.startServer()
	fill(t, logs)
	in.trigger("shouting", "r")
	in.eventually("the server says which log cannot be written", 30*time.Second, func() bool {
		database, problem := in.health()
		return database == "healthy" && strings.Contains(problem, "no space left") && strings.Contains(problem, filepath.Join(home, "logs"))
	})
	if said := in.said(); !strings.Contains(said, "the worker cannot write") {
		t.Errorf("the server's log does not say it:\n%s", said)
	}
	makeRoom(t, logs)
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("shouting", "r") == "success" })
	in.eventually("the server says that it is over", 30*time.Second, func() bool { _, problem := in.health(); return problem == "" })
}
