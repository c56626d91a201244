package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const chain = `
from datetime import datetime
from airflow.decorators import dag, task


@dag(schedule=None, start_date=datetime(2024, 1, 1))
def chain():
    @task
    def step():
        pass

    before = None
    for i in range(40):
        one = step.override(task_id="t%02d" % i)()
        if before is not None:
            before >> one
        before = one


chain()
`

// TestInAChainOfFortyTasksEachIsQueuedWhenTheOneBeforeHasEnded says, too, how long a task took; make bench measures it.
func TestInAChainOfFortyTasksEachIsQueuedWhenTheOneBeforeHasEnded(t *testing.T) {
	cfg := newConfig(t)
	if err := os.WriteFile(filepath.Join(cfg.DAGs, "chain.py"), []byte(chain), 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	for i := range 4 {
		id := fmt.Sprintf("r%d", i)
		code, body := s.call("POST", "/api/v2/dags/chain/dagRuns", fmt.Sprintf(`{"dag_run_id": %q, "logical_date": null}`, id))
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		s.wait("chain", id, "success")
		_, body = s.call("GET", "/api/v2/dags/chain/dagRuns/"+id+"/taskInstances?limit=100", "")
		type instance struct {
			ID     string    `json:"task_id"`
			Queued time.Time `json:"queued_when"`
			End    time.Time `json:"end_date"`
		}
		var list struct {
			TIs []instance `json:"task_instances"`
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.TIs) != 40 {
			t.Fatalf("%d task instances: %v", len(list.TIs), err)
		}
		slices.SortFunc(list.TIs, func(a, b instance) int { return strings.Compare(a.ID, b.ID) })
		for n, ti := range list.TIs {
			if n > 0 && ti.Queued.Before(list.TIs[n-1].End) {
				t.Errorf("run %d: %s was queued at %s, %s ended at %s", i, ti.ID, ti.Queued, list.TIs[n-1].ID, list.TIs[n-1].End)
			}
		}
		t.Logf("run %d: %s a task", i, list.TIs[39].End.Sub(list.TIs[0].Queued)/40)
	}
}
