package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// BenchmarkDeferredWaits keeps 100 000 instances waiting for a moment each, and measures the scheduler's memory for them
// and the time from a moment to the start of the attempt that resumes its task, durable in between. One operation is all
// of them; the moments are spread over a minute, begun once the state has been read.
func BenchmarkDeferredWaits(b *testing.B) {
	const runs, each, over = 100, 1000, 60 * time.Second
	for b.Loop() {
		w := newWaitBench(b, runs, each)
		heap := w.start(over)
		delays := w.all()
		b.ReportMetric(float64(heap)/(1<<20), "MiB")
		for _, p := range []int{50, 99} {
			b.ReportMetric(float64(delays[len(delays)*p/100-1].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
		}
		w.stop()
	}
}

type waitBench struct {
	b         *testing.B
	db        *store.DB
	path      string
	runs, one int
	ex        *scripted.Executor
	moments   map[run.Key]time.Time
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex
	delays []time.Duration
	done   chan struct{}
}

// newWaitBench stores runs of one mapped task each, all of whose instances are deferred.
func newWaitBench(b *testing.B, runs, each int) *waitBench {
	b.Helper()
	w := &waitBench{b: b, path: filepath.Join(b.TempDir(), "control.db"), runs: runs, one: each, moments: map[run.Key]time.Time{}, done: make(chan struct{})}
	db, err := store.Open(b.Context(), store.Options{Path: w.path})
	if err != nil {
		b.Fatal(err)
	}
	w.db = db
	d := &dag.DAG{ID: "waits", File: "waits.py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}, MaxActiveRuns: runs, MaxActiveTasks: runs * each,
		Tasks: []dag.Task{{ID: "w", Operator: "PythonOperator", Mapped: &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: each}}}}}}
	w.update(func(tx *store.Tx) error {
		if err := tx.PutPool(store.Pool{Name: "default_pool", Slots: -1}); err != nil {
			return err
		}
		_, _, err := tx.PutDAG(d, "b", "v", false)
		return err
	})
	return w
}

func (w *waitBench) update(f func(*store.Tx) error) {
	w.b.Helper()
	if err := w.db.Update(w.b.Context(), "bench", time.Now(), f); err != nil {
		w.b.Fatal(err)
	}
}

// fill stores the runs with moments from begin on.
func (w *waitBench) fill(begin time.Time, over time.Duration) {
	for i := range w.runs {
		r := run.DAGRun{DAGID: "waits", RunID: fmt.Sprint(i), Type: run.TypeManual, State: run.RunRunning, RunAfter: begin, QueuedAt: begin,
			StartDate: &begin, DAGVersion: 1, BundleVersion: "v"}
		var tis []run.TaskInstance
		for j := range w.one {
			k := run.Key{DAGID: "waits", RunID: r.RunID, TaskID: "w", MapIndex: j}
			tis = append(tis, run.TaskInstance{Key: k, ID: fmt.Sprintf("%d-%d", i, j), State: run.Deferred, TryNumber: 1, AttemptID: fmt.Sprintf("a%d-%d", i, j),
				NextMethod: "later", NextKwargs: []byte("{}"), StartDate: &begin})
			w.moments[k] = begin.Add(time.Duration(float64(over) * float64(j*w.runs+i) / float64(w.runs*w.one)))
		}
		w.update(func(tx *store.Tx) error {
			if err := tx.CreateRun(&r, tis); err != nil {
				return err
			}
			for _, ti := range tis {
				kwargs := fmt.Appendf(nil, `{"moment":%q}`, w.moments[ti.Key].UTC().Format(time.RFC3339Nano))
				if err := tx.PutWait(run.Wait{Key: ti.Key, ID: ti.AttemptID, Classpath: triggers + "temporal.DateTimeTrigger", Kwargs: kwargs, CreatedAt: begin}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// start starts the scheduler on all waits and returns what it takes of the heap while they wait.
func (w *waitBench) start(over time.Duration) uint64 {
	const filling = 45 * time.Second
	w.fill(time.Now().Add(filling), over)
	before := heap()
	w.ex = scripted.New("local", w.script)
	s := scheduler.New(scheduler.Config{TokenKey: []byte("k"), Slots: map[string]int{"local": w.runs * w.one}}, w.db, []executor.Executor{w.ex}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.wg.Go(func() { _ = s.Run(ctx) })
	<-s.Ready()
	used := heap() - before
	w.wg.Go(func() { _ = w.ex.Run(ctx, sink{s}) })
	return used
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (w *waitBench) script(a executor.Attempt) scripted.Behaviour {
	ti := a.Startup.TI
	delay := time.Since(w.moments[run.Key{DAGID: ti.DAGID, RunID: ti.RunID, TaskID: ti.TaskID, MapIndex: ti.MapIndex}])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.delays = append(w.delays, delay); len(w.delays) == w.runs*w.one {
		close(w.done)
	}
	return scripted.Behaviour{}
}

// all waits until everything has been resumed and returns the delays in order.
func (w *waitBench) all() []time.Duration {
	select {
	case <-w.done:
	case <-w.b.Context().Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.delays)
	return w.delays
}

func (w *waitBench) stop() {
	w.cancel()
	w.wg.Wait()
	w.ex.Close()
	if err := w.db.Close(); err != nil {
		w.b.Error(err)
	}
}
