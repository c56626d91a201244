package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
)

// The benchmarks write where TMPDIR points; run them on the disk that counts. Each prints the median of a bare fdatasync
// after a 4 KiB write beside its own numbers: no durable commit can be faster than that.

// instances are task instances of live runs, ready to be changed.
func instances(b *testing.B, db *store.DB, n int) []run.TaskInstance {
	const each = 1000
	var all []run.TaskInstance
	names := make([]string, min(n, each))
	for i := range names {
		names[i] = fmt.Sprintf("task_%04d", i)
	}
	err := db.Update(b.Context(), "bench", storetest.Epoch, func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(storetest.DAG("bench", names...), "main", "b1", false)
		return err
	})
	for i := 0; err == nil && len(all) < n; i++ {
		r, tis := storetest.Run("bench", fmt.Sprintf("scheduled__2024-01-01T00:00:00+00:00_%d", i), storetest.Epoch, names...)
		err = db.Update(b.Context(), "bench", storetest.Epoch, func(tx *store.Tx) error { return tx.CreateRun(&r, tis) })
		all = append(all, tis...)
	}
	if err != nil {
		b.Fatal(err)
	}
	return all
}

// step moves an instance on, keeping its new version.
func step(tx *store.Tx, t *run.TaskInstance) error {
	to := run.Scheduled
	if t.State == run.Scheduled {
		to = run.Queued
	}
	cs := []plan.TaskChange{storetest.Change(*t, to)}
	if err := tx.ChangeTasks(cs); err != nil {
		return err
	}
	*t = cs[0].After
	return nil
}

func BenchmarkSingleCommits(b *testing.B) {
	db := open(b)
	tis := instances(b, db, 1000)
	i := 0
	for b.Loop() {
		t := &tis[i%len(tis)]
		i++
		if err := db.Update(b.Context(), "scheduler", storetest.Epoch, func(tx *store.Tx) error { return step(tx, t) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	reportSync(b)
}

func BenchmarkGuardedTransitions(b *testing.B) {
	for _, batch := range []int{10, 100, 500} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			db := open(b)
			tis := instances(b, db, 5000)
			i := 0
			for b.Loop() {
				err := db.Update(b.Context(), "scheduler", storetest.Epoch, func(tx *store.Tx) error {
					for range batch {
						if err := step(tx, &tis[i%len(tis)]); err != nil {
							return err
						}
						i++
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "transitions/s")
			reportSync(b)
		})
	}
}

// BenchmarkGroupCommit has many writers with one transition each: what group commit is for.
func BenchmarkGroupCommit(b *testing.B) {
	const writers = 64
	db := open(b)
	tis := instances(b, db, writers)
	before := db.Commits()
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			for range b.N / writers {
				if err := db.Update(b.Context(), "scheduler", storetest.Epoch, func(tx *store.Tx) error { return step(tx, &tis[w]) }); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
	b.ReportMetric(float64(b.N)/float64(db.Commits()-before), "updates/commit")
	reportSync(b)
}

// BenchmarkTaskToTask is the scheduler's critical path: one commit that ends an attempt and its task, pushes an XCom, and
// queues the next task with its attempt. It must cost the same on top of a long history.
func BenchmarkTaskToTask(b *testing.B) {
	for _, history := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("history=%d", history), func(b *testing.B) { benchmarkTaskToTask(b, history) })
	}
}

func benchmarkTaskToTask(b *testing.B, history int) {
	db := open(b)
	tis := instances(b, db, 1000)
	finishedTasks(b, db, history)
	i := 0
	attempt := func(i int) run.Attempt {
		return run.Attempt{Key: tis[i%len(tis)].Key, ID: fmt.Sprintf("018cc251-f400-7000-8000-%012d", i), TryNumber: 1 + i/len(tis),
			State: run.Queued, Instance: "w", Executor: "local", QueuedAt: storetest.Epoch}
	}
	err := db.Update(b.Context(), "scheduler", storetest.Epoch, func(tx *store.Tx) error {
		return tx.CreateAttempt(attempt(0), []byte("token 0"))
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := db.Update(b.Context(), "scheduler", storetest.Epoch, func(tx *store.Tx) error {
			a := attempt(i)
			a.State, a.ExitCode, a.PID, a.EndedAt = run.Success, new(int), 1, &a.QueuedAt
			if err := tx.EndAttempt(a); err != nil {
				return err
			}
			if err := tx.PutXCom(a.Key, "return_value", []byte("55"), 0); err != nil {
				return err
			}
			if err := step(tx, &tis[i%len(tis)]); err != nil {
				return err
			}
			i++
			if err := tx.CreateAttempt(attempt(i), fmt.Appendf(nil, "token %d", i)); err != nil {
				return err
			}
			return step(tx, &tis[i%len(tis)])
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/task")
	reportSync(b)
}

// finishedTasks makes history: finished runs of 100 tasks with an attempt each.
func finishedTasks(b *testing.B, db *store.DB, n int) {
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprintf("task_%04d", i)
	}
	for i := range n / len(names) {
		r, tis := storetest.Run("bench", fmt.Sprintf("manual__2023_%06d", i), storetest.Epoch, names...)
		r.State, r.EndDate = run.RunSuccess, &storetest.Epoch
		err := db.Update(b.Context(), "bench", storetest.Epoch, func(tx *store.Tx) error {
			if err := tx.CreateRun(&r, tis); err != nil {
				return err
			}
			for j, t := range tis {
				a := run.Attempt{Key: t.Key, ID: fmt.Sprintf("old-%d-%d", i, j), TryNumber: 1, State: run.Success}
				if err := tx.CreateAttempt(a, nil); err != nil {
					return err
				}
				if err := tx.EndAttempt(a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLiveRuns rebuilds from a store with 10 000 live instances above 20 000 finished ones.
func BenchmarkLiveRuns(b *testing.B) {
	db := open(b)
	instances(b, db, 10_000)
	finishedTasks(b, db, 20_000)
	for b.Loop() {
		if live, err := db.LiveRuns(b.Context()); err != nil || len(live) != 10 {
			b.Fatal(len(live), err)
		}
	}
}

// reportSync measures the machine: the median of fdatasync after a 4 KiB write into a file of fixed size.
func reportSync(b *testing.B) {
	b.StopTimer()
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, 4096)
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for i := range 200 {
		if _, err := f.WriteAt(page, int64(i%256)*4096); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "fdatasync-p50-µs")
}
