package scheduler_test

import (
	"encoding/json"
	"errors"
	"testing"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/scheduler"
)

// watching is a DAG that is scheduled by an asset with a watcher.
func watching(id, name, kwargs string) *dag.DAG {
	x := assetExpr(name)
	x.Asset.Watchers = []dag.AssetWatcher{{Name: "w", Classpath: "my.Queue", Kwargs: json.RawMessage(kwargs)}}
	return consumer(id, x)
}

// fired has a triggerer report what a watcher's trigger has fired.
func (w *world) fired(triggerer, id, payload string) {
	w.t.Helper()
	w.report(triggerer, scheduler.TriggerReport{WaitID: id, Payload: json.RawMessage(payload)})
}

func TestAssetsWatchedByTheSameTriggerShareIt(t *testing.T) {
	t.Parallel()
	p := newPythons()
	w := newWorld(t, p.script, watching("a", "one", `{"q":1}`), watching("b", "two", `{"q":1}`), watching("c", "three", `{"q":2}`))
	id := p.triggerer(w, 1)
	for _, order := range w.ask(id, 2).Add {
		if string(order.Kwargs) == `{"q":1}` {
			w.fired(id, order.ID, `{"n":1}`)
		}
		if order.Classpath != "my.Queue" || order.Asset == "" || order.File != order.DAGID+".py" {
			t.Errorf("%+v", order)
		}
	}
	for _, dagID := range []string{"a", "b"} {
		r := w.ended(w.runsOf(dagID, 1)[0])
		events, err := w.db.ConsumedAssetEvents(t.Context(), r.DAGID, r.RunID)
		if err != nil || len(events) != 1 || string(events[0].Extra) != `{"from_trigger":true,"payload":{"n":1}}` {
			t.Errorf("%s: %+v, %v", dagID, events, err)
		}
	}
	w.runsOf("c", 0)
}

func TestAServerRestartFindsItsWatchersRunning(t *testing.T) {
	t.Parallel()
	p := newPythons()
	w := newWorld(t, p.script, watching("a", "one", `{}`))
	id := p.triggerer(w, 1)
	before := w.ask(id, 1)
	w.crash()
	w.start()
	work, err := w.s.TriggererWork(t.Context(), id, before.Token)
	if err != nil || len(work.Add) != 1 || work.Add[0].ID != before.Add[0].ID {
		t.Fatalf("what the same triggerer is told: %+v, %v", work, err)
	}
	w.fired(id, before.Add[0].ID, `1`)
	w.ended(w.runsOf("a", 1)[0])
	w.ex.Restart() // the worker dies, and everything below it
	second := p.triggerer(w, 2)
	if _, err := w.s.TriggererWork(t.Context(), id, ""); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("the former one is told %v", err)
	}
	w.fired(second, w.ask(second, 1).Add[0].ID, `2`)
	w.ended(w.runsOf("a", 2)[1])
}

func TestAWatcherRunsWhileItIsDeclaredAndSomebodyUsesIt(t *testing.T) {
	t.Parallel()
	p := newPythons()
	w := newWorld(t, p.script, watching("a", "one", `{}`))
	id := p.triggerer(w, 1)
	work := w.ask(id, 1)
	watcher := work.Add[0].ID
	cancelled := func() {
		t.Helper()
		w.wait("the end of the watcher", func() bool {
			next, err := w.s.TriggererWork(t.Context(), id, work.Token)
			if err != nil {
				t.Fatal(err)
			}
			work.Token = next.Token
			return len(next.Cancel) == 1 && next.Cancel[0].ID == watcher && !next.Cancel[0].Killed
		})
	}
	added := func() {
		t.Helper()
		next, err := w.s.TriggererWork(t.Context(), id, work.Token)
		if err != nil || len(next.Add) != 1 || next.Add[0].ID != watcher || len(next.Cancel) != 0 {
			t.Fatalf("%+v, %v", next, err)
		}
		work.Token = next.Token
	}
	pause := func(paused bool) {
		t.Helper()
		if err := w.s.SetPaused(t.Context(), "user:test", "a", paused); err != nil {
			t.Fatal(err)
		}
	}
	pause(true)
	cancelled()
	w.fired(id, watcher, `"late"`) // nobody's any more
	pause(false)
	pause(true)
	pause(false)
	added() // however often it went and came
	w.publish(consumer("a", assetExpr("one")))
	w.s.DAGsChanged()
	cancelled()
	w.runsOf("a", 0)
}

func TestAWatcherThatBlocksGetsAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPythons()
	w := newWorld(t, p.script, watching("a", "one", `{"q":1}`), watching("b", "two", `{"q":2}`))
	id := p.triggerer(w, 1)
	watcher := w.ask(id, 2).Add[0].ID
	w.report(id, scheduler.TriggerReport{WaitID: watcher, Blocks: "it sleeps", Alone: true})
	if own := w.ask(p.triggerer(w, 2), 1).Add; len(own) != 1 || own[0].ID != watcher {
		t.Errorf("the second process runs %+v", own)
	}
}
