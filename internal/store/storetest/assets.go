package storetest

import (
	"encoding/json"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// assetDAGs publishes a producer of orders and prices and a consumer of orders by every kind of reference.
func assetDAGs(f *fixture) *dag.DAG {
	f.t.Helper()
	orders := dag.AssetRef{Name: "orders", URI: "s3://orders", Group: "sales", Extra: json.RawMessage(`{"owner":"me"}`)}
	prices := dag.AssetRef{Name: "prices", URI: "s3://prices"}
	producer := DAG("producer", "make")
	producer.Tasks[0].Outlets = []dag.AssetRef{orders, prices, {Name: "found", Alias: true}}
	consumer := DAG("consumer", "use")
	consumer.Schedule = dag.Schedule{Kind: dag.ScheduleAssets, Assets: &dag.AssetExpr{Any: []dag.AssetExpr{
		{Asset: &orders}, {Asset: &dag.AssetRef{Name: "prices"}}, {Asset: &dag.AssetRef{URI: "s3://by-uri"}}, {Alias: "found"},
	}}}
	consumer.Tasks[0].Inlets = []dag.AssetRef{orders}
	f.update(func(tx *store.Tx) error {
		if _, _, err := tx.PutDAG(producer, "main", "b1", false); err != nil {
			return err
		}
		_, _, err := tx.PutDAG(consumer, "main", "b1", false)
		return err
	})
	return consumer
}

func (f *fixture) assetEvent(e store.AssetEvent) store.AssetEvent {
	f.t.Helper()
	f.update(func(tx *store.Tx) error { return tx.AddAssetEvent(&e) })
	return e
}

func testAssets(f *fixture) {
	before := DAG("before", "a")
	before.Tasks[0].Outlets = []dag.AssetRef{{Name: "orders", URI: "s3://orders"}}
	f.update(func(tx *store.Tx) error { _, _, err := tx.PutDAG(before, "main", "b1", false); return err })
	key := func(name string) dag.AssetKey { return dag.AssetKey{Name: name, URI: "s3://" + name} }
	outside := run.Key{MapIndex: -1}
	f.assetEvent(store.AssetEvent{Key: key("orders"), Source: outside}) // before the consumer is there
	consumer := assetDAGs(f)
	f.update(func(tx *store.Tx) error { return tx.RemoveDAG("before") })

	source := run.Key{DAGID: "producer", RunID: "p1", TaskID: "make", MapIndex: 2}
	f.start("producer", "p1", "make")
	first := f.assetEvent(store.AssetEvent{Key: key("orders"), Extra: json.RawMessage(`{"rows":3}`), Source: source})
	f.assetEvent(store.AssetEvent{Key: key("prices"), Source: source})
	f.assetEvent(store.AssetEvent{Key: dag.AssetKey{Name: "u", URI: "s3://by-uri"}, Source: outside})
	found := f.assetEvent(store.AssetEvent{Key: key("new"), Group: "g", AssetExtra: json.RawMessage(`{"a":1}`), Source: source, Aliases: []string{"found", "other"}})
	f.assetEvent(store.AssetEvent{Key: key("new"), Source: source}) // not by the alias: not the consumer's
	f.update(func(tx *store.Tx) error {
		for range 2 {
			if err := tx.QueueAsset("consumer", key("orders")); err != nil {
				return err
			}
		}
		return tx.QueueAsset("consumer", key("prices"))
	})
	f.update(func(tx *store.Tx) error { return tx.UnqueueAsset("consumer", key("prices")) })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.QueueAsset("consumer", key("nothing")) })

	st, err := f.db.AssetState(f.ctx)
	f.must(err)
	f.same("known", 4, len(st.Known))
	f.same("links", map[string][]dag.AssetKey{"found": {key("new")}, "other": {key("new")}}, st.Aliases)
	f.same("queued", []store.QueuedAsset{{DAGID: "consumer", AssetID: first.AssetID, Key: key("orders"), At: st.Queued[0].At}}, st.Queued)

	consume := func(runID string) []string {
		f.t.Helper()
		r, tis := Run("consumer", runID, f.now, "use")
		r.Type = run.TypeAssetTriggered
		f.update(func(tx *store.Tx) error {
			if err := tx.CreateRun(&r, tis); err != nil {
				return err
			}
			return tx.ConsumeAssets("consumer", runID, consumer.Schedule.Assets)
		})
		es, err := f.db.ConsumedAssetEvents(f.ctx, "consumer", runID)
		f.must(err)
		var names []string
		for _, e := range es {
			names = append(names, e.Key.Name)
		}
		return names
	}
	f.same("the first run consumes all since the DAG was published", []string{"orders", "prices", "u", "new"}, consume("c1"))
	f.same("the second finds nothing", []string(nil), consume("c2"))
	f.assetEvent(store.AssetEvent{Key: key("orders"), Source: outside})
	f.same("the third what is new", []string{"orders"}, consume("c3"))
	st, err = f.db.AssetState(f.ctx)
	f.must(err)
	f.same("the queue is empty", 0, len(st.Queued))

	testAssetLists(f, first, found)
	testAssetRevisions(f, consumer)
}

func testAssetLists(f *fixture, first, found store.AssetEvent) {
	assets := func(total int, q store.AssetFilter, want ...string) {
		f.t.Helper()
		as, n, err := f.db.Assets(f.ctx, q)
		f.must(err)
		var got []string
		for _, a := range as {
			got = append(got, a.Key.Name)
		}
		f.same("assets", want, got)
		f.same("total", total, n)
	}
	assets(4, store.AssetFilter{Limit: 2}, "orders", "prices")
	assets(3, store.AssetFilter{OnlyActive: true, OrderBy: []string{"-name"}}, "prices", "orders", "new")
	assets(1, store.AssetFilter{NamePattern: "ORD%", URIPattern: "s3%"}, "orders")
	assets(1, store.AssetFilter{Name: "prices", URI: "s3://prices"}, "prices")
	assets(1, store.AssetFilter{DAGIDs: []string{"consumer"}}, "orders")
	_, _, err := f.db.Assets(f.ctx, store.AssetFilter{OrderBy: []string{"nonsense"}})
	f.isErr(store.ErrInvalid, err)
	a, err := f.db.Asset(f.ctx, first.AssetID)
	f.must(err)
	f.same("an asset with who names it", []any{"sales", `{"owner":"me"}`, 1, 1, 1, "make"},
		[]any{a.Group, string(a.Extra), len(a.Schedules), len(a.Producers), len(a.Readers), a.Producers[0].TaskID})
	_, err = f.db.Asset(f.ctx, 99)
	f.isErr(store.ErrNotFound, err)
	a, err = f.db.Asset(f.ctx, found.AssetID)
	f.must(err)
	f.same("an asset an event brought about", []any{"g", `{"a":1}`, 2, true}, []any{a.Group, string(a.Extra), len(a.Aliases), a.LastEvent > found.ID})

	ls, n, err := f.db.AssetAliases(f.ctx, "f%", []string{"-name"}, 10, 0)
	f.must(err)
	f.same("aliases", []any{1, "found"}, []any{n, ls[0].Name})
	l, err := f.db.AssetAlias(f.ctx, ls[0].ID)
	f.must(err)
	f.same("alias", ls[0], l)

	events := func(total int, q store.AssetEventFilter, want ...int64) {
		f.t.Helper()
		es, n, err := f.db.AssetEvents(f.ctx, q)
		f.must(err)
		var got []int64
		for _, e := range es {
			got = append(got, e.ID)
		}
		f.same("asset events", want, got)
		f.same("total", total, n)
	}
	at := first.At
	events(7, store.AssetEventFilter{Limit: 2}, 1, 2)
	events(3, store.AssetEventFilter{AssetID: first.AssetID, OrderBy: []string{"-timestamp"}, Limit: 1}, 7)
	events(2, store.AssetEventFilter{Name: "orders", URI: "s3://orders", From: &at}, 2, 7)
	events(1, store.AssetEventFilter{Alias: "found"}, found.ID)
	events(1, store.AssetEventFilter{NamePattern: "p%", DAGID: "producer", RunID: "p1", TaskID: "make", MapIndex: ptr(2)}, 3)
	events(2, store.AssetEventFilter{To: &at}, 1, 2)
	es, _, err := f.db.AssetEvents(f.ctx, store.AssetEventFilter{AssetID: found.AssetID, Limit: 1})
	f.must(err)
	f.same("aliases and runs of an event", []any{[]string{"found", "other"}, "c1"}, []any{es[0].Aliases, es[0].Runs[0].RunID})
}

// testAssetRevisions publishes the consumer anew.
func testAssetRevisions(f *fixture, consumer *dag.DAG) {
	f.update(func(tx *store.Tx) error {
		return tx.QueueAsset("consumer", dag.AssetKey{Name: "orders", URI: "s3://orders"})
	})
	put := func(d *dag.DAG) {
		f.t.Helper()
		f.update(func(tx *store.Tx) error { _, _, err := tx.PutDAG(d, "main", "b2", false); return err })
	}
	put(consumer)
	qs, err := f.db.QueuedAssets(f.ctx)
	f.must(err)
	f.same("what is queued stays when a DAG is published again", 1, len(qs))
	timed := DAG("consumer", "use")
	put(timed)
	qs, err = f.db.QueuedAssets(f.ctx)
	f.must(err)
	f.same("and goes when assets do not schedule it any more", 0, len(qs))
	as, _, err := f.db.Assets(f.ctx, store.AssetFilter{NamePattern: "orders"})
	f.must(err)
	f.same("uses that are gone", []int{0, 1, 0}, []int{len(as[0].Schedules), len(as[0].Producers), len(as[0].Readers)})
	late := consumer.Clone()
	late.Catchup = true
	put(late)
	r, tis := Run("consumer", "late", f.now, "use")
	f.update(func(tx *store.Tx) error {
		if err := tx.CreateRun(&r, tis); err != nil {
			return err
		}
		return tx.ConsumeAssets("consumer", "late", late.Schedule.Assets)
	})
	es, err := f.db.ConsumedAssetEvents(f.ctx, "consumer", "late")
	f.must(err)
	f.same("with catch-up the first run consumes what was there before", 6, len(es))

	put(timed) // nobody waits for events any more, but runs there are refer to six of seven
	day := f.now.Add(24 * time.Hour)
	report, err := f.db.Clean(f.ctx, day, true)
	f.must(err)
	f.same("asset events to clean", 1, report.AssetEvents)
	_, err = f.db.Clean(f.ctx, day, false)
	f.must(err)
	left, _, err := f.db.AssetEvents(f.ctx, store.AssetEventFilter{})
	f.must(err)
	f.same("asset events left", true, len(left) == 6 && !slices.ContainsFunc(left, func(e store.AssetEvent) bool { return len(e.Runs) == 0 }))
}
