package scheduler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

func asset(name string) dag.AssetRef { return dag.AssetRef{Name: name, URI: "s3://" + name} }

func assetExpr(name string) dag.AssetExpr {
	ref := asset(name)
	return dag.AssetExpr{Asset: &ref}
}

// producer is a DAG of one task that updates an asset of the DAG's name.
func producer(id string) *dag.DAG {
	d := chain(id, 1)
	d.Tasks[0].Outlets = []dag.AssetRef{asset(id)}
	return d
}

func consumer(id string, x dag.AssetExpr) *dag.DAG {
	d := chain(id, 1)
	d.Schedule = dag.Schedule{Kind: dag.ScheduleAssets, Assets: &x}
	return d
}

// updates is a script whose producers report the asset of their DAG's name, with their run's id as extra.
func updates(a executor.Attempt) scripted.Behaviour {
	ti := a.Startup.TI
	if strings.HasPrefix(ti.DAGID, "use") {
		return scripted.Behaviour{}
	}
	return scripted.Behaviour{Outlets: json.RawMessage(fmt.Sprintf(`[{"name":%q,"uri":"s3://%s","extra":{"run":%q}}]`, ti.DAGID, ti.DAGID, ti.RunID))}
}

// runsOf waits for n runs of a DAG and returns them, oldest first.
func (w *world) runsOf(dagID string, n int) []run.DAGRun {
	w.t.Helper()
	var out []run.DAGRun
	w.wait(fmt.Sprintf("%d runs of %s", n, dagID), func() bool {
		var err error
		if out, _, err = w.db.Runs(w.t.Context(), store.RunFilter{DAGID: dagID}); err != nil {
			w.t.Fatal(err)
		}
		return len(out) >= n
	})
	if len(out) > n {
		w.t.Fatalf("%s has %d runs, want %d", dagID, len(out), n)
	}
	return out
}

// consumed lists the assets of the events a run has consumed.
func (w *world) consumed(r run.DAGRun) []string {
	w.t.Helper()
	es, err := w.db.ConsumedAssetEvents(w.t.Context(), r.DAGID, r.RunID)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Key.Name)
	}
	return names
}

func TestARunBeginsWhenItsAssetExpressionIsSatisfied(t *testing.T) {
	t.Parallel()
	both := consumer("use_both", dag.AssetExpr{All: []dag.AssetExpr{assetExpr("a"), assetExpr("b")}})
	either := consumer("use_any", dag.AssetExpr{Any: []dag.AssetExpr{assetExpr("a"), {Asset: &dag.AssetRef{Name: "b"}}}})
	var mu sync.Mutex
	seen := map[string]json.RawMessage{}
	script := func(a executor.Attempt) scripted.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		seen[a.Startup.TI.DAGID] = a.Startup.Context.DagRun.ConsumedAssetEvent
		return updates(a)
	}
	w := newWorld(t, script, producer("a"), producer("b"), both, either)
	first := w.ended(w.trigger("a"))
	w.ended(w.runsOf("use_any", 1)[0])
	w.ended(w.trigger("a"))
	w.ended(w.runsOf("use_any", 2)[1])
	w.runsOf("use_both", 0)
	w.ended(w.trigger("b"))
	w.ended(w.runsOf("use_any", 3)[2])
	r := w.ended(w.runsOf("use_both", 1)[0])
	if r.Type != run.TypeAssetTriggered || r.LogicalDate != nil || r.DataIntervalEnd != nil || !strings.HasPrefix(r.RunID, "asset_triggered__") {
		t.Errorf("the run is %+v", r)
	}
	if d := cmp.Diff([]string{"a", "a", "b"}, w.consumed(r)); d != "" {
		t.Errorf("consumed: %s", d)
	}
	mu.Lock()
	defer mu.Unlock()
	var events []struct {
		Asset struct{ Name, URI string }
		Extra struct{ Run string }
		RunID string `json:"source_run_id"`
	}
	if err := json.Unmarshal(seen["use_both"], &events); err != nil || len(events) != 3 {
		t.Fatalf("the task saw %s: %v", seen["use_both"], err)
	}
	if e := events[0]; e.Asset.URI != "s3://a" || e.Extra.Run != first.RunID || e.RunID != first.RunID {
		t.Errorf("the first event the task saw is %+v", e)
	}
}

func TestAnAliasLeadsToTheAssetsThatTasksResolveItTo(t *testing.T) {
	t.Parallel()
	made := chain("made", 1)
	made.Tasks[0].Outlets = []dag.AssetRef{{Name: "found", Alias: true}}
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.DAGID != "made" {
			return scripted.Behaviour{}
		}
		return scripted.Behaviour{Outlets: json.RawMessage(`[{"name":"x","uri":"s3://x","extra":{},"alias":"found"},
			{"name":"x","uri":"s3://x","extra":{},"alias":"other"},{"name":"nobody knows","extra":{}}]`)}
	}
	w := newWorld(t, script, made, consumer("use_alias", dag.AssetExpr{Alias: "found"}), consumer("use_x", assetExpr("x")))
	w.ended(w.trigger("made"))
	for _, id := range []string{"use_alias", "use_x"} {
		if d := cmp.Diff([]string{"x"}, w.consumed(w.ended(w.runsOf(id, 1)[0]))); d != "" {
			t.Errorf("%s consumed: %s", id, d)
		}
	}
	if _, err := w.s.AddAssetEvent(t.Context(), "user:test", dag.AssetKey{Name: "x", URI: "s3://x"}, nil); err != nil {
		t.Fatal(err)
	}
	w.ended(w.runsOf("use_x", 2)[1])
	w.runsOf("use_alias", 1) // an event that did not come by the alias
}

func TestAPausedDAGQueuesNothingButConsumesLaterWhatHappenedMeanwhile(t *testing.T) {
	t.Parallel()
	both := consumer("use_both", dag.AssetExpr{All: []dag.AssetExpr{assetExpr("a"), assetExpr("b")}})
	w := newWorld(t, updates, producer("a"), producer("b"), both)
	pause := func(p bool) {
		t.Helper()
		if err := w.s.SetPaused(t.Context(), "user:test", "use_both", p); err != nil {
			t.Fatal(err)
		}
	}
	w.ended(w.trigger("a")) // queued, and stays so
	pause(true)
	w.ended(w.trigger("b"))
	pause(false)
	w.crash() // what is queued is stored
	w.start()
	w.runsOf("use_both", 0)
	w.ended(w.trigger("b"))
	if d := cmp.Diff([]string{"a", "b", "b"}, w.consumed(w.ended(w.runsOf("use_both", 1)[0]))); d != "" {
		t.Errorf("consumed: %s", d)
	}
}

func TestEventsGatherWhileMaxActiveRunsAreLive(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	script := func(a executor.Attempt) scripted.Behaviour {
		if a.Startup.TI.DAGID == "use_a" {
			<-release
		}
		return updates(a)
	}
	d := consumer("use_a", assetExpr("a"))
	d.MaxActiveRuns = 1
	w := newWorld(t, script, producer("a"), d)
	for range 4 {
		w.ended(w.trigger("a"))
	}
	w.runsOf("use_a", 1)
	close(release)
	rs := w.runsOf("use_a", 2)
	if d := cmp.Diff([]int{1, 3}, []int{len(w.consumed(w.ended(rs[0]))), len(w.consumed(w.ended(rs[1])))}); d != "" {
		t.Errorf("events consumed by each run: %s", d)
	}
}

func TestATaskThatFailsOrIsSkippedUpdatesNoAsset(t *testing.T) {
	t.Parallel()
	script := func(a executor.Attempt) scripted.Behaviour {
		b := updates(a)
		if a.Startup.TI.TryNumber == 1 {
			b.Exit = 1
		}
		return b
	}
	d := producer("a")
	d.Tasks[0].Retries = 1
	w := newWorld(t, script, d, consumer("use_a", assetExpr("a")))
	w.ended(w.trigger("a"))
	if got := w.consumed(w.runsOf("use_a", 1)[0]); len(got) != 1 {
		t.Errorf("the try that failed and the one that did not made events %v", got)
	}
}

func TestAssetsOrTimeBringAboutRunsOfBothKinds(t *testing.T) {
	t.Parallel()
	x := assetExpr("a")
	d := consumer("use_a", x)
	start := time.Now().Add(-90 * time.Minute).Truncate(time.Hour)
	d.StartDate, d.Catchup = &start, true
	d.Schedule = dag.Schedule{Kind: dag.ScheduleAssetOrTime, Assets: &x, Time: &dag.Schedule{Kind: dag.ScheduleOnce}}
	w := newWorld(t, updates, producer("a"), d)
	w.ended(w.runsOf("use_a", 1)[0])
	w.ended(w.trigger("a"))
	rs := w.runsOf("use_a", 2)
	if rs[0].Type != run.TypeScheduled || rs[1].Type != run.TypeAssetTriggered {
		t.Errorf("runs: %s, %s", rs[0].Type, rs[1].Type)
	}
}

func TestQueuedAssetsCanBeTakenBackAndAssetsMaterialized(t *testing.T) {
	t.Parallel()
	both := consumer("use_both", dag.AssetExpr{All: []dag.AssetExpr{assetExpr("a"), assetExpr("b")}})
	second := producer("b")
	second.ID = "also_b"
	w := newWorld(t, updates, producer("a"), producer("b"), second, both)
	key := func(name string) dag.AssetKey { return dag.AssetKey{Name: name, URI: "s3://" + name} }
	r, err := w.s.Materialize(t.Context(), "user:test", key("a"), scheduler.TriggerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r = w.ended(r); r.Type != run.TypeAssetMaterialization || r.DAGID != "a" || !strings.HasPrefix(r.RunID, "asset_materialization__") {
		t.Errorf("the run is %+v", r)
	}
	a := key("a")
	if err := w.s.UnqueueAssets(t.Context(), "user:test", "use_both", &a, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.s.UnqueueAssets(t.Context(), "user:test", "use_both", nil, nil); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("taking back what is not queued: %v", err)
	}
	w.ended(w.trigger("b"))
	w.runsOf("use_both", 0)
	for name, want := range map[string]error{"b": scheduler.ErrConflict, "nothing": scheduler.ErrNotFound} {
		if _, err := w.s.Materialize(t.Context(), "user:test", key(name), scheduler.TriggerRequest{}); !errors.Is(err, want) {
			t.Errorf("materialize %s: %v, want %v", name, err, want)
		}
	}
	if _, err := w.s.AddAssetEvent(t.Context(), "user:test", key("nothing"), nil); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("an event of an asset that is not there: %v", err)
	}
	got, err := w.s.AddAssetEvent(t.Context(), "user:test", a, json.RawMessage(`{"by":"hand"}`))
	if err != nil || got.ID == 0 || got.Source.DAGID != "" {
		t.Errorf("the event is %+v: %v", got, err)
	}
	w.runsOf("use_both", 1)
}

// TestEveryCommitOfAnAssetChainMayFail kills the server at each commit point in turn while a producer's end brings about
// a consumer's run, and checks that every event is consumed exactly once.
func TestEveryCommitOfAnAssetChainMayFail(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		if !assetChainWithFault(t, n) {
			t.Logf("%d commit points", n-1)
			return
		}
	}
}

// assetChainWithFault fails the n-th commit point and reports whether there was one.
func assetChainWithFault(t *testing.T, n int) (failed bool) {
	t.Helper()
	ok := t.Run(fmt.Sprintf("commit point %d", n), func(t *testing.T) {
		w := newWorld(t, updates, producer("a"), consumer("use_a", assetExpr("a")))
		w.crash()
		if err := w.db.Close(); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		left := n
		died := make(chan struct{})
		w.open(func(point string) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left != 0 {
				return nil
			}
			failed = true
			close(died)
			return fmt.Errorf("killed at %s", point)
		})
		w.start()
		var r run.DAGRun
		for r.RunID == "" {
			got, err := w.s.Trigger(t.Context(), "user:test", scheduler.TriggerRequest{DAGID: "a", RunID: "r1"})
			switch {
			case err == nil:
				r = got
			case errors.Is(err, scheduler.ErrConflict):
				r = run.DAGRun{DAGID: "a", RunID: "r1"}
			}
		}
		select {
		case <-died:
			w.crash()
			w.start()
		default:
		}
		w.ended(r)
		c := w.ended(w.runsOf("use_a", 1)[0])
		if d := cmp.Diff([]string{"a"}, w.consumed(c)); d != "" {
			t.Errorf("consumed: %s", d)
		}
		es, _, err := w.db.AssetEvents(t.Context(), store.AssetEventFilter{})
		if err != nil || len(es) != 1 || len(es[0].Runs) != 1 {
			t.Errorf("events: %+v, %v", es, err)
		}
		qs, err := w.db.QueuedAssets(t.Context())
		if err != nil || len(qs) != 0 {
			t.Errorf("still queued: %+v, %v", qs, err)
		}
		mu.Lock()
		defer mu.Unlock()
		failed = failed && left <= 0
	})
	return failed && ok
}
