package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const inboxTriggers = `
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
        while True:
            for name in sorted(os.listdir(self.folder)):
                os.remove(os.path.join(self.folder, name))
                yield TriggerEvent(name)
            await asyncio.sleep(0.05)
`

const inboxDAG = `
from airflow.sdk import DAG, Asset, AssetWatcher, task
from inbox import Inbox

with DAG("reads", schedule=Asset("inbox", watchers=[AssetWatcher(name="files", trigger=Inbox("FOLDER"))])):
    @task
    def read(triggering_asset_events):
        return [event.extra["payload"] for event in triggering_asset_events[Asset("inbox")]]
    read()
`

// Server, worker and triggerer are killed in turn; files come while everything is up, and while there is no server. Each
// makes one event of the asset, and is read by one run.
func TestWatchersGoOnAfterKillsAndEachEventCountsOnce(t *testing.T) {
	folder := t.TempDir()
	in := newInstallation(t, configuration, map[string]string{"reads.py": strings.ReplaceAll(inboxDAG, "FOLDER", folder), "inbox.py": inboxTriggers})
	sent := 0
	drop := func() {
		t.Helper()
		sent++
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("file%02d", sent)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	events := func() []string {
		var out struct {
			Events []struct {
				Extra struct {
					FromTrigger bool   `json:"from_trigger"`
					Payload     string `json:"payload"`
				} `json:"extra"`
			} `json:"asset_events"`
		}
		if err := in.call("GET", "/api/v2/assets/events?limit=100", nil, &out); err != nil {
			return nil
		}
		var names []string
		for _, e := range out.Events {
			names = append(names, e.Extra.Payload)
		}
		return names
	}
	heard := func() {
		in.eventually("the event of every file", 60*time.Second, func() bool { return len(events()) >= sent })
	}
	drop()
	heard()
	for range 2 {
		in.killServer()
		drop() // its watcher takes it, and tells the next server
		in.startServer()
		heard()
		if !killFirst(in.processes("ostro triggerer")) {
			t.Fatal("there was no triggerer to kill")
		}
		drop()
		heard()
		former := in.processes("ostro triggerer")
		in.killWorker() // and with it the triggerer: not while it takes a file
		in.eventually("a triggerer of the next worker runs", 60*time.Second, func() bool {
			now := in.processes("ostro triggerer")
			return len(now) == 1 && !slices.Equal(now, former)
		})
		drop()
		heard()
	}
	in.eventually("runs that have read them all", 60*time.Second, func() bool { return in.consumed("reads") == sent })
	seen := map[string]int{}
	for _, name := range events() {
		seen[name]++
	}
	for i := range sent {
		if name := fmt.Sprintf("file%02d", i+1); seen[name] != 1 {
			t.Errorf("%s has made %d events", name, seen[name])
		}
	}
}

// consumed counts the asset events that successful runs of a DAG have consumed.
func (in *installation) consumed(dagID string) (n int) {
	var runs struct {
		Runs []struct {
			ID    string `json:"dag_run_id"`
			State string `json:"state"`
		} `json:"dag_runs"`
	}
	if err := in.call("GET", "/api/v2/dags/"+dagID+"/dagRuns?limit=100", nil, &runs); err != nil {
		return 0
	}
	for _, r := range runs.Runs {
		var read struct {
			Total int `json:"total_entries"`
		}
		if r.State != "success" || in.call("GET", "/api/v2/dags/"+dagID+"/dagRuns/"+r.ID+"/upstreamAssetEvents", nil, &read) != nil {
			continue
		}
		n += read.Total
	}
	return n
}
