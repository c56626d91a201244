package storetest

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

func testDAGs(f *fixture) {
	put := func(bundleVersion string, tasks ...string) (version int, created bool) {
		f.t.Helper()
		d := DAG("dags", tasks...)
		d.Tags = []string{"ml", "nightly"}
		f.update(func(tx *store.Tx) (err error) {
			version, created, err = tx.PutDAG(d, "main", bundleVersion, true)
			return err
		})
		return version, created
	}
	since := f.last()
	v, created := put("b1", "a")
	f.same("first publication", []any{1, true}, []any{v, created})
	v, created = put("b2", "a")
	f.same("only the bundle moved", []any{1, false}, []any{v, created})
	v, created = put("b2", "a")
	f.same("nothing changed", []any{1, false}, []any{v, created})
	v, created = put("b3", "a", "b")
	f.same("a new version", []any{2, true}, []any{v, created})
	f.same("events", []string{"dag.published", "dag.moved", "dag.published"}, f.eventsSince(since))

	d, info, err := f.db.DAGVersion(f.ctx, "dags", 0)
	f.must(err)
	f.same("newest version", []any{2, "b3", 2, f.now}, []any{info.Number, info.BundleVersion, len(d.Tasks), info.CreatedAt})
	d, info, err = f.db.DAGVersion(f.ctx, "dags", 1)
	f.must(err)
	f.same("first version", []any{1, "b2", 1}, []any{info.Number, info.BundleVersion, len(d.Tasks)})
	vs, err := f.db.DAGVersions(f.ctx, "dags")
	f.must(err)
	f.same("all versions", []int{2, 1}, []int{vs[0].Number, vs[1].Number})
	_, _, err = f.db.DAGVersion(f.ctx, "dags", 9)
	f.isErr(store.ErrNotFound, err)

	got, err := f.db.DAG(f.ctx, "dags")
	f.must(err)
	want := DAG("dags", "a", "b")
	want.Tags = []string{"ml", "nightly"}
	f.same("DAG as listed", store.DAGInfo{DAG: want, Paused: true, Version: 2, Bundle: "main", BundleVersion: "b3", LastParsed: f.now}, got)

	since = f.last()
	f.update(func(tx *store.Tx) error { return tx.SetPaused("dags", false) })
	f.update(func(tx *store.Tx) error { return tx.SetPaused("dags", false) })
	f.update(func(tx *store.Tx) error { return tx.SetPaused("dags", true) })
	f.update(func(tx *store.Tx) error { return tx.RemoveDAG("dags") })
	f.update(func(tx *store.Tx) error { return tx.RemoveDAG("dags") })
	put("b3", "a", "b")
	f.same("events of switches", []string{"dag.unpaused", "dag.paused", "dag.removed", "dag.restored"}, f.eventsSince(since))
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.SetPaused("nowhere", true) })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.RemoveDAG("nowhere") })

	next := store.NextRun{LogicalDate: Epoch, IntervalStart: Epoch, IntervalEnd: Epoch.Add(time.Hour), RunAfter: Epoch.Add(time.Hour)}
	f.update(func(tx *store.Tx) error {
		return tx.SetNextRun("dags", store.ScheduleState{LastSlot: &Epoch, NextRun: &next})
	})
	got, err = f.db.DAG(f.ctx, "dags")
	f.must(err)
	f.same("schedule", store.ScheduleState{LastSlot: &Epoch, NextRun: &next}, got.Schedule)
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.SetNextRun("nowhere", store.ScheduleState{}) })

	never := false
	open := DAG("open", "a")
	open.PausedUponCreation = &never
	f.update(func(tx *store.Tx) error { _, _, err := tx.PutDAG(open, "main", "b1", true); return err })
	got, err = f.db.DAG(f.ctx, "open")
	f.must(err)
	f.same("paused as the author says", false, got.Paused)

	r, _ := f.start("dags", "r1", "a")
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.DeleteDAG("dags") })
	f.finish(&r, run.RunSuccess)
	f.update(func(tx *store.Tx) error { return tx.DeleteDAG("dags") })
	_, err = f.db.DAG(f.ctx, "dags")
	f.isErr(store.ErrNotFound, err)
	_, err = f.db.Run(f.ctx, "dags", "r1")
	f.isErr(store.ErrNotFound, err)
	f.same("the newest DAG", []string{"a"}, f.tasksOf("open"))
	f.update(func(tx *store.Tx) error { return tx.DeleteDAG("open") })
	f.update(func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(DAG("after", "x", "y"), "main", "b1", true)
		return err
	})
	f.same("the DAG that came after it", []string{"x", "y"}, f.tasksOf("after"))
}

// tasksOf lists the tasks of the newest version of a DAG.
func (f *fixture) tasksOf(dagID string) []string {
	f.t.Helper()
	i, err := f.db.DAG(f.ctx, dagID)
	f.must(err)
	var ids []string
	for _, t := range i.DAG.Tasks {
		ids = append(ids, t.ID)
	}
	return ids
}

func testBundles(f *fixture) {
	b := store.BundleVersion{Bundle: "main", Version: "h1", Path: "/bundles/h1", At: Epoch}
	since := f.last()
	f.update(func(tx *store.Tx) error { return tx.PutBundleVersion(b) })
	f.update(func(tx *store.Tx) error { return tx.PutBundleVersion(b) })
	got, err := f.db.BundleVersion(f.ctx, "main", "h1")
	f.must(err)
	f.same("bundle version", b, got)
	all, err := f.db.BundleVersions(f.ctx)
	f.must(err)
	f.same("all of them", []store.BundleVersion{b}, all)
	_, err = f.db.BundleVersion(f.ctx, "main", "h2")
	f.isErr(store.ErrNotFound, err)

	f.publish("broken")
	broken := []protocol.ImportError{{File: "broken.py", DAGID: "broken", Line: 3, Message: "SyntaxError: invalid", Traceback: "Traceback …"}}
	f.update(func(tx *store.Tx) error { return tx.SetImportErrors("main", "broken.py", broken) })
	first := f.now
	f.update(func(tx *store.Tx) error { return tx.SetImportErrors("main", "broken.py", broken) })
	errs, err := f.db.ImportErrors(f.ctx)
	f.must(err)
	f.same("import errors", []store.ImportError{{ID: errs[0].ID, Bundle: "main", At: first, ImportError: broken[0]}}, errs)
	info, err := f.db.DAG(f.ctx, "broken")
	f.must(err)
	f.same("the DAG shows that its file is broken", true, info.HasErrors)
	long := []protocol.ImportError{{File: "broken.py", Message: strings.Repeat("m", 1_000_000), Traceback: strings.Repeat("t", 1_000_000)}}
	f.update(func(tx *store.Tx) error { return tx.SetImportErrors("main", "broken.py", long) })
	errs, err = f.db.ImportErrors(f.ctx)
	f.must(err)
	f.same("how much of long texts is kept", []int{excerpt.Reason, excerpt.Traceback},
		[]int{utf8.RuneCountInString(errs[0].Message), utf8.RuneCountInString(errs[0].Traceback)})
	f.update(func(tx *store.Tx) error { return tx.SetImportErrors("main", "broken.py", nil) })
	errs, err = f.db.ImportErrors(f.ctx)
	f.must(err)
	f.same("import errors after the repair", 0, len(errs))
	f.same("events", []string{"bundle.version", "dag.published", "import_error.set", "import_error.set", "import_error.cleared"}, f.eventsSince(since))
}

func testAdmin(f *fixture) {
	since := f.last()
	v := store.Variable{Key: "db_password", Value: "hunter2", Description: "d"}
	f.update(func(tx *store.Tx) error { return tx.PutVariable(store.Variable{Key: "db_password", Value: "hunter1"}) })
	f.update(func(tx *store.Tx) error { return tx.PutVariable(v) })
	f.update(func(tx *store.Tx) error { return tx.PutVariable(store.Variable{Key: "other"}) })
	got, err := f.db.Variable(f.ctx, "db_password")
	f.must(err)
	f.same("variable", v, got)
	vs, err := f.db.Variables(f.ctx, "DB%")
	f.must(err)
	f.same("variables like a pattern", []store.Variable{v}, vs)
	vs, err = f.db.Variables(f.ctx, "")
	f.must(err)
	f.same("all variables", []store.Variable{v, {Key: "other"}}, vs)
	f.update(func(tx *store.Tx) error { return tx.DeleteVariable("other") })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.DeleteVariable("other") })
	_, err = f.db.Variable(f.ctx, "other")
	f.isErr(store.ErrNotFound, err)

	c := store.Connection{ID: "pg", Type: "postgres", Description: "d", Host: "h", Schema: "s", Login: "l", Password: "hunter2",
		Extra: `{"key":"hunter2"}`, Port: ptr(5432)}
	f.update(func(tx *store.Tx) error { return tx.PutConnection(store.Connection{ID: "pg"}) })
	f.update(func(tx *store.Tx) error { return tx.PutConnection(c) })
	conn, err := f.db.Connection(f.ctx, "pg")
	f.must(err)
	f.same("connection", c, conn)
	conns, err := f.db.Connections(f.ctx)
	f.must(err)
	f.same("connections", []store.Connection{c}, conns)
	f.update(func(tx *store.Tx) error { return tx.DeleteConnection("pg") })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.DeleteConnection("pg") })
	_, err = f.db.Connection(f.ctx, "pg")
	f.isErr(store.ErrNotFound, err)

	p := store.Pool{Name: "gpu", Description: "d", Slots: 2, IncludeDeferred: true}
	f.update(func(tx *store.Tx) error { return tx.PutPool(store.Pool{Name: "gpu", Slots: -1}) })
	f.update(func(tx *store.Tx) error { return tx.PutPool(p) })
	ps, err := f.db.Pools(f.ctx)
	f.must(err)
	f.same("pools", []store.Pool{{Name: store.DefaultPool, Description: "Default pool", Slots: 128}, p}, ps)
	f.wantErr(store.ErrInvalid, func(tx *store.Tx) error { return tx.PutPool(store.Pool{Name: "x", Slots: -2}) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.DeletePool(store.DefaultPool) })
	f.update(func(tx *store.Tx) error { return tx.DeletePool("gpu") })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.DeletePool("gpu") })

	f.same("events", []string{"variable.put", "variable.put", "variable.put", "variable.deleted", "connection.put", "connection.put",
		"connection.deleted", "pool.put", "pool.put", "pool.deleted"}, f.eventsSince(since))
	es, err := f.db.Events(f.ctx, since, 0)
	f.must(err)
	if all, _ := json.Marshal(es); bytes.Contains(all, []byte("hunter")) {
		f.t.Errorf("a secret stands in the events: %s", all)
	}
}
