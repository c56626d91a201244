package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
)

// TestAnyMixOfClosuresGivesWhatTheGuardsAllow runs random closures, alone and in batches, against a model: each is applied
// whole when all its guards hold and it does not fail, else not at all; and the events alone tell every state.
func TestAnyMixOfClosuresGivesWhatTheGuardsAllow(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		publish(t, db)
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			runs++
			m := newModel(t, db, fmt.Sprint("model", runs))
			for range rapid.IntRange(1, 4).Draw(rt, "batches") {
				var fs []func(*store.Tx) error
				var wants []bool
				for range rapid.IntRange(1, 5).Draw(rt, "closures") {
					f, want := m.closure(rt)
					fs, wants = append(fs, f), append(wants, want)
				}
				for i, err := range together(t, db, fs...) {
					if (err == nil) != wants[i] {
						rt.Fatalf("closure %d: got error %v, the model says success is %v", i, err, wants[i])
					}
				}
			}
			m.compare(rt)
		})
	})
}

type model struct {
	t     *testing.T
	db    *store.DB
	runID string
	tis   []run.TaskInstance
	since int64
}

func newModel(t *testing.T, db *store.DB, runID string) *model {
	r, tis := storetest.Run("d", runID, storetest.Epoch, "a", "b", "c")
	if err := update(db, func(tx *store.Tx) error { return tx.CreateRun(&r, tis) }); err != nil {
		t.Fatal(err)
	}
	since, err := db.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &model{t: t, db: db, runID: runID, tis: tis, since: since}
}

// closure draws one closure of some changes, and applies it to the model if it ought to succeed. Closures run in the order
// in which they are drawn.
func (m *model) closure(rt *rapid.T) (f func(*store.Tx) error, success bool) {
	after := append([]run.TaskInstance(nil), m.tis...)
	success = true
	var cs []plan.TaskChange
	for range rapid.IntRange(1, 3).Draw(rt, "changes") {
		i := rapid.IntRange(0, len(after)-1).Draw(rt, "instance")
		c := storetest.Change(after[i], rapid.SampledFrom([]run.TaskState{run.Scheduled, run.Queued, run.Running, run.Success}).Draw(rt, "to"))
		if rapid.IntRange(0, 9).Draw(rt, "stale") == 0 {
			c.Before.Version += 3
			success = false
		}
		cs = append(cs, c)
		after[i] = c.After
		after[i].Version++
	}
	fail := rapid.IntRange(0, 9).Draw(rt, "fail") == 0
	success = success && !fail
	if success {
		m.tis = after
	}
	return func(tx *store.Tx) error {
		if err := tx.ChangeTasks(cs); err != nil {
			return err
		}
		if fail {
			return errors.New("fails at its end")
		}
		return nil
	}, success
}

func (m *model) compare(rt *rapid.T) {
	got, _, err := m.db.TaskInstances(m.t.Context(), store.TIFilter{DAGID: "d", RunID: m.runID})
	if err != nil {
		rt.Fatal(err)
	}
	if d := cmp.Diff(m.tis, got); d != "" {
		rt.Fatalf("instances (-model +store):\n%s", d)
	}
	es, err := m.db.Events(m.t.Context(), m.since, 0)
	if err != nil {
		rt.Fatal(err)
	}
	told := map[string]string{"a": "", "b": "", "c": ""}
	for i, e := range es {
		if e.Seq != m.since+int64(i)+1 {
			rt.Fatalf("event %d after %d has number %d", i, m.since, e.Seq)
		}
		if e.Kind == "task.state" {
			if told[e.TaskID] != e.From {
				rt.Fatalf("event %d says %s was %q, the events before say %q", e.Seq, e.TaskID, e.From, told[e.TaskID])
			}
			told[e.TaskID] = e.To
		}
	}
	for _, t := range m.tis {
		if told[t.TaskID] != string(t.State) {
			rt.Fatalf("the events say %s is %q, it is %q", t.TaskID, told[t.TaskID], t.State)
		}
	}
}
