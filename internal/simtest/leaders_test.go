package simtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// A replica is one server of several on a PostgreSQL database, with a home and a worker of its own.
type replica struct {
	db    *store.DB
	sched *scheduler.Scheduler
	ended chan error
	stop  func()
}

// processes counts what began for each task of each run, on all workers together.
type processes struct {
	mu    sync.Mutex
	begun map[string]int
}

func (p *processes) script(a executor.Attempt) scripted.Behaviour {
	return scripted.Behaviour{For: time.Millisecond, Begun: func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.begun[a.Startup.TI.RunID+"/"+a.Startup.TI.TaskID]++
	}}
}

const shortLease = 300 * time.Millisecond

// newReplica takes the lead as soon as it is given, and schedules. Nobody tells the one that had it, and nobody renews it.
func newReplica(t *testing.T, url, home string, p *processes) *replica {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: url, BlobDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(20 * time.Second); ; {
		err := db.Lead(t.Context(), store.Leader{Server: home, HomeID: home}, shortLease)
		if err == nil {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s does not get the lead: %v", home, err)
		}
		if !errors.Is(err, store.ErrLed) {
			t.Fatal(err)
		}
	}
	ex := scripted.New("local", p.script)
	ctx, cancel := context.WithCancel(context.Background())
	r := &replica{db: db, ended: make(chan error, 1)}
	r.sched = scheduler.New(scheduler.Config{TokenKey: []byte(home), Interval: 20 * time.Millisecond}, db,
		[]executor.Executor{ex}, slog.New(slog.DiscardHandler))
	r.sched.DAGsChanged()
	var wg sync.WaitGroup
	wg.Go(func() { r.ended <- r.sched.Run(ctx) })
	wg.Go(func() {
		select {
		case <-r.sched.Ready():
			_ = ex.Run(ctx, sink{r.sched})
		case <-ctx.Done():
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		ex.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// TestOfSeveralServersThatBelieveTheyLeadOneDoes hands the lead on, again and again, behind the back of the one that has it, while
// runs are triggered at both. What was promised is done, by one of them, once; the one that lost the lead ends.
func TestOfSeveralServersThatBelieveTheyLeadOneDoes(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	p := &processes{begun: map[string]int{}}
	first := newReplica(t, url, "home-0", p)
	err := first.db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		_, _, err := tx.PutDAG(hand("two", dag.Task{ID: "a", Operator: "X"}, dag.Task{ID: "b", Operator: "X", Upstream: []string{"a"}}), "b", "v1", false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	first.sched.DAGsChanged()
	promised := &promises{}
	leads := first
	for i := range 4 {
		during, over := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { promised.ask(during, leads, fmt.Sprintf("old-%d", i)) })
		next := newReplica(t, url, fmt.Sprintf("home-%d", i+1), p)
		wg.Go(func() { promised.ask(during, next, fmt.Sprintf("new-%d", i)) })
		select {
		case err := <-leads.ended:
			if !errors.Is(err, store.ErrFenced) {
				t.Errorf("the server that lost the lead ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the server that lost the lead goes on")
		}
		over()
		wg.Wait()
		leads.stop()
		leads = next
	}
	promised.check(t, leads.db, p)
}

// promises are the runs that a server said it had created.
type promises struct {
	mu  sync.Mutex
	ids []string
}

// ask triggers runs until ctx ends or the server refuses for good.
func (p *promises) ask(ctx context.Context, r *replica, prefix string) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("%s-%d", prefix, i)
		_, err := r.sched.Trigger(ctx, "user:sim", scheduler.TriggerRequest{DAGID: "two", RunID: id})
		switch {
		case err == nil:
			p.mu.Lock()
			p.ids = append(p.ids, id)
			p.mu.Unlock()
		case errors.Is(err, scheduler.ErrStopped):
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (p *promises) check(t *testing.T, db *store.DB, began *processes) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		rs, _, err := db.Runs(t.Context(), store.RunFilter{DAGID: "two"})
		if err != nil {
			t.Fatal(err)
		}
		states := map[string]run.State{}
		open := 0
		for _, r := range rs {
			states[r.RunID] = r.State
			if !r.State.IsFinished() {
				open++
			}
		}
		if open == 0 {
			p.compare(t, states, began)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%d of %d runs have not ended", open, len(rs))
		}
	}
}

func (p *promises) compare(t *testing.T, states map[string]run.State, began *processes) {
	t.Helper()
	began.mu.Lock()
	defer began.mu.Unlock()
	for _, id := range p.ids {
		if states[id] != run.RunSuccess {
			t.Errorf("run %s was promised and is %q", id, states[id])
		}
	}
	for what, n := range began.begun {
		if n != 1 {
			t.Errorf("%s began %d times", what, n)
		}
	}
	if len(p.ids) < 10 || len(began.begun) != 2*len(states) {
		t.Errorf("%d runs were promised, there are %d with %d processes", len(p.ids), len(states), len(began.begun))
	}
}
