package taskapi_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/taskapi"
)

// away is a database that cannot be written the first time, and meanwhile something happens.
type away struct {
	*store.DB
	meanwhile func()
}

func (a *away) Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error {
	if a.meanwhile != nil {
		a.meanwhile()
		a.meanwhile = nil
		return store.ErrUnavailable
	}
	return a.DB.Update(ctx, actor, now, f)
}

func TestWhatATaskAskedBeforeItsEndIsNotDoneAfterIt(t *testing.T) {
	w := newWorld(t)
	db := &away{DB: w.db, meanwhile: func() {
		w.update(func(tx *store.Tx) error { return tx.EndAttempt(run.Attempt{ID: attempt, State: run.Failed}) })
	}}
	w.api = taskapi.New(db, w.sched, w.scratch, slog.New(slog.DiscardHandler))
	if got := w.ask(`{"type":"SetXCom","key":"late","value":1}`); got != "PERMISSION_DENIED" {
		t.Errorf("a push that had to wait until after the end: %s", got)
	}
	k := run.Key{DAGID: "d", RunID: "r2", TaskID: "t", MapIndex: -1}
	if x, err := w.db.XCom(t.Context(), k, "late"); !errors.Is(err, store.ErrNotFound) || len(w.sched.pushed) > 0 {
		t.Errorf("it is there: %+v, %v, told: %v", x, err, w.sched.pushed)
	}
}
