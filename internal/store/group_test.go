package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
)

func update(db *store.DB, f func(*store.Tx) error) error {
	return db.Update(context.Background(), "tester", storetest.Epoch, f)
}

func emit(kind string) func(*store.Tx) error {
	return func(tx *store.Tx) error { return tx.Emit(store.Event{Kind: kind, MapIndex: -1}) }
}

// kinds are the kinds of all events.
func kinds(t *testing.T, db *store.DB) []string {
	t.Helper()
	es, err := db.Events(context.Background(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ks []string
	for i, e := range es {
		if e.Seq != int64(i+1) {
			t.Errorf("event %d has number %d", i+1, e.Seq)
		}
		ks = append(ks, e.Kind)
	}
	return ks
}

// together makes the writer run all closures in one batch: they queue up behind one that waits for them.
func together(t *testing.T, db *store.DB, fs ...func(*store.Tx) error) []error {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(fs))
	entered, queued := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		err := update(db, func(*store.Tx) error { close(entered); <-queued; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	<-entered
	for i, f := range fs {
		wg.Go(func() { errs[i] = update(db, f) })
		for db.Waiting() != i+1 {
			runtime.Gosched()
		}
	}
	close(queued)
	wg.Wait()
	return errs
}

func TestClosuresThatWaitShareOneCommit(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		before := db.Commits()
		var fs []func(*store.Tx) error
		var want []string
		for i := range 100 {
			fs = append(fs, emit(fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
		for _, err := range together(t, db, fs...) {
			if err != nil {
				t.Error(err)
			}
		}
		// One holds the writer up, one has all others, unless a slow machine reaches the time limit of a batch.
		if n := db.Commits() - before; n < 2 || n > 20 {
			t.Errorf("%d commits of 101 closures, want about 2", n)
		}
		if d := cmp.Diff(want, kinds(t, db)); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func TestAClosureThatFailsTakesNoOtherWithIt(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		no := errors.New("no")
		var panicked any
		errs := together(t, db,
			emit("first"),
			func(tx *store.Tx) error { return errors.Join(emit("undone")(tx), no) },
			func(tx *store.Tx) error { return tx.CreateAttempt(attempt("?"), nil) }, // ErrNotFound
			emit("second"),
		)
		func() {
			defer func() { panicked = recover() }()
			_ = update(db, func(tx *store.Tx) error { _ = emit("undone")(tx); panic("oh") })
		}()
		if errs[0] != nil || !errors.Is(errs[1], no) || !errors.Is(errs[2], store.ErrNotFound) || errs[3] != nil {
			t.Errorf("answers: %v", errs)
		}
		if panicked != "oh" {
			t.Errorf("the panic was not raised where Update was called: %v", panicked)
		}
		if d := cmp.Diff([]string{"first", "second"}, kinds(t, db)); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func TestAClosureThatEndsItsGoroutineIsRolledBack(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		if err := update(db, func(tx *store.Tx) error { _ = emit("undone")(tx); runtime.Goexit(); return nil }); err == nil {
			t.Error("no error")
		}
		if err := update(db, emit("after")); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"after"}, kinds(t, db)); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func TestACallerWhoGivesUpBeforeItsTurnIsNeverRun(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		entered, leave := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { _ = update(db, func(*store.Tx) error { close(entered); <-leave; return nil }) })
		<-entered
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		wg.Go(func() { gaveUp <- db.Update(ctx, "tester", storetest.Epoch, emit("never")) })
		for db.Waiting() != 1 {
			runtime.Gosched()
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(leave)
		wg.Wait()
		if ks := kinds(t, db); len(ks) != 0 {
			t.Errorf("it ran: %v", ks)
		}
	})
}

func TestAFaultAtEachPointOfACommitLeavesAllOrNothing(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		crash := errors.New("crash")
		for point, want := range map[string][]string{store.FaultBegin: nil, store.FaultCommit: nil, store.FaultCommitted: {"e"}} {
			t.Run(point, func(t *testing.T) {
				var armed string
				db := open(t, func(o *store.Options) {
					o.Fault = func(p string) error {
						if p == armed {
							return crash
						}
						return nil
					}
				})
				armed = point
				if err := update(db, emit("e")); !errors.Is(err, crash) {
					t.Errorf("got %v", err)
				}
				armed = ""
				if err := update(db, emit("after")); err != nil {
					t.Error(err)
				}
				if d := cmp.Diff(append(want, "after"), kinds(t, db)); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
			})
		}
	})
}

func TestCallersOfAClosingDatabaseAreAllAnswered(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		for range 10 {
			db := open(t)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						if err := update(db, emit("e")); errors.Is(err, store.ErrClosed) {
							return
						} else if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			runtime.Gosched()
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			wg.Wait()
		}
	})
}

func TestAClosedDatabaseAnswersSo(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := update(db, emit("e")); !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func TestTheStoreRunsInASyntheticTimeBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), store.Options{Path: t.TempDir() + "/control.db"})
		if err != nil {
			t.Fatal(err)
		}
		changed := db.Changed()
		if err := update(db, emit("e")); err != nil {
			t.Error(err)
		}
		<-changed
		synctest.Wait()
		if d := cmp.Diff([]string{"e"}, kinds(t, db)); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
