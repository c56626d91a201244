package simtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// A bubble is an installation in a synctest bubble: scheduler, store and scripted worker, whole. Its time is fake, so hours
// cost nothing, and faults are put at exact places: at the n-th point of a commit, at the n-th message between server and
// worker.
type bubble struct {
	t    *testing.T
	db   *store.DB
	ex   *scripted.Executor
	line *line
	log  *slog.Logger

	ahead atomic.Int64 // of the clock on the wall, in nanoseconds
	// onCommit is asked at every point of a commit, with its number from 1.
	onCommit func(n int, point string) error
	commits  atomic.Int64

	dags   []*dag.DAG // as the stage knows them
	sched  *scheduler.Scheduler
	cancel context.CancelFunc
	wg     sync.WaitGroup
	crash  chan struct{}
	gone   atomic.Bool // the server is dead: nothing it does has an effect
}

// template is an empty database, made once: a schema costs more than a simulation.
var template = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simtest")
	if err != nil {
		return "", err
	}
	db, err := store.Open(context.Background(), store.Options{Path: filepath.Join(dir, "control.db")})
	if err != nil {
		return dir, err
	}
	return dir, db.Close()
})

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// newBubble must be called in a bubble. end closes it.
func newBubble(t *testing.T, script scripted.Script, dags ...*dag.DAG) *bubble {
	t.Helper()
	b := &bubble{t: t, ex: scripted.New("local", script), crash: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		b.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b.ex.SetClock(b.wall)
	b.line = &line{Executor: b.ex, b: b}
	dir, err := template()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "control.db")
	if err := copyFile(path, filepath.Join(dir, "control.db")); err != nil {
		t.Fatal(err)
	}
	b.db, err = store.Open(t.Context(), store.Options{Path: path, Fault: b.fault})
	if err != nil {
		t.Fatal(err)
	}
	b.publish(dags...)
	b.start()
	return b
}

func (b *bubble) publish(dags ...*dag.DAG) {
	b.t.Helper()
	err := b.db.Update(b.t.Context(), "test", b.wall(), func(tx *store.Tx) error {
		for _, d := range dags {
			if err := dag.Validate(d); err != nil {
				return fmt.Errorf("%s: %w", d.ID, err)
			}
			if _, _, err := tx.PutDAG(d, "b", "v1", false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if b.sched != nil {
		b.sched.DAGsChanged()
	}
}

// republish publishes DAGs once more, however often servers die meanwhile.
func (b *bubble) republish(dags ...*dag.DAG) {
	b.t.Helper()
	b.insist("the new version", func(ctx context.Context) error {
		err := b.db.Update(ctx, "test", b.wall(), func(tx *store.Tx) error {
			for _, d := range dags {
				if _, _, err := tx.PutDAG(d, "b", "v2", false); err != nil {
					return err
				}
			}
			return nil
		})
		b.sched.DAGsChanged()
		return err
	})
}

// wall is what the clock on the wall shows; the bubble's own time is what really passes.
func (b *bubble) wall() time.Time { return time.Now().Round(0).Add(time.Duration(b.ahead.Load())) }

func (b *bubble) setClock(by time.Duration) { b.ahead.Add(int64(by)) }

var errDead = errors.New("the server is dead")

func (b *bubble) fault(point string) error {
	if b.gone.Load() {
		return errDead
	}
	if b.onCommit == nil {
		return nil
	}
	return b.onCommit(int(b.commits.Add(1)), point)
}

// die ends the server right here: no commit and no message of it has an effect from now on. Another starts when time passes.
func (b *bubble) die() {
	b.gone.Store(true)
	select {
	case b.crash <- struct{}{}:
	default:
	}
}

func (b *bubble) start() {
	b.gone.Store(false)
	b.sched = scheduler.New(scheduler.Config{
		TokenKey: []byte("simulation"), Slots: map[string]int{"local": 64}, Now: b.wall,
	}, b.db, []executor.Executor{b.line}, b.log)
	b.sched.DAGsChanged()
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	sched := b.sched
	b.wg.Go(func() {
		if err := sched.Run(ctx); err != nil {
			b.t.Errorf("the scheduler ended: %v", err)
		}
	})
	b.wg.Go(func() {
		select {
		case <-sched.Ready():
			b.line.connect(ctx, sink{sched})
		case <-ctx.Done():
		}
	})
}

func (b *bubble) stop() {
	b.cancel()
	b.wg.Wait()
}

func (b *bubble) end() {
	b.onCommit = nil
	b.line.watch(nil)
	b.stop()
	b.ex.Close()
	if err := b.db.Close(); err != nil {
		b.t.Error(err)
	}
}

// until lets time pass until a condition holds, starting servers anew that crash, for so long at most.
func (b *bubble) until(what string, patience time.Duration, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited %s for %s:\n%s", patience, what, b.picture())
		}
		b.pass(time.Second)
	}
}

// pass lets time pass; a server that crashed meanwhile is started anew.
func (b *bubble) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.crash:
		b.stop()
		b.start()
	}
}

func (b *bubble) trigger(dagID, runID string) {
	b.t.Helper()
	b.until("run "+runID+" of "+dagID, time.Minute, func() bool {
		if _, err := b.db.Run(b.t.Context(), dagID, runID); err == nil {
			return true
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
		defer cancel()
		_, err := b.sched.Trigger(ctx, "user:sim", scheduler.TriggerRequest{DAGID: dagID, RunID: runID})
		return err == nil
	})
}

func (b *bubble) runs(dagID string) []run.DAGRun {
	b.t.Helper()
	rs, _, err := b.db.Runs(b.t.Context(), store.RunFilter{DAGID: dagID, OrderBy: []string{"run_after"}})
	if err != nil {
		b.t.Fatal(err)
	}
	return rs
}

func (b *bubble) instances(dagID, runID string) []run.TaskInstance {
	b.t.Helper()
	tis, _, err := b.db.TaskInstances(b.t.Context(), store.TIFilter{DAGID: dagID, RunID: runID})
	if err != nil {
		b.t.Fatal(err)
	}
	return tis
}

func (b *bubble) attempts(k run.Key) []run.Attempt {
	b.t.Helper()
	as, err := b.db.Attempts(b.t.Context(), k)
	if err != nil {
		b.t.Fatal(err)
	}
	return as
}

// picture is everything as it stands, for a failure's message.
func (b *bubble) picture() (text string) {
	rs, _, err := b.db.Runs(b.t.Context(), store.RunFilter{})
	if err != nil {
		return err.Error()
	}
	for _, r := range rs {
		text += fmt.Sprintf("%s/%s %s\n", r.DAGID, r.RunID, r.State)
		for _, ti := range b.instances(r.DAGID, r.RunID) {
			text += fmt.Sprintf("  %s %s try %d: %s\n", name(ti.Key), ti.State, ti.TryNumber, ti.Reason)
		}
	}
	return text
}

// name is task, or task[index].
func name(k run.Key) string {
	if k.MapIndex < 0 {
		return k.TaskID
	}
	return fmt.Sprintf("%s[%d]", k.TaskID, k.MapIndex)
}
