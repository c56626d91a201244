package storetest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func testLists(f *fixture) {
	pooled := DAG("lists", "a", "b")
	pooled.Tags = []string{"ml"}
	pooled.Tasks[1].Pool = "gpu"
	f.update(func(tx *store.Tx) error { _, _, err := tx.PutDAG(pooled, "main", "b1", false); return err })
	f.publish("other")
	f.publish("gone")
	f.update(func(tx *store.Tx) error { return tx.RemoveDAG("gone") })
	f.update(func(tx *store.Tx) error { return tx.SetPaused("other", true) })
	var starts []time.Time
	for _, id := range []string{"r1", "r2", "r3"} {
		r, tis := f.start("lists", id, "a", "b")
		starts = append(starts, *r.StartDate)
		if id == "r1" {
			f.update(func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{Change(tis[1], run.Running)}) })
		}
		if id == "r2" {
			f.finish(&r, run.RunSuccess)
		}
	}
	f.start("other", "r1")

	runs := func(total int, q store.RunFilter, want ...string) {
		f.t.Helper()
		rs, n, err := f.db.Runs(f.ctx, q)
		f.must(err)
		var got []string
		for _, r := range rs {
			got = append(got, r.DAGID+"/"+r.RunID)
		}
		f.same("runs", want, got)
		f.same("total", total, n)
	}
	runs(4, store.RunFilter{}, "lists/r1", "lists/r2", "lists/r3", "other/r1")
	runs(4, store.RunFilter{DAGID: "~", OrderBy: []string{"-run_after"}, Limit: 2, Offset: 1}, "lists/r3", "lists/r2")
	runs(4, store.RunFilter{OrderBy: []string{"dag_id", "-run_id"}, Offset: 3}, "other/r1")
	runs(2, store.RunFilter{DAGID: "lists", States: []run.State{run.RunRunning}}, "lists/r1", "lists/r3")
	runs(1, store.RunFilter{States: []run.State{run.RunSuccess, run.RunFailed}, Types: []run.Type{run.TypeManual}}, "lists/r2")
	runs(2, store.RunFilter{DAGID: "lists", StartDateGTE: &starts[1], OrderBy: []string{"-start_date"}}, "lists/r3", "lists/r2")
	runs(1, store.RunFilter{DAGID: "lists", StartDateLTE: &starts[0], RunAfterLTE: &starts[0], RunAfterGTE: &starts[0]}, "lists/r1")
	runs(0, store.RunFilter{LogicalDateGTE: &Epoch, LogicalDateLTE: &Epoch})
	runs(1, store.RunFilter{DAGID: "lists", RunIDPattern: "R%3"}, "lists/r3")
	runs(2, store.RunFilter{DAGID: "lists", RunIDs: []string{"r3", "r1", "none"}}, "lists/r1", "lists/r3")
	runs(0, store.RunFilter{DAGID: "lists", LogicalDates: []time.Time{Epoch}})
	_, _, err := f.db.Runs(f.ctx, store.RunFilter{OrderBy: []string{"; DROP TABLE runs"}})
	f.isErr(store.ErrInvalid, err)

	tasks := func(total int, q store.TIFilter, want ...string) {
		f.t.Helper()
		ts, n, err := f.db.TaskInstances(f.ctx, q)
		f.must(err)
		var got []string
		for _, t := range ts {
			got = append(got, t.RunID+"/"+t.TaskID)
		}
		f.same("task instances", want, got)
		f.same("total", total, n)
	}
	tasks(2, store.TIFilter{DAGID: "lists", RunID: "r1"}, "r1/a", "r1/b")
	tasks(6, store.TIFilter{DAGID: "lists", OrderBy: []string{"-id"}, Limit: 1}, "r3/b")
	tasks(6, store.TIFilter{DAGID: "~", RunID: "~", OrderBy: []string{"task_id", "-run_id"}, Limit: 2}, "r3/a", "r2/a")
	tasks(1, store.TIFilter{States: []run.TaskState{run.Running, run.Queued}}, "r1/b")
	tasks(5, store.TIFilter{States: []run.TaskState{run.None}, Limit: 1}, "r1/a")
	tasks(3, store.TIFilter{TaskID: "a", MapIndex: ptr(-1)}, "r1/a", "r2/a", "r3/a")
	tasks(2, store.TIFilter{RunID: "r3"}, "r3/a", "r3/b")
	tasks(3, store.TIFilter{DAGID: "lists", Pools: []string{"gpu"}, Limit: 2, Offset: 1}, "r2/b", "r3/b")
	tasks(2, store.TIFilter{DAGID: "lists", RunID: "r1", Pools: []string{"gpu", store.DefaultPool}}, "r1/a", "r1/b")
	tasks(3, store.TIFilter{DAGID: "lists", RunIDs: []string{"r1", "r3"}, TaskIDs: []string{"a", "b", "none"}, States: []run.TaskState{run.None}}, "r1/a", "r3/a", "r3/b")
	states := map[string]run.TaskState{}
	f.must(f.db.TaskStates(f.ctx, store.TIFilter{DAGID: "lists", RunIDs: []string{"r1"}}, func(k run.Key, s run.TaskState) error {
		states[k.RunID+"/"+k.TaskID] = s
		return nil
	}))
	f.same("states", map[string]run.TaskState{"r1/a": run.None, "r1/b": run.Running}, states)
	stop := errors.New("enough")
	f.isErr(stop, f.db.TaskStates(f.ctx, store.TIFilter{}, func(run.Key, run.TaskState) error { return stop }))
	_, _, err = f.db.TaskInstances(f.ctx, store.TIFilter{OrderBy: []string{"nonsense"}})
	f.isErr(store.ErrInvalid, err)

	dags := func(total int, q store.DAGFilter, want ...string) {
		f.t.Helper()
		ds, n, err := f.db.DAGs(f.ctx, q)
		f.must(err)
		var got []string
		for _, d := range ds {
			got = append(got, d.DAG.ID)
		}
		f.same("DAGs", want, got)
		f.same("total", total, n)
	}
	dags(2, store.DAGFilter{}, "lists", "other")
	dags(3, store.DAGFilter{IncludeRemoved: true, OrderBy: []string{"-dag_id"}, Limit: 2}, "other", "lists")
	dags(1, store.DAGFilter{IDPattern: "LI%"}, "lists")
	dags(1, store.DAGFilter{Tags: []string{"ml", "x"}}, "lists")
	dags(1, store.DAGFilter{Paused: ptr(true)}, "other")
	dags(2, store.DAGFilter{OrderBy: []string{"-last_run_start_date"}}, "other", "lists")
	_, _, err = f.db.DAGs(f.ctx, store.DAGFilter{OrderBy: []string{"nonsense"}})
	f.isErr(store.ErrInvalid, err)
}

func testEvents(f *fixture) {
	f.publish("events", "a")
	_, tis := f.start("events", "r1", "a")
	since := f.last()
	changed := f.db.Changed()
	at := Epoch.Add(time.Minute)
	f.update(func(tx *store.Tx) error {
		return tx.Emit(store.Event{Kind: "custom", At: at, Actor: "someone", DAGID: "events", RunID: "r1", TaskID: "a", MapIndex: -1,
			Detail: json.RawMessage(`{"k":1}`)})
	})
	select {
	case <-changed:
	default:
		f.t.Error("a commit did not close the channel of Changed")
	}
	es, err := f.db.Events(f.ctx, since, 10)
	f.must(err)
	f.same("own event", []store.Event{{Seq: since + 1, At: at, Actor: "someone", Kind: "custom", DAGID: "events", RunID: "r1",
		TaskID: "a", MapIndex: -1, Detail: json.RawMessage(`{"k":1}`)}}, es)

	since = f.last()
	commits := f.db.Commits()
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error {
		if err := tx.Emit(store.Event{Kind: "undone", MapIndex: -1}); err != nil {
			return err
		}
		return store.ErrConflict
	})
	f.same("commits of a refused closure", commits, f.db.Commits())
	f.update(func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{Change(tis[0], run.Scheduled)}) })
	f.same("numbers have no gap where a closure was rolled back", []string{"task.state"}, f.eventsSince(since))
	f.same("one commit", commits+1, f.db.Commits())

	log, n, err := f.db.EventLog(f.ctx, store.EventFilter{DAGID: "events", RunID: "r1", Limit: 2})
	f.must(err)
	f.same("newest events of a run", []any{"task.state", "custom", 3}, []any{log[0].Kind, log[1].Kind, n})
	log, n, err = f.db.EventLog(f.ctx, store.EventFilter{DAGID: "events", TaskID: "a", MapIndex: ptr(-1), Actor: "someone",
		Kinds: []string{"custom"}, After: 1, OldestFirst: true})
	f.must(err)
	f.same("filtered", []any{"custom", 1}, []any{log[0].Kind, n})
}

func testClean(f *fixture) {
	f.publish("clean", "a")
	large := json.RawMessage(`"` + strings.Repeat("y", 100_000) + `"`)
	old, tis := f.start("clean", "old", "a")
	f.attempt(tis[0].Key, "at-old", 1)
	f.update(func(tx *store.Tx) error { return tx.EndAttempt(run.Attempt{ID: "at-old", State: run.Success}) })
	f.update(func(tx *store.Tx) error { return tx.PutXCom(tis[0].Key, "k", large, -1) })
	f.finish(&old, run.RunSuccess)
	before := f.now.Add(time.Millisecond)
	f.start("clean", "live", "a")
	young, _ := f.start("clean", "young", "a")
	f.finish(&young, run.RunSuccess)
	oldEvents, err := f.db.Events(f.ctx, 0, 0)
	f.must(err)
	n := 0
	for _, e := range oldEvents {
		if e.At.Before(before) {
			n++
		}
	}

	want := store.CleanReport{Runs: 1, TaskInstances: 1, Attempts: 1, XComs: 1, Events: n}
	got, err := f.db.Clean(f.ctx, before, true)
	f.must(err)
	f.same("dry run", want, got)
	_, err = f.db.Run(f.ctx, "clean", "old")
	f.must(err)
	got, err = f.db.Clean(f.ctx, before, false)
	f.must(err)
	f.same("report", want, got)
	_, err = f.db.Run(f.ctx, "clean", "old")
	f.isErr(store.ErrNotFound, err)
	_, err = f.db.Attempt(f.ctx, "at-old")
	f.isErr(store.ErrNotFound, err)
	for _, id := range []string{"live", "young"} {
		_, err = f.db.Run(f.ctx, "clean", id)
		f.must(err)
	}
	es, err := f.db.Events(f.ctx, 0, 0)
	f.must(err)
	f.same("oldest event left", int64(n+1), es[0].Seq)
	f.same("cleaning is logged", "db.cleaned", es[len(es)-1].Kind)
	r, err := f.db.Check(f.ctx)
	f.must(err)
	f.same("the young file waits for its grace", 1, r.OrphanBlobs)
	f.must(filepath.WalkDir(f.db.BlobDir(), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, Epoch, Epoch))
	}))
	got, err = f.db.Clean(f.ctx, before, false)
	f.must(err)
	f.same("second report", store.CleanReport{Blobs: 1, BlobBytes: int64(len(large))}, got)
	r, err = f.db.Check(f.ctx)
	f.must(err)
	f.same("after its grace it is gone", store.CheckReport{}, r)
}

func testBackup(f *fixture) {
	f.publish("backup", "a")
	_, tis := f.start("backup", "r1", "a")
	large := json.RawMessage(`"` + strings.Repeat("z", 100_000) + `"`)
	f.update(func(tx *store.Tx) error { return tx.PutXCom(tis[0].Key, "k", large, -1) })
	path := filepath.Join(f.t.TempDir(), "copy.db")
	err := f.db.Backup(f.ctx, path)
	if errors.Is(err, store.ErrBackup) {
		if !strings.Contains(err.Error(), "pg_dump ") {
			f.t.Errorf("the engine does not say how to back it up: %v", err)
		}
	} else {
		f.must(err)
		f.checkCopy(path, tis[0].Key, len(large))
	}
	current, newest, err := f.db.SchemaVersion(f.ctx)
	f.must(err)
	f.same("schema", newest, current)
}

// checkCopy wants a sound copy at path that holds a large value.
func (f *fixture) checkCopy(path string, k run.Key, size int) {
	f.t.Helper()
	f.isErr(store.ErrConflict, f.db.Backup(f.ctx, path))
	clone, err := store.Open(f.ctx, store.Options{Path: path, BlobDir: path + ".blobs"})
	f.must(err)
	defer func() { f.must(clone.Close()) }()
	x, err := clone.XCom(f.ctx, k, "k")
	f.must(err)
	f.same("large value in the copy", size, len(x.Value))
	r, err := clone.Check(f.ctx)
	f.must(err)
	f.same("check of the copy", store.CheckReport{Blobs: 1}, r)
}

func testHealth(f *fixture) {
	commits := f.db.Commits()
	f.must(f.db.Health(f.ctx))
	f.same("commits", commits+1, f.db.Commits())
	_, err := f.db.Meta(f.ctx, "health")
	f.must(err)
	f.update(func(tx *store.Tx) error { return tx.SetMeta("k", "v") })
	got, err := f.db.Meta(f.ctx, "k")
	f.must(err)
	f.same("meta", "v", got)
	_, err = f.db.Meta(f.ctx, "nothing")
	f.isErr(store.ErrNotFound, err)
}
