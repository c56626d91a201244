// Package simtest runs the scheduler whole, on a real store with a scripted worker, while everything goes wrong, and checks what
// must hold whatever happened: every DAG run ends as its tasks' scripts say, no attempt begins twice, none begins before the one
// before it has ended, nothing stays open.
//
// Two kinds of simulation share the rules. In crash_test.go and gpus_test.go time is real, on SQLite and PostgreSQL; commits
// fail, servers and workers die at random. In all others a synctest bubble holds the whole (bubble_test.go), hours cost nothing, and
// faults have exact places: plays_test.go puts one fault at every point of every commit and at every message between server and
// worker (line_test.go), for a family of DAGs (family_test.go); random_test.go plays random DAGs under many faults and compares them
// with a second, slow implementation of the rules (reference_test.go); clock_test.go sets the clock.
//
// A failure replays by its name: go test ./internal/simtest -run 'TestName/play/dead_at_point_12$' with OSTRO_TEST_SIM=all, which
// plays every place and not only some, and OSTRO_TEST_SEEDS=364-365 for random DAGs. Verbose (-v) shows the scheduler's log. The
// place of a fault is a number, so what follows is nearly, not wholly, the same every time: goroutines still race. -count repeats.
package simtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
	"ostro.dev/ostro/protocol"
)

// sim is one simulated installation.
type sim struct {
	t      *testing.T
	rng    *rand.Rand // of the test's goroutine
	db     *store.DB
	ex     *scripted.Executor
	log    *slog.Logger
	sched  *scheduler.Scheduler
	cancel context.CancelFunc
	wg     sync.WaitGroup

	faults  atomic.Bool
	faultMu sync.Mutex
	faultIn int // commits until the next fault
	faultR  *rand.Rand
	crash   chan struct{}
}

var errInjected = errors.New("injected fault")

// fault fails a commit now and then: before it, at it, or when it is already durable.
func (s *sim) fault(point string) error {
	if !s.faults.Load() {
		return nil
	}
	s.faultMu.Lock()
	defer s.faultMu.Unlock()
	if s.faultIn--; s.faultIn > 0 {
		return nil
	}
	s.faultIn = 5 + s.faultR.IntN(60)
	switch s.faultR.IntN(4) {
	case 0: // the disk is full for a moment
		if point != store.FaultCommitted {
			return fmt.Errorf("%w: injected", store.ErrUnavailable)
		}
	case 1: // the server dies right here
		select {
		case s.crash <- struct{}{}:
		default:
		}
	}
	return fmt.Errorf("%w at %s", errInjected, point)
}

type sink struct{ *scheduler.Scheduler }

func (sink) Call(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return nil, &protocol.Error{Code: protocol.CodeNotSupported, Message: "not in a simulation"}
}

func (s *sim) start() {
	s.sched = scheduler.New(scheduler.Config{
		TokenKey: []byte("simulation"), Interval: 20 * time.Millisecond, StartedDelay: 2 * time.Millisecond,
		Slots: map[string]int{"local": 8},
	}, s.db, []executor.Executor{s.ex}, s.log)
	s.sched.DAGsChanged()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	sched := s.sched
	s.wg.Go(func() {
		if err := sched.Run(ctx); err != nil {
			s.t.Errorf("the scheduler ended: %v", err)
		}
	})
	s.wg.Go(func() {
		select {
		case <-sched.Ready():
			_ = s.ex.Run(ctx, sink{sched})
		case <-ctx.Done():
		}
	})
}

func (s *sim) stop() {
	s.cancel()
	s.wg.Wait()
}

// script derives what an attempt does from its task's name and the number of its try, so that the outcome of every run is
// known beforehand.
func script(a executor.Attempt) scripted.Behaviour {
	ti := a.Startup.TI
	b := scripted.Behaviour{For: time.Duration(len(ti.TaskID)*ti.TryNumber%3) * time.Millisecond}
	switch ti.TaskID {
	case "fails":
		b.Exit = 1
	case "makes":
		b.Outlets = json.RawMessage(fmt.Sprintf(`[{"name":"made","uri":"made","extra":{"run":%q}}]`, ti.RunID))
	case "push":
		b.XComs = []protocol.XComValue{{Key: "return_value", Value: json.RawMessage(`[1,2,3]`), MapLength: 3}}
	}
	return b
}

func sec(d time.Duration) dag.Seconds { return dag.Seconds(d) }

// shapes are the DAGs of the simulation with the states their instances must end in.
func shapes() (dags []*dag.DAG, want map[string]map[string]run.TaskState) {
	task := func(id string, up ...string) dag.Task { return dag.Task{ID: id, Operator: "X", Upstream: up} }
	none := dag.Schedule{Kind: dag.ScheduleNone}
	chain := &dag.DAG{ID: "chain", File: "c.py", Schedule: none}
	wantChain := map[string]run.TaskState{}
	for i := range 8 {
		t := task(fmt.Sprintf("t%d", i))
		if i > 0 {
			t.Upstream = []string{fmt.Sprintf("t%d", i-1)}
		}
		chain.Tasks = append(chain.Tasks, t)
		wantChain[t.ID+"/-1"] = run.Success
	}
	failing := &dag.DAG{ID: "failing", File: "f.py", Schedule: none, HasOnFailureCallback: true, Tasks: []dag.Task{
		task("start"), task("fails", "start"), task("after", "fails"), task("cleanup", "after"), task("side", "start"),
	}}
	failing.Tasks[1].Retries, failing.Tasks[1].RetryDelay = 2, sec(3*time.Millisecond)
	failing.Tasks[3].TriggerRule = dag.AllDone
	mapped := &dag.DAG{ID: "mapped", File: "m.py", Schedule: none, Tasks: []dag.Task{
		task("push"), task("each", "push"), task("empty", "each"), task("join", "empty"),
	}}
	mapped.Tasks[1].Mapped = &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{
		Name: "x", Length: -1, Source: &dag.MapSource{Op: "xcom", Task: "push", Key: "return_value"},
	}}}
	mapped.Tasks[2].Kind = dag.KindEmpty
	makes := &dag.DAG{ID: "makes", File: "a.py", Schedule: none, Tasks: []dag.Task{task("makes")}}
	makes.Tasks[0].Outlets = []dag.AssetRef{{Name: "made", URI: "made"}}
	return []*dag.DAG{chain, failing, mapped, makes}, map[string]map[string]run.TaskState{
		"makes": {"makes/-1": run.Success},
		"chain": wantChain,
		"failing": {"start/-1": run.Success, "fails/-1": run.Failed, "after/-1": run.UpstreamFailed,
			"cleanup/-1": run.Success, "side/-1": run.Success},
		"mapped": {"push/-1": run.Success, "each/0": run.Success, "each/1": run.Success, "each/2": run.Success,
			"empty/-1": run.Success, "join/-1": run.Success},
	}
}

func TestEveryRunEndsRightWhateverCrashesInBetween(t *testing.T) { onSeeds(t, 24, simulate) }

// onSeeds simulates with so many seeds on SQLite, and with a quarter of them on PostgreSQL.
func onSeeds(t *testing.T, seeds int, simulate func(*testing.T, uint64, store.Options)) {
	if testing.Short() {
		seeds = 4
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, store.Options{Path: filepath.Join(t.TempDir(), "control.db")})
		})
	}
	for seed := range uint64(seeds / 4) {
		t.Run(fmt.Sprintf("PostgreSQL, seed %d", seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, store.Options{URL: pgserver.Database(t), BlobDir: t.TempDir()})
		})
	}
}

func TestMain(m *testing.M) { os.Exit(pgserver.Main(m)) }

func simulate(t *testing.T, seed uint64, o store.Options) {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), faultR: rand.New(rand.NewPCG(seed, 2)), ex: scripted.New("local", script),
		faultIn: 10, crash: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() {
		s.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	o.Fault = s.fault
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
	defer func() {
		s.stop()
		s.ex.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	dags, want := shapes()
	uses := &dag.DAG{ID: "uses", File: "u.py", Tasks: []dag.Task{{ID: "use", Operator: "X"}},
		Schedule: dag.Schedule{Kind: dag.ScheduleAssets, Assets: &dag.AssetExpr{Asset: &dag.AssetRef{Name: "made"}}}}
	err = db.Update(t.Context(), "test", time.Now(), func(tx *store.Tx) error {
		for _, d := range append(dags, uses) {
			if err := dag.Validate(d); err != nil {
				return err
			}
			if _, _, err := tx.PutDAG(d, "b", "v1", false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.faults.Store(true)
	var ids [][2]string
	for i := range 4 {
		for _, d := range dags {
			id := fmt.Sprintf("r%d", i)
			s.trigger(d.ID, id)
			ids = append(ids, [2]string{d.ID, id})
		}
	}
	s.disturb(ids)
	for _, id := range ids {
		s.check(id[0], id[1], want[id[0]])
	}
	s.checkAssets(4)
	s.checkOpen()
}

// trigger creates a run, however often the server dies meanwhile.
func (s *sim) trigger(dagID, runID string) {
	s.t.Helper()
	for range 50 {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		_, err := s.sched.Trigger(ctx, "user:sim", scheduler.TriggerRequest{DAGID: dagID, RunID: runID})
		cancel()
		if err == nil || errors.Is(err, scheduler.ErrConflict) { // it was created before the commit was reported failed
			return
		}
		s.crashIfAsked()
	}
	s.t.Fatalf("run %s of %s cannot be created", runID, dagID)
}

func (s *sim) crashIfAsked() {
	select {
	case <-s.crash:
		s.stop()
		s.start()
	default:
	}
}

// disturb kills servers and workers at random until all runs have ended. Towards the end it leaves them in peace, so that
// the caps on infrastructure retries are not what decides.
func (s *sim) disturb(ids [][2]string) {
	s.t.Helper()
	deadline := time.After(60 * time.Second)
	deaths := 0
	for !s.allEnded(ids) {
		select {
		case <-time.After(time.Duration(1+s.rng.IntN(15)) * time.Millisecond):
		case <-deadline:
			s.faults.Store(false)
			s.t.Fatalf("not all runs have ended: %v", s.unfinished(ids))
		}
		s.crashIfAsked()
		switch s.rng.IntN(8) {
		case 0:
			s.stop()
			s.start()
		case 1:
			if deaths < 4 { // below the cap of 5
				deaths++
				s.ex.Restart()
			}
		}
	}
	s.faults.Store(false)
}

func (s *sim) allEnded(ids [][2]string) bool { return len(s.unfinished(ids)) == 0 }

func (s *sim) unfinished(ids [][2]string) (open []string) {
	for _, id := range ids {
		r, err := s.db.Run(s.t.Context(), id[0], id[1])
		if err != nil || (r.State != run.RunSuccess && r.State != run.RunFailed) {
			open = append(open, fmt.Sprintf("%s/%s %s %v", id[0], id[1], r.State, err))
		}
	}
	return open
}

// check says whether a run ended as it must.
func (s *sim) check(dagID, runID string, want map[string]run.TaskState) {
	s.t.Helper()
	tis, _, err := s.db.TaskInstances(s.t.Context(), store.TIFilter{DAGID: dagID, RunID: runID})
	if err != nil {
		s.t.Fatal(err)
	}
	got := map[string]run.TaskState{}
	for _, ti := range tis {
		got[fmt.Sprintf("%s/%d", ti.TaskID, ti.MapIndex)] = ti.State
		as, err := s.db.Attempts(s.t.Context(), ti.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		authors := 0
		for i, a := range as {
			if !a.Infra {
				authors++
			}
			if i > 0 && (as[i-1].EndedAt == nil || a.QueuedAt.Before(*as[i-1].EndedAt)) {
				s.t.Errorf("%s/%s/%s: attempt %d was queued before attempt %d had ended", dagID, runID, ti.TaskID, i+1, i)
			}
		}
		if ti.TaskID == "fails" && authors != 3 {
			s.t.Errorf("%s/%s/fails was tried %d times by its author's count, want 3", dagID, runID, authors)
		}
		if ti.State == run.Success && ti.TaskID != "empty" && authors != 1 {
			s.t.Errorf("%s/%s/%s succeeded with %d attempts that were not lost, want 1", dagID, runID, ti.TaskID, authors)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s/%s: %s", dagID, runID, diff)
	}
}

// checkAssets says whether each of n runs made one event, and each event is consumed by one run, which succeeded.
func (s *sim) checkAssets(n int) {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		es, _, err := s.db.AssetEvents(s.t.Context(), store.AssetEventFilter{})
		if err != nil {
			s.t.Fatal(err)
		}
		done := len(es) == n
		for _, e := range es {
			if len(e.Runs) > 1 {
				s.t.Fatalf("event %d was consumed by %d runs", e.ID, len(e.Runs))
			}
			done = done && len(e.Runs) == 1 && e.Runs[0].State == run.RunSuccess
		}
		if done {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("%d asset events, want %d, each consumed by a run that succeeds: %+v", len(es), n, es)
		}
		s.crashIfAsked()
	}
}

// checkOpen says whether anything is left over.
func (s *sim) checkOpen() {
	s.t.Helper()
	for id, n := range s.ex.Begun() {
		if n != 1 {
			s.t.Errorf("attempt %s began %d times", id, n)
		}
	}
	deadline := time.After(15 * time.Second)
	for {
		changed := s.db.Changed()
		open, err := s.db.OpenAttempts(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		owed, err := s.db.OwedCallbacks(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if len(open) == 0 && len(owed) == 0 && s.ex.Held() == 0 {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("%d attempts are open, %d callbacks owed, the worker holds %d", len(open), len(owed), s.ex.Held())
		}
	}
}
