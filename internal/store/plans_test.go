package store

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

// recorder remembers the texts that go through the engine.
type recorder struct {
	engine
	mu    sync.Mutex
	texts []string
}

func (r *recorder) Rebind(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
	return r.engine.Rebind(text)
}

// TestNoHotQueryScansHistory explains every prepared statement, and the listings the scheduler and the UI ask for all the
// time, and refuses a walk through a table that grows with history. Walking an index that holds only what is live, or
// one in its order up to a limit, is what those indexes are for.
func TestNoHotQueryScansHistory(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "control.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	history(t, db)
	// Only what is asked for by hand, counted or cleaned may walk.
	byHand := []statement{blobsInUse, newestEvent, oldestEvent, bundleVersions, allInputs}
	for id, text := range controlStatements() {
		if !slices.Contains(byHand, statement(id)) {
			explainText(t, db, text)
		}
	}

	rec := &recorder{engine: db.eng}
	db.eng = rec
	now := time.Now()
	one := 0
	for _, f := range []RunFilter{
		{DAGID: "d", OrderBy: []string{"-run_after"}, Limit: 5}, {DAGID: "d", OrderBy: []string{"-start_date"}, Limit: 5},
		{DAGID: "d", States: []run.State{run.RunFailed}, Limit: 5, OrderBy: []string{"-run_after"}}, {States: []run.State{run.RunRunning}},
		{DAGID: "d", LogicalDateGTE: &now, LogicalDateLTE: &now}, {RunAfterGTE: &now, OrderBy: []string{"-run_after"}},
		{StartDateGTE: &now}, {DAGID: "d", RunIDs: []string{"r1", "r2"}, Limit: 1}, {DAGID: "d", LogicalDates: []time.Time{now}, Limit: 1},
	} {
		if _, _, err := db.Runs(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []TIFilter{
		{DAGID: "d", RunID: "r1"}, {DAGID: "d", RunID: "r1", TaskID: "t", MapIndex: &one}, {States: []run.TaskState{run.Running, run.Queued}},
		{States: []run.TaskState{run.Deferred}, Pools: []string{"p"}}, {DAGID: "d", TaskID: "t", Limit: 5},
		{DAGID: "d", RunIDs: []string{"r1", "r2"}, TaskIDs: []string{"t", "u"}, Limit: 1}, {DAGID: "d", LogicalDates: []time.Time{now}, Limit: 1},
	} {
		if _, _, err := db.TaskInstances(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	f := TIFilter{DAGID: "d", RunIDs: []string{"r1"}, TaskIDs: []string{"t"}}
	if err := db.TaskStates(t.Context(), f, func(run.Key, run.TaskState) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, f := range []EventFilter{{DAGID: "d", RunID: "r1", Kinds: []string{"run.triggered"}, Actor: "attempt:a"}, {DAGID: "d", RunID: "r1"}, {After: 10, OldestFirst: true}} {
		if _, _, err := db.EventLog(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range rec.texts {
		explainText(t, db, text)
	}
}

var (
	walk = regexp.MustCompile(`^SCAN (r|t|a|x|e|c|l|runs|task_instances|attempts|xcoms|events|callbacks)\b`)
	// live are the indexes of what is not history.
	live = regexp.MustCompile(`USING (COVERING )?INDEX (runs_live|attempts_open|callbacks_owed)\b`)
)

func explainText(t *testing.T, db *DB, text string) {
	t.Helper()
	args := make([]any, strings.Count(text, "?"))
	for i := range args {
		args[i] = 1
	}
	rows, err := db.eng.Readers().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		t.Fatalf("explain %s: %v", text, err)
	}
	err = drain(rows, func(row scanner) error {
		var id, parent, unused int
		var step string
		if err := row.Scan(&id, &parent, &unused, &step); err != nil {
			return err
		}
		if walk.MatchString(step) && !live.MatchString(step) {
			t.Errorf("%s\n\t%s", step, strings.Join(strings.Fields(text), " "))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// history makes some finished runs of a DAG.
func history(t *testing.T, db *DB) {
	t.Helper()
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	err := db.Update(t.Context(), "tester", now, func(tx *Tx) error {
		d := &dag.DAG{ID: "d", File: "d.py", Tasks: []dag.Task{{ID: "t"}}}
		if _, _, err := tx.PutDAG(d, "main", "b1", false); err != nil {
			return err
		}
		for i := range 20 {
			r := run.DAGRun{DAGID: "d", RunID: fmt.Sprint("r", i), Type: run.TypeManual, State: run.RunSuccess, RunAfter: now,
				QueuedAt: now, EndDate: &now}
			ti := run.TaskInstance{Key: run.Key{DAGID: "d", RunID: r.RunID, TaskID: "t", MapIndex: -1}, State: run.Success}
			if err := tx.CreateRun(&r, []run.TaskInstance{ti}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
