package storetest

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func testWaits(f *fixture) {
	f.publish("waits", "a", "b")
	r, tis := f.start("waits", "r1", "a", "b")
	at := f.now.Add(time.Hour)
	a := run.Wait{Key: tis[0].Key, ID: "at-a", Classpath: "m.A", Kwargs: json.RawMessage(`{"x":1}`), CreatedAt: f.now, TimeoutAt: &at}
	b := run.Wait{Key: tis[1].Key, ID: "at-b", Kwargs: json.RawMessage("{}"), CreatedAt: f.now}
	f.update(func(tx *store.Tx) error {
		first := a
		first.ID, first.Classpath = "at-0", "m.Before"
		for _, w := range []run.Wait{first, a, b} {
			if err := tx.PutWait(w); err != nil {
				return err
			}
		}
		return tx.SetWaitAlone(a.Key, "at-0") // of the wait that was replaced: nothing
	})
	f.sameWaits(a, b)
	f.update(func(tx *store.Tx) error { return tx.SetWaitAlone(a.Key, "at-a") })
	a.Alone = true
	f.sameWaits(a, b)
	f.update(func(tx *store.Tx) error { return tx.DropWait(b.Key) })
	f.update(func(tx *store.Tx) error { return tx.DropWait(b.Key) })
	f.sameWaits(a)
	f.finish(&r, run.RunFailed)
	f.update(func(tx *store.Tx) error { return tx.DeleteRun("waits", "r1") })
	f.sameWaits()
}

func (f *fixture) sameWaits(want ...run.Wait) {
	f.t.Helper()
	got, err := f.db.Waits(f.ctx)
	f.must(err)
	f.same("waits", want, got)
}

func testTriggerers(f *fixture) {
	one := store.Triggerer{AttemptID: "t1", BundleVersion: "v1", Executor: "local", Instance: "w1", StartedAt: f.now}
	two := store.Triggerer{AttemptID: "t2", BundleVersion: "v1", WaitID: "at-a", Executor: "local", Instance: "w1", StartedAt: f.now.Add(time.Second)}
	f.update(func(tx *store.Tx) error { return tx.PutTriggerer(one) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.PutTriggerer(one) })
	f.update(func(tx *store.Tx) error { return tx.PutTriggerer(two) })
	got, err := f.db.Triggerers(f.ctx)
	f.must(err)
	f.same("triggerers", []store.Triggerer{one, two}, got)
	for range 2 {
		f.update(func(tx *store.Tx) error { return tx.DropTriggerer("t1") })
	}
	got, err = f.db.Triggerers(f.ctx)
	f.must(err)
	f.same("triggerers left", []store.Triggerer{two}, got)
}
