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
	f.update(func(tx *store.Tx) error { return tx.MoveOpenTimes(-3 * time.Hour) })
	timeout := at.Add(-3 * time.Hour)
	a.CreatedAt, a.TimeoutAt, b.CreatedAt = a.CreatedAt.Add(-3*time.Hour), &timeout, b.CreatedAt.Add(-3*time.Hour)
	f.sameWaits(a, b)
	f.update(func(tx *store.Tx) error { return tx.DropWait(b.Key) })
	f.update(func(tx *store.Tx) error { return tx.DropWait(b.Key) })
	f.sameWaits(a)
	f.finish(&r, run.RunFailed)
	f.update(func(tx *store.Tx) error { return tx.DeleteRun("waits", "r1") })
	f.sameWaits()
	f.update(func(tx *store.Tx) error { return tx.DropWait(a.Key) }) // it has gone with its run
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

func testInputs(f *fixture) {
	f.publish("asks", "a")
	_, tis := f.start("asks", "r1", "a")
	at := f.now.Add(time.Hour)
	in := run.Input{Key: tis[0].Key, ID: "at-a", TryNumber: 2, CreatedAt: f.now, TimeoutAt: &at, Form: run.Form{
		Subject: "s", Options: []string{"yes", "no"}, Params: json.RawMessage(`{"x":{"value":1}}`), Assigned: []run.Person{{ID: "u", Name: "U"}},
	}}
	f.update(func(tx *store.Tx) error { return tx.PutInput(in) })
	open, err := f.db.OpenInputs(f.ctx)
	f.must(err)
	f.same("open questions", []run.Input{in}, open)
	f.update(func(tx *store.Tx) error { return tx.MoveOpenTimes(26 * time.Hour) })
	at = at.Add(26 * time.Hour)
	in.CreatedAt, in.TimeoutAt = in.CreatedAt.Add(26*time.Hour), &at
	open, err = f.db.OpenInputs(f.ctx)
	f.must(err)
	f.same("open questions once the clock was set", []run.Input{in}, open)
	in.Answer = &run.Answer{At: f.now, By: &run.Person{ID: "u", Name: "U"}, Options: []string{"no"}, Params: json.RawMessage(`{"x":2}`)}
	f.update(func(tx *store.Tx) error { return tx.AnswerInput(in) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.AnswerInput(in) })
	open, err = f.db.OpenInputs(f.ctx)
	f.must(err)
	f.same("open questions after the answer", []run.Input(nil), open)
	all, err := f.db.InputsOfRun(f.ctx, "asks", "r1")
	f.must(err)
	f.same("questions of the run", []run.Input{in}, all)
	all, err = f.db.Inputs(f.ctx)
	f.must(err)
	f.same("all questions", []run.Input{in}, all)
	f.update(func(tx *store.Tx) error { return tx.MoveOpenTimes(time.Hour) })
	all, err = f.db.Inputs(f.ctx)
	f.must(err)
	f.same("answered questions once the clock was set", []run.Input{in}, all)
}
