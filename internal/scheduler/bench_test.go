package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// BenchmarkAChainOfTasks is the scheduler's and the store's share of the time between dependent tasks: what an operation
// takes is one task, whose attempt ends the moment it begins.
func BenchmarkAChainOfTasks(b *testing.B) {
	const length = 100
	db, err := store.Open(b.Context(), store.Options{Path: filepath.Join(b.TempDir(), "control.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(b.Context(), "bench", time.Now(), func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(chain("chain", length), "b", "v", false)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	ex := scripted.New("local", func(executor.Attempt) scripted.Behaviour { return scripted.Behaviour{} })
	defer ex.Close()
	s := scheduler.New(scheduler.Config{TokenKey: []byte("k")}, db, []executor.Executor{ex}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = s.Run(ctx) })
	<-s.Ready()
	wg.Go(func() { _ = ex.Run(ctx, sink{s}) })
	before := db.Commits()
	n := 0
	for b.Loop() {
		if n%length == 0 {
			r, err := s.Trigger(ctx, "bench", scheduler.TriggerRequest{DAGID: "chain", RunID: fmt.Sprint(n)})
			if err != nil {
				b.Fatal(err)
			}
			for r.State != run.RunSuccess {
				changed := db.Changed()
				if r, err = db.Run(ctx, "chain", r.RunID); err != nil {
					b.Fatal(err)
				}
				if r.State != run.RunSuccess {
					<-changed
				}
			}
		}
		n++
	}
	b.ReportMetric(float64(db.Commits()-before)/float64(n), "commits/op")
}
