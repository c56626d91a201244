package app_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/config"
)

// inboxTrigger takes files out of a folder, and says in another where it runs and that it has ended.
const inboxTrigger = `
import asyncio
import os

from airflow.triggers.base import BaseEventTrigger, TriggerEvent


class Inbox(BaseEventTrigger):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def serialize(self):
        return "inbox.Inbox", {"folder": self.folder}

    async def run(self):
        self.note("pid", str(os.getpid()))
        while True:
            for name in sorted(os.listdir(self.folder)):
                path = os.path.join(self.folder, name)
                if name == "bad":
                    os.remove(path)
                    raise RuntimeError("no such queue")
                with open(path) as file:
                    text = file.read()
                os.remove(path)
                yield TriggerEvent({"name": name, "text": text, "pair": (1, 2)})
            await asyncio.sleep(0.05)

    async def cleanup(self):
        self.note("ended", str(os.getpid()))

    def note(self, name, text):
        path = os.path.join(os.path.dirname(self.folder), name)
        with open(path + "_", "w") as file:
            file.write(text)
        os.rename(path + "_", path)
`

const watchingDAG = `
import os

from airflow.sdk import DAG, Asset, AssetWatcher, task
from inbox import Inbox

INBOX = Asset("inbox", watchers=[AssetWatcher(name="files", trigger=Inbox(os.path.join(os.environ["MARKS"], "in")))])

with DAG("reads", schedule=[INBOX]):
    @task
    def read(triggering_asset_events):
        event, = triggering_asset_events[Asset("inbox")]
        assert event.extra["from_trigger"] is True, event.extra
        assert event.extra["payload"]["pair"] == [1, 2], event.extra
        return event.extra["payload"]["text"]
    read()
`

// watchedInbox is a folder whose files start runs.
type watchedInbox struct {
	*server
	t     *testing.T
	marks string
	runs  int
}

func newWatchedInbox(t *testing.T) (*watchedInbox, config.Config) {
	t.Helper()
	cfg := newConfig(t)
	w := &watchedInbox{t: t, marks: t.TempDir()}
	cfg.Tasks.Env = map[string]string{"MARKS": w.marks}
	if err := os.Mkdir(filepath.Join(w.marks, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeDAG(t, cfg, "inbox.py", inboxTrigger)
	writeDAG(t, cfg, "reads.py", watchingDAG)
	w.server = start(t, cfg)
	return w, cfg
}

// drop puts a file into the folder, whole.
func (w *watchedInbox) drop(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.marks, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(w.marks, "in", name)); err != nil {
		w.t.Fatal(err)
	}
}

// arrives drops a file and waits for the run that reads it.
func (w *watchedInbox) arrives(text string) {
	w.t.Helper()
	w.drop("a.txt", text)
	w.runs++
	var id string
	await(w.t, "run "+strconv.Itoa(w.runs), func() bool {
		code, body := w.call("GET", "/api/v2/dags/reads/dagRuns?order_by=run_after", "")
		var out struct {
			Runs []struct {
				ID string `json:"dag_run_id"`
			} `json:"dag_runs"`
		}
		if code != http.StatusOK || json.Unmarshal([]byte(body), &out) != nil || len(out.Runs) > w.runs {
			w.t.Fatalf("%d runs are expected: %d %s", w.runs, code, body)
		}
		if len(out.Runs) == w.runs {
			id = out.Runs[w.runs-1].ID
		}
		return id != ""
	})
	w.wait("reads", id, "success")
	if got := w.xcom("reads", id, "read", "return_value"); !strings.Contains(got, text) {
		w.t.Errorf("the run has read %s, not %s", got, text)
	}
}

// mark waits for a file of the trigger's and returns what is in it.
func (w *watchedInbox) mark(name string) string {
	w.t.Helper()
	var text []byte
	await(w.t, "the trigger's "+name, func() bool {
		var err error
		text, err = os.ReadFile(filepath.Join(w.marks, name))
		return err == nil
	})
	return string(text)
}

func (w *watchedInbox) forget(name string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.marks, name)); err != nil {
		w.t.Fatal(err)
	}
}

func TestWatchersStartRunsWhileNoTaskWaits(t *testing.T) {
	w, _ := newWatchedInbox(t)
	w.arrives("first")
	w.arrives("second")
	_, body := w.call("GET", "/api/v2/assets/events?order_by=-timestamp&limit=1", "")
	if want := `"extra":{"from_trigger":true,"payload":{"name":"a.txt","text":"second","pair":[1,2]}}`; !strings.Contains(body, want) {
		t.Errorf("the event has not %s: %s", want, body)
	}
	w.drop("bad", "") // the trigger fails, and runs again
	w.arrives("third")
}

func TestWatchersSurviveTheirTriggererAndTheServer(t *testing.T) {
	w, cfg := newWatchedInbox(t)
	w.arrives("first")
	w.forget("pid")
	w.close()
	w.server = start(t, cfg)
	w.arrives("second")
	pid := w.mark("pid")
	w.forget("pid")
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if again := w.mark("pid"); again == pid {
		t.Errorf("the trigger runs in %s again", pid)
	}
	w.arrives("third")
}

func TestWatchersEndWithTheirDeclarationAndWithWhoUsesThem(t *testing.T) {
	w, _ := newWatchedInbox(t)
	w.arrives("first")
	pause := func(paused string) {
		t.Helper()
		if code, body := w.call("PATCH", "/api/v2/dags/reads", `{"is_paused":`+paused+`}`); code != http.StatusOK {
			t.Fatal(code, body)
		}
	}
	pause("true")
	w.mark("ended")
	w.forget("ended")
	pause("false")
	w.arrives("second")
	w.writeDAG("reads.py", strings.Replace(watchingDAG, ", watchers=", ") #", 1))
	w.mark("ended")
	w.drop("left.txt", "x")
	_, body := w.call("GET", "/api/v2/dags/reads", "")
	if !strings.Contains(body, `"dag_id":"reads"`) {
		t.Error(body)
	}
	if _, err := os.Stat(filepath.Join(w.marks, "in", "left.txt")); err != nil {
		t.Error("something still takes files out of the folder:", err)
	}
}
