package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// Store is what the scheduler needs of the control database.
type Store interface {
	Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error
	LiveRuns(ctx context.Context) ([]store.LiveRun, error)
	OpenAttempts(ctx context.Context) ([]run.Attempt, error)
	Waits(ctx context.Context) ([]run.Wait, error)
	OpenInputs(ctx context.Context) ([]run.Input, error)
	InputsOfRun(ctx context.Context, dagID, runID string) ([]run.Input, error)
	Triggerers(ctx context.Context) ([]store.Triggerer, error)
	OwedCallbacks(ctx context.Context) ([]store.OwedCallback, error)
	DAGVersion(ctx context.Context, dagID string, number int) (*dag.DAG, store.DAGVersionInfo, error)
	DAGs(ctx context.Context, f store.DAGFilter) ([]store.DAGInfo, int, error)
	DAG(ctx context.Context, dagID string) (store.DAGInfo, error)
	Run(ctx context.Context, dagID, runID string) (run.DAGRun, error)
	Runs(ctx context.Context, f store.RunFilter) ([]run.DAGRun, int, error)
	TaskInstances(ctx context.Context, f store.TIFilter) ([]run.TaskInstance, int, error)
	TaskStates(ctx context.Context, f store.TIFilter, visit func(run.Key, run.TaskState) error) error
	XComsOfTask(ctx context.Context, dagID, runID, taskID, key string) ([]store.XCom, error)
	Attempt(ctx context.Context, id string) (run.Attempt, error)
	EventLog(ctx context.Context, f store.EventFilter) ([]store.Event, int, error)
	Pools(ctx context.Context) ([]store.Pool, error)
	OpenBackfills(ctx context.Context) (open []store.Backfill, newest int64, err error)
	Backfill(ctx context.Context, id int64) (store.Backfill, error)
	AssetState(ctx context.Context) (store.AssetState, error)
	ConsumedAssetEvents(ctx context.Context, dagID, runID string) ([]store.AssetEvent, error)
	StageXCom(value json.RawMessage) error
	Meta(ctx context.Context, key string) (string, error)
	Health(ctx context.Context) error
	Refused() *store.Refusal
}

// Config is what the scheduler is told about the installation. The zero value of every field has a default.
type Config struct {
	// Limits of the installation. Executors and Pools are filled in by the scheduler itself.
	Limits plan.Limits
	// Slots is how many attempts each executor may hold, by name.
	Slots map[string]int
	// DefaultPoolSlots is the size of default_pool before somebody changes it; 128 when zero.
	DefaultPoolSlots int
	// BundleName, BundleShown and BundlePath say where a task's code is: the bundle's name, the folder people know it by
	// and the snapshot of a version.
	BundleName, BundleShown string
	BundlePath              func(version string) string
	// HasBundle says whether a version's snapshot is still there; nil means always.
	HasBundle func(version string) bool
	// Interpreter, Isolation, Compat and Grace go into every launch that does not say otherwise.
	Interpreter, Isolation, Compat string
	Grace                          time.Duration
	// Defaults fill arguments an author left out when a process imports the file itself; the same as for parsing it.
	Defaults map[string]json.RawMessage
	// ByHand turns schedules off: DAG runs come about only when somebody triggers them.
	ByHand bool
	// Timetables asks timetables written in Python; nil where none can be asked.
	Timetables Evaluator
	// BaseURL is where people reach the server.
	BaseURL string
	// TokenKey makes the tokens of callback processes, which must outlive a restart. Random when empty.
	TokenKey []byte
	// Interval is how often everything is looked at without a reason; 5 s when zero.
	Interval time.Duration
	// StartedDelay is how long "running" may wait for a commit to travel with; 30 ms when zero.
	StartedDelay time.Duration
	// CallbackSlots is how many callback processes run at once; 4 when zero.
	CallbackSlots int
	// Now is the clock on the wall; time.Now when nil. Elapsed is one that nobody can set; when nil, the one that times processes,
	// which may stand still while a machine sleeps.
	Now     func() time.Time
	Elapsed func() time.Duration
}

// callbackTries is how often a callback is started before it is given up.
const callbackTries = 3

// A Scheduler owns all scheduling state. Create it with New, run it with Run.
type Scheduler struct {
	cfg   Config
	store Store
	log   *slog.Logger
	clock *clock
	box   *mailbox
	execs map[string]*dispatcher

	watcher *watcher     // waits for other runs
	files   *fileWatcher // and for files

	pushes       pushLog  // what running attempts pushed, told by the task API
	faults       sync.Map // DAG id → TimetableFault
	callbackRows sync.Map // attempt id → run.Attempt of running callbacks, for the task API

	// Owned by Run's goroutine.
	st   *state
	held bool // nothing new starts: the server is stopping
	// background runs something that Run waits for; nil before Run.
	background func(func(context.Context))
	instances  map[string]string
	devices    map[string]gpu.Inventory // by executor
	lastFull   time.Time
	idlers     []func()
	troubled   time.Time // since when nothing can be committed
	cause      error     // why not, as far as it is known; nil: it can
	fenced     error     // another server leads: nothing may be done any more

	turned  atomic.Int64           // when the loop last turned, in nanoseconds since 1970
	problem atomic.Pointer[string] // why nothing can be committed now

	ready     chan struct{}
	done      chan struct{}
	readyOnce sync.Once
}

// New returns a scheduler that starts attempts on the given executors.
func New(cfg Config, st Store, execs []executor.Executor, logger *slog.Logger) *Scheduler {
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Second
	}
	if cfg.StartedDelay == 0 {
		cfg.StartedDelay = 30 * time.Millisecond
	}
	if cfg.CallbackSlots == 0 {
		cfg.CallbackSlots = 4
	}
	if cfg.DefaultPoolSlots == 0 {
		cfg.DefaultPoolSlots = 128
	}
	if cfg.Limits.DefaultExecutor == "" {
		cfg.Limits.DefaultExecutor = "local"
	}
	if len(cfg.TokenKey) == 0 {
		cfg.TokenKey = []byte(newToken())
	}
	if cfg.BundlePath == nil {
		cfg.BundlePath = func(version string) string { return version }
	}
	s := &Scheduler{
		cfg: cfg, store: st, log: logger, box: newMailbox(), clock: newClock(cfg.Now, cfg.Elapsed), execs: map[string]*dispatcher{},
		instances: map[string]string{}, devices: map[string]gpu.Inventory{}, ready: make(chan struct{}), done: make(chan struct{}),
	}
	s.watcher, s.files = newWatcher(st, logger, s.fired), newFileWatcher(logger, s.fired, s.noted)
	for _, ex := range execs {
		s.execs[ex.Name()] = newDispatcher(ex, logger)
	}
	return s
}

// Ready is closed once the state has been read and commands are folded.
func (s *Scheduler) Ready() <-chan struct{} { return s.ready }

// LastTurn is when the scheduler's loop last turned; zero before the first time.
func (s *Scheduler) LastTurn() time.Time {
	if n := s.turned.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Problem says in words why nothing can be scheduled now; empty when all is well.
func (s *Scheduler) Problem() string {
	if p := s.problem.Load(); p != nil {
		return *p
	}
	return ""
}

// Run schedules until ctx ends. What was committed stays; what was not is answered with an error.
func (s *Scheduler) Run(ctx context.Context) error {
	defer close(s.done)
	defer func() {
		for _, m := range s.box.close() {
			m.answer(ErrStopped)
		}
	}()
	var wg sync.WaitGroup
	dctx, stop := context.WithCancel(ctx)
	defer wg.Wait()
	defer stop()
	for _, d := range s.execs {
		wg.Go(func() { d.run(dctx) })
	}
	s.background = func(f func(context.Context)) { wg.Go(func() { f(dctx) }) }
	wg.Go(func() { s.watcher.run(dctx) })
	wg.Go(func() { s.files.run(dctx) })
	if err := s.rebuild(ctx); err != nil {
		return endOf(ctx, err)
	}
	s.apply(ctx, []message{{actor: actorScheduler, fold: s.recover}})
	s.readyOnce.Do(func() { close(s.ready) })
	for ctx.Err() == nil && s.fenced == nil {
		s.turned.Store(time.Now().UnixNano())
		msgs := s.box.take()
		if len(msgs) == 0 {
			s.retire()
			now := s.now()
			if wait := s.st.nextWake(now, s.cfg.Interval).Sub(now); wait > 0 && !s.sleep(ctx, wait) {
				break
			}
			msgs = s.box.take()
		}
		s.process(ctx, append(msgs, message{actor: actorScheduler, fold: s.onTime}))
	}
	return s.fenced
}

// sleep waits for the mailbox or until the time is over; false when ctx ended.
func (s *Scheduler) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.box.wake:
	case <-t.C:
	}
	return true
}

// process folds messages in order. Neighbours with one actor share a commit.
func (s *Scheduler) process(ctx context.Context, msgs []message) {
	for len(msgs) > 0 && ctx.Err() == nil && s.fenced == nil {
		n := 1
		for !msgs[0].alone && n < len(msgs) && msgs[n].actor == msgs[0].actor && !msgs[n].alone {
			n++
		}
		s.apply(ctx, msgs[:n])
		msgs = msgs[n:]
	}
	for _, m := range msgs {
		m.answer(ErrStopped)
	}
}

// apply folds messages into one commit and does what follows. A commit that fails changes nothing: memory is rebuilt
// from the store and the messages are folded again, each by itself if they fail together.
func (s *Scheduler) apply(ctx context.Context, msgs []message) {
	for try := 0; ; try++ {
		b := s.newBatch(ctx, msgs[0].actor)
		b.waits = s.st.takeLeftover()
		if !msgs[0].alone { // a batch that nothing follows from
			s.followClock(b)
		}
		refused := make([]error, len(msgs))
		for i, m := range msgs {
			refused[i] = m.fold(b)
		}
		if !msgs[0].alone {
			s.advance(b)
		}
		err := s.commit(ctx, b, slices.ContainsFunc(msgs, message.command))
		if err == nil {
			b.finish()
			for i, m := range msgs {
				m.answer(refused[i])
			}
			return
		}
		if errors.Is(err, store.ErrFenced) {
			s.fenced = err
			for _, m := range msgs {
				m.answer(errors.Join(ErrStopped, err))
			}
			return
		}
		if rerr := s.rebuild(ctx); rerr != nil || ctx.Err() != nil {
			for _, m := range msgs {
				m.answer(errors.Join(ErrStopped, err))
			}
			return
		}
		if errors.Is(err, store.ErrUnavailable) {
			if msgs = refuseCommands(msgs, err); len(msgs) == 0 {
				return
			}
			try = -1
			continue
		}
		s.log.Warn("a commit was refused; folding again from the stored state", "error", err, "messages", len(msgs))
		if try == 0 {
			continue
		}
		if len(msgs) > 1 {
			for i := range msgs {
				s.apply(ctx, msgs[i:i+1])
			}
			return
		}
		m := msgs[0]
		if m.fallback == nil || try > 2 {
			s.log.Error("a change could not be stored", "actor", m.actor, "error", err)
			m.answer(err)
			return
		}
		msgs = []message{{actor: m.actor, alone: m.alone, reply: m.reply, fallback: m.fallback,
			fold: func(b *batch) error { return m.fallback(b, err) }}}
	}
}

// refuseCommands answers the changes from outside and returns the other messages.
func refuseCommands(msgs []message, err error) []message {
	var rest []message
	for _, m := range msgs {
		if m.command() {
			m.answer(err)
		} else {
			rest = append(rest, m)
		}
	}
	return rest
}

func (m message) answer(err error) {
	if m.reply != nil {
		m.reply(err)
	}
}

// call posts a command and waits for its answer. A command may be ahead of the word that its DAG was published; then that
// is taken in first.
func (s *Scheduler) call(ctx context.Context, m message) error {
	err := s.post(ctx, m)
	var unknown *unknownDAG
	if !errors.As(err, &unknown) {
		return err
	}
	if info, storeErr := s.store.DAG(ctx, unknown.id); storeErr != nil || info.Removed {
		return err
	}
	s.DAGsChanged()
	return s.post(ctx, m)
}

func (s *Scheduler) post(ctx context.Context, m message) error {
	answer := make(chan error, 1)
	m.reply = func(err error) { answer <- err }
	if !s.box.put(m) {
		return ErrStopped
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the scheduler: %w", ctx.Err())
	}
}

// answered is what a command returns: what its fold has left in out, or the error alone. After an error out is not looked
// at, since the fold of a caller that gave up may be writing to it.
func answered[T any](out *T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return *out, nil
}

// now is the current time as the store keeps it.
func (s *Scheduler) now() time.Time { return s.clock.now() }

// ErrStopped answers commands that the scheduler will not fold any more; its successor may.
var ErrStopped = errors.New("the scheduler has stopped")

const actorScheduler = "scheduler"

func newID() string {
	return uuid.Must(uuid.NewV7()).String()
}

func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // an error that comes of being told to end is none
	}
	return err
}
