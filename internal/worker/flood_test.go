package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
)

const floodFile = `
import logging, sys, threading, time
from datetime import datetime
from airflow import DAG
from airflow.models import Variable
from airflow.operators.python import PythonOperator

def alternate():
    for i in range(0, 600, 3):
        sys.stdout.write("%d\n" % i)
        logging.info("%d", i + 1)
        sys.stdout.write("%d\n" % (i + 2))
    sys.stdout.write("600")
    logging.info("601")

def flood():
    line = "flood " + "x" * 93 + "\n"
    for _ in range(300):
        sys.stdout.write(line * 1000)

def both():
    thread = threading.Thread(target=flood)
    thread.start()
    while thread.is_alive():
        logging.info("tick")
    thread.join()
    alternate()

def beside():
    thread = threading.Thread(target=flood)
    thread.start()
    alternate()
    thread.join()

def asks():
    for _ in range(100):
        threading.Thread(target=Variable.get, args=("x",), daemon=True).start()
    for i in range(20000):
        print("line", i)
    logging.info("behind what nobody answers")
    time.sleep(1000)

with DAG("real", start_date=datetime(2024, 1, 1), schedule=None, catchup=False) as dag:
    for function in (alternate, flood, both, beside, asks):
        PythonOperator(task_id=function.__name__, python_callable=function)
`

// inOrder checks that a log has every number that a task printed and logged, each in its place.
func inOrder(t *testing.T, lines []logLine) {
	t.Helper()
	var got, want []string
	for _, l := range lines {
		if _, err := strconv.Atoi(l.M); err == nil {
			got = append(got, l.M)
		}
	}
	for i := range 602 {
		want = append(want, fmt.Sprint(i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(lines, func(a, b logLine) int { return a.T.Compare(b.T) }) {
		t.Error("the times go backwards")
	}
}

func floodFixture(t *testing.T) *fixture {
	t.Helper()
	f := realFixture(t)
	if err := os.WriteFile(filepath.Join(f.bundle, "flood.py"), []byte(floodFile), 0o644); err != nil {
		t.Fatal(err)
	}
	f.connect()
	return f
}

func TestTasksKeepTheOrderOfTheirLogsBesideAFlood(t *testing.T) {
	t.Parallel()
	f := floodFixture(t)
	flood := f.launch(f.attempt("", task("flood"), inFile("flood.py")))
	var ids []string
	for range 12 {
		ids = append(ids, f.launch(f.attempt("", task("alternate"), inFile("flood.py"))))
	}
	for _, id := range ids {
		if r := f.server.result(t, id); r.State != run.Success {
			t.Fatalf("%+v", r)
		}
		inOrder(t, readLog(t, f.logPath(id)))
	}
	if r := f.server.result(t, flood); r.State != run.Success {
		t.Fatalf("%+v", r)
	}
	if n := strings.Count(strings.Join(texts(readLog(t, f.logPath(flood)), streamOut), "\n"), "flood "); n != 300_000 {
		t.Errorf("%d lines of the flood are there", n)
	}
}

func TestATaskThatFloodsItsOwnLogKeepsTheOrderOfTheRest(t *testing.T) {
	t.Parallel()
	f := floodFixture(t)
	for _, name := range []string{"both", "beside"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := f.do("", task(name), inFile("flood.py"))
			if r.State != run.Success {
				t.Fatalf("%+v", r)
			}
			inOrder(t, readLog(t, f.logPath(r.AttemptID)))
		})
	}
}

func TestWhatATaskPrintsIsStoredWhileItsRequestsWait(t *testing.T) {
	t.Parallel()
	f := floodFixture(t)
	f.waitForLine(f.launch(f.attempt("", task("asks"), inFile("flood.py"))), "line 19999") // the server never answers
}
