package scheduler

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// state is the cache of everything live. It belongs to the scheduler's goroutine.
type state struct {
	runs     map[plan.RunKey]*liveRun
	stranded map[plan.RunKey]bool // live runs whose DAG version is gone: nothing can be decided about them
	dags     map[string]*dagState
	// dagsDue is when the first of them is due; dagsDirty: one has been made due since that was found out, dagsNow: one that may
	// get a run. Most turns of the loop concern no timetable.
	dagsDue            time.Time
	dagsDirty, dagsNow bool
	// dagsStale: DAGs have changed and could not be read.
	dagsStale bool
	indexes   map[versionKey]*indexed
	attempts  map[string]*openAttempt
	// ending are those whose end is folded and not committed yet: when the commit fails they are open again.
	ending map[string]*openAttempt
	// callbacks owed, by id. running ones have an attempt in attempts.
	callbacks map[int64]*owedCallback
	pools     map[string]plan.Pool

	usage   plan.Usage
	queue   plan.Queue
	running map[plan.RunGroup]int
	queued  map[plan.RunKey]*liveRun
	lines   map[plan.RunGroup]*runLine // of queued, in order
	active  map[string]int             // live runs by DAG, those of backfills apart
	assets  assetBoard
	// backfills are those not complete, by number.
	backfills      map[int64]*backfillState
	newestBackfill int64

	waits waits
	// Waits that the watcher and the triggerers are to be told of.
	watch, python []*wait
	leftover      []waitOp // rows of waits that are over, to go with the next commit
	groups        map[groupKey]*triggerGroup
	watchers      map[string]*wait // of assets, by id

	wakes     wakeHeap
	runsWake  time.Time // when a queued run's run_after is reached
	runsDirty bool      // queued runs may begin now
	pastDirty map[plan.RunKey]bool
	// pending are processes that exist but are not recorded as running yet, to travel with the next commit.
	pending   map[string]executor.Started
	pendingAt time.Time
	fresh     bool // just read: every run must say when it wants to be looked at
}

// liveRun is one DAG run in memory.
type liveRun struct {
	key    plan.RunKey
	run    *plan.Run
	info   store.DAGVersionInfo
	counts run.State // the state that running, queued and active count
	slots  *neighbours
	// consumed are the asset events a run by assets has consumed, as its tasks see them.
	consumed json.RawMessage
	wakeAt   time.Time // the earliest entry in state.wakes
	turn     int       // how often it has been lined up, see runLine
}

// openAttempt is an attempt whose end is not committed.
type openAttempt struct {
	row run.Attempt
	// token is known only to the process that made the attempt.
	token string
	// callback is the id of the owed callback this is a try of; 0 for a task.
	callback int64
	// group is what it runs, if it is a triggerer.
	group *triggerGroup
	// order is what the executor is told; nil when another process launched it.
	order *executor.Attempt
	// seen: an executor has said that it has the attempt.
	seen bool
}

// aside tells whether it is not an attempt of a task.
func (a *openAttempt) aside() bool { return a.callback != 0 || a.group != nil }

type owedCallback struct {
	store.OwedCallback
	attempt string // the try in progress
	given   bool   // given up: closed with the next commit
}

type versionKey struct {
	dagID  string
	number int
}

type indexed struct {
	x    *dag.Index
	info store.DAGVersionInfo
}

// formerAttempt is an attempt of the state that is being replaced, as far as is committed; nil when there was none.
func (s *Scheduler) formerAttempt(id string) *openAttempt {
	if s.st == nil {
		return nil
	}
	if a := s.st.ending[id]; a != nil {
		return a
	}
	return s.st.attempts[id]
}

// close takes an attempt out whose end the batch commits.
func (st *state) close(a *openAttempt) {
	delete(st.attempts, a.row.ID)
	st.ending[a.row.ID] = a
	st.usage.FreeGPUs(a.row.ID) // all its processes are gone
}

func newState() *state {
	return &state{
		runs: map[plan.RunKey]*liveRun{}, dags: map[string]*dagState{}, indexes: map[versionKey]*indexed{},
		attempts: map[string]*openAttempt{}, ending: map[string]*openAttempt{}, callbacks: map[int64]*owedCallback{}, pools: map[string]plan.Pool{},
		running: map[plan.RunGroup]int{}, queued: map[plan.RunKey]*liveRun{}, lines: map[plan.RunGroup]*runLine{}, active: map[string]int{},
		pastDirty: map[plan.RunKey]bool{}, pending: map[string]executor.Started{}, stranded: map[plan.RunKey]bool{}, runsDirty: true, fresh: true, waits: newWaits(), groups: map[groupKey]*triggerGroup{}, watchers: map[string]*wait{},
	}
}

// rebuild reads everything live from the store. It tries until it succeeds or ctx ends.
func (s *Scheduler) rebuild(ctx context.Context) error {
	wait := leastRebuild
	for {
		st, err := s.load(ctx)
		if err == nil {
			if wait > leastRebuild { // it had failed before
				s.problem.Store(nil)
			}
			former := s.st
			s.st = st
			s.watcher.reset()
			s.files.reset()
			s.tellWaiters()
			former.wakeTriggerers()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Error("the scheduling state cannot be read; trying again", "error", err, "in", wait.String())
		text := "the scheduling state cannot be read: " + err.Error()
		s.problem.Store(&text)
		if !s.waitRebuilding(ctx, wait, err) {
			return ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// leastRebuild is how long a rebuild waits before it tries for the second time.
const leastRebuild = 50 * time.Millisecond

// waitRebuilding waits before the next try; false when ctx ended. Questions are answered from what was known before, if
// anything was, and changes refused.
func (s *Scheduler) waitRebuilding(ctx context.Context, d time.Duration, why error) bool {
	if s.st != nil {
		return s.waitAnswering(ctx, d, true, errors.Join(store.ErrUnavailable, why))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (s *Scheduler) load(ctx context.Context) (*state, error) {
	if err := s.clockTold(ctx); err != nil {
		return nil, err
	}
	s.clock.look() // what is about to be read is told by the clock as it was
	st := newState()
	if old := s.st; old != nil {
		st.indexes, st.pending, st.pendingAt = old.indexes, old.pending, old.pendingAt
	}
	if err := s.loadDAGs(ctx, st); err != nil {
		return nil, err
	}
	if err := s.loadBackfills(ctx, st); err != nil {
		return nil, err
	}
	if err := s.loadPools(ctx, st); err != nil {
		return nil, err
	}
	live, err := s.store.LiveRuns(ctx)
	if err != nil {
		return nil, fmt.Errorf("read live DAG runs: %w", err)
	}
	for _, l := range live {
		lr, err := s.revive(ctx, st, l.Run, l.Instances)
		if errors.Is(err, store.ErrNotFound) {
			s.log.Error("a live DAG run cannot be scheduled: its DAG version is gone", "dag", l.Run.DAGID, "run", l.Run.RunID)
			st.stranded[runKey(l.Run)] = true
			continue
		}
		if err != nil {
			return nil, err
		}
		st.keep(lr)
	}
	attempts, err := s.store.OpenAttempts(ctx)
	if err != nil {
		return nil, fmt.Errorf("read open attempts: %w", err)
	}
	for _, a := range attempts {
		o := &openAttempt{row: a, seen: a.State == run.Running}
		if old := s.formerAttempt(a.ID); old != nil {
			o.token, o.order, o.seen = old.token, old.order, old.seen
		}
		st.attempts[a.ID] = o
		st.holdGPUs(a)
	}
	if err := s.loadWaits(ctx, st); err != nil {
		return nil, err
	}
	if err := s.loadInputs(ctx, st); err != nil {
		return nil, err
	}
	if err := s.loadTriggerers(ctx, st); err != nil {
		return nil, err
	}
	s.setWatchers(st)
	return st, s.loadCallbacks(ctx, st)
}

func (s *Scheduler) loadCallbacks(ctx context.Context, st *state) error {
	owed, err := s.store.OwedCallbacks(ctx)
	if err != nil {
		return fmt.Errorf("read owed callbacks: %w", err)
	}
	for _, c := range owed {
		o := &owedCallback{OwedCallback: c}
		st.callbacks[c.ID] = o
		if c.Tries > 0 { // its last try may still be running: see Connected
			s.adoptCallback(st, o)
		}
	}
	return nil
}

func (s *Scheduler) loadPools(ctx context.Context, st *state) error {
	pools, err := s.store.Pools(ctx)
	if err != nil {
		return fmt.Errorf("read pools: %w", err)
	}
	st.pools = map[string]plan.Pool{plan.DefaultPool: {Slots: s.cfg.DefaultPoolSlots}}
	for _, p := range pools {
		st.pools[p.Name] = plan.Pool{Slots: p.Slots, IncludeDeferred: p.IncludeDeferred}
	}
	return nil
}

// revive makes a stored run a live one, without entering it anywhere.
func (s *Scheduler) revive(ctx context.Context, st *state, r run.DAGRun, tis []run.TaskInstance) (*liveRun, error) {
	ix, err := s.index(ctx, st, r.DAGID, r.DAGVersion)
	if err != nil {
		return nil, err
	}
	opt, err := s.options(ctx, st, ix.x, r, true)
	if err != nil {
		return nil, err
	}
	return &liveRun{key: runKey(r), run: plan.NewRun(ix.x, r, tis, opt), info: ix.info}, nil
}

// options gathers what plan must know beside the run: stored lengths, and how the run before ended.
func (s *Scheduler) options(ctx context.Context, st *state, x *dag.Index, r run.DAGRun, stored bool) (plan.Options, error) {
	o := plan.Options{Limits: s.limits(st), NewID: newID}
	if stored {
		lengths, err := s.mapLengths(ctx, x, r)
		if err != nil {
			return o, err
		}
		o.MapLengths = lengths
	}
	if r.LogicalDate == nil {
		return o, nil
	}
	if x.DependsOnPast() {
		past, err := s.past(ctx, st, r)
		if err != nil {
			return o, err
		}
		o.Past = past
	}
	if limit := x.DAG.MaxConsecutiveFailedRuns; limit > 0 {
		n, err := s.failedBefore(ctx, st, r, limit)
		if err != nil {
			return o, err
		}
		o.FailedBefore = n
	}
	return o, nil
}

// failedBefore counts, up to limit, the runs directly before r that have failed. What is in memory is newer than the store.
func (s *Scheduler) failedBefore(ctx context.Context, st *state, r run.DAGRun, limit int) (n int, err error) {
	before, _, err := s.store.Runs(ctx, store.RunFilter{DAGID: r.DAGID, LogicalDateLTE: r.LogicalDate,
		OrderBy: []string{"-logical_date"}, Limit: limit + 1})
	if err != nil {
		return 0, fmt.Errorf("read earlier runs of %s: %w", r.DAGID, err)
	}
	for _, b := range before {
		if b.RunID == r.RunID {
			continue
		}
		if lr := st.runs[runKey(b)]; lr != nil {
			b.State = lr.run.Row().State
		}
		if b.State != run.RunFailed {
			break
		}
		n++
	}
	return n, nil
}

func (s *Scheduler) mapLengths(ctx context.Context, x *dag.Index, r run.DAGRun) (map[plan.XComRef]int, error) {
	seen := map[string]bool{}
	var out map[plan.XComRef]int
	for pos := range x.Len() {
		m := x.Mapping(pos)
		if m == nil {
			continue
		}
		for _, src := range m.Sources() {
			if src.Task == "" || seen[src.Task+"\x00"+src.Key] {
				continue
			}
			seen[src.Task+"\x00"+src.Key] = true
			key := src.Key
			if key == "" {
				key = returnKey
			}
			values, err := s.store.XComsOfTask(ctx, r.DAGID, r.RunID, src.Task, key)
			if err != nil {
				return nil, fmt.Errorf("read XComs of %s: %w", src.Task, err)
			}
			for _, v := range values {
				if out == nil {
					out = map[plan.XComRef]int{}
				}
				out[plan.XComRef{TaskID: src.Task, Key: key, MapIndex: v.Key.MapIndex}] = v.MapLength
			}
		}
	}
	return out, nil
}

// returnKey is the XCom key of a task's return value.
const returnKey = "return_value"

// past sums up the run directly before r.
func (s *Scheduler) past(ctx context.Context, st *state, r run.DAGRun) (*plan.Past, error) {
	before, _, err := s.store.Runs(ctx, store.RunFilter{DAGID: r.DAGID, LogicalDateLTE: r.LogicalDate,
		OrderBy: []string{"-logical_date"}, Limit: 2})
	if err != nil {
		return nil, fmt.Errorf("read the run before %s: %w", r.RunID, err)
	}
	fresh := st.before(r) // a run of this very batch is not stored yet
	for _, b := range before {
		if b.RunID == r.RunID || !b.LogicalDate.Before(*r.LogicalDate) || (fresh != nil && b.LogicalDate.Before(*fresh.run.Row().LogicalDate)) {
			continue
		}
		if lr := st.runs[runKey(b)]; lr != nil {
			return plan.PastOf(lr.run.Row(), lr.run.Instances()), nil
		}
		tis, _, err := s.store.TaskInstances(ctx, store.TIFilter{DAGID: b.DAGID, RunID: b.RunID})
		if err != nil {
			return nil, fmt.Errorf("read the run before %s: %w", r.RunID, err)
		}
		return plan.PastOf(b, tis), nil
	}
	if fresh != nil {
		return plan.PastOf(fresh.run.Row(), fresh.run.Instances()), nil
	}
	return nil, nil
}

// before is the live run of the same DAG with the newest logical date before r's.
func (st *state) before(r run.DAGRun) (best *liveRun) {
	for k, lr := range st.runs {
		at := lr.run.Row().LogicalDate
		if k.DAGID != r.DAGID || at == nil || !at.Before(*r.LogicalDate) {
			continue
		}
		if best == nil || at.After(*best.run.Row().LogicalDate) {
			best = lr
		}
	}
	return best
}

// index returns a DAG version ready for scheduling; number 0 is the newest.
func (s *Scheduler) index(ctx context.Context, st *state, dagID string, number int) (*indexed, error) {
	if ix := st.indexes[versionKey{dagID, number}]; ix != nil && number > 0 {
		return ix, nil
	}
	d, info, err := s.store.DAGVersion(ctx, dagID, number)
	if err != nil {
		return nil, fmt.Errorf("read version %d of DAG %s: %w", number, dagID, err)
	}
	k := versionKey{dagID, info.Number}
	if ix := st.indexes[k]; ix != nil {
		ix.info = info
		return ix, nil
	}
	ix := &indexed{x: dag.NewIndex(d), info: info}
	st.indexes[k] = ix
	return ix, nil
}

// keep enters a run into memory and into everything that counts.
func (st *state) keep(lr *liveRun) {
	st.runs[lr.key] = lr
	st.usage.Add(lr.run)
	st.queue.Add(lr.run, st.paused(lr.key.DAGID))
	st.recount(lr)
}

// forget takes a finished run out of memory.
func (st *state) forget(lr *liveRun) {
	if st.runs[lr.key] != lr {
		return
	}
	st.recount(lr)
	st.queue.Drop(lr.key)
	delete(st.runs, lr.key)
	delete(st.queued, lr.key)
}

// drop takes a run out of memory as if it had never been read.
func (st *state) drop(lr *liveRun) {
	st.count(lr, -1)
	lr.counts = ""
	st.usage.Drop(lr.run)
	st.queue.Drop(lr.key)
	delete(st.runs, lr.key)
	delete(st.queued, lr.key)
}

// recount moves a run whose state has changed between the counters.
func (st *state) recount(lr *liveRun) {
	now := lr.run.Row().State
	if now == lr.counts {
		return
	}
	st.count(lr, -1)
	lr.counts = now
	st.count(lr, 1)
	st.runsDirty = true
	if d := st.dags[lr.key.DAGID]; d != nil {
		st.look(d) // a free place may let the next scheduled run be created
	}
	if len(st.assets.queued[lr.key.DAGID]) > 0 {
		st.assets.dirty = true
	}
}

func (st *state) count(lr *liveRun, n int) {
	switch lr.counts {
	case run.RunRunning:
		g := group(lr.run.Row())
		if st.running[g] += n; st.running[g] == 0 {
			delete(st.running, g)
		}
	case run.RunQueued:
		if n > 0 {
			st.queued[lr.key] = lr
			st.lineUp(lr)
		} else {
			delete(st.queued, lr.key)
		}
	default:
		return
	}
	if id := lr.run.Row().BackfillID; id == 0 {
		if st.active[lr.key.DAGID] += n; st.active[lr.key.DAGID] == 0 {
			delete(st.active, lr.key.DAGID)
		}
	} else if x := st.backfills[id]; x != nil {
		x.live += n
	}
}

func (st *state) paused(dagID string) bool {
	d := st.dags[dagID]
	return d != nil && d.info.Paused
}

func (st *state) setPaused(dagID string, paused bool) {
	if d := st.dags[dagID]; d != nil {
		d.info.Paused = paused
		st.look(d)
	}
	st.assets.dirty = true
	st.queue.SetPaused(dagID, paused)
	st.runsDirty = true
}

// limits is what the installation allows now: an executor that cannot be reached has no slots.
func (s *Scheduler) limits(st *state) plan.Limits {
	l := s.cfg.Limits
	l.Pools, l.GPUs, l.Now = st.pools, s.devices, s.now()
	l.Executors = make(map[string]int, len(s.execs))
	for name, d := range s.execs {
		if now := s.instances[name]; !s.held && now != "" && d.ex.Instance() == now {
			slots := s.cfg.Slots[name]
			if slots == 0 {
				slots = 32
			}
			l.Executors[name] = slots
		}
	}
	return l
}

// wake asks for a look at a run at a time. An earlier look asks again for the later one.
func (st *state) wake(lr *liveRun, at time.Time) {
	if at.IsZero() || (!lr.wakeAt.IsZero() && !at.Before(lr.wakeAt)) {
		return
	}
	lr.wakeAt = at
	heap.Push(&st.wakes, wakeUp{at, lr.key})
}

// nextWake is when the scheduler must act without being told to.
func (st *state) nextWake(now time.Time, interval time.Duration) time.Time {
	next := now.Add(interval)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if len(st.wakes) > 0 {
		earlier(st.wakes[0].at)
	}
	earlier(st.waits.next())
	earlier(st.runsWake)
	earlier(st.pendingAt)
	if st.dagsNow {
		return now
	}
	earlier(st.dagsDue)
	return next
}

type wakeUp struct {
	at  time.Time
	run plan.RunKey
}

type wakeHeap []wakeUp

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wakeUp)) }
func (h *wakeHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func runKey(r run.DAGRun) plan.RunKey { return plan.RunKey{DAGID: r.DAGID, RunID: r.RunID} }

func keyOf(k run.Key) plan.RunKey { return plan.RunKey{DAGID: k.DAGID, RunID: k.RunID} }

func group(r run.DAGRun) plan.RunGroup {
	return plan.RunGroup{DAGID: r.DAGID, BackfillID: r.BackfillID}
}

func ended(s run.State) bool { return s == run.RunSuccess || s == run.RunFailed }
