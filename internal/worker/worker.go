// Package worker is what runs beside tasks, on a machine as `ostro worker`, a process of its own. It owns the DAG hosts,
// the tasks' pipes and log files, and a durable spool of results.
//
// It promises that a server which dies or is replaced finds every task still running and misses no log line and no
// result; that an attempt id is started at most once; and that when the worker itself dies, every process below it is
// gone before its successor takes the first order. It must not know why an attempt is run or what follows from its end.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// errStopping refuses what comes while the worker ends.
var errStopping = errors.New("the worker is stopping")

// Options say how a worker runs.
type Options struct {
	// Home is the folder with everything; the worker uses run/ and spool/ in it. It must be absolute.
	Home   string
	Logger *slog.Logger
	// Version of the program, for the server to compare.
	Version string
	// OrphanIdle is how long a worker without a server and without tasks stays; zero: ten minutes. With tasks it stays
	// for ever.
	OrphanIdle time.Duration
	// LogLimit bounds each log file, in bytes; zero: no limit.
	LogLimit int64
	// SampleGPUs is how often the GPUs are looked at while attempts hold some; zero: every five seconds.
	SampleGPUs time.Duration
	// LimitGPUs is how long nvidia-smi may take; zero: 15 seconds.
	LimitGPUs time.Duration
	// Shared is set when the process has children that are not the worker's, as a test has: then orphans are left to
	// the system instead of being adopted and killed.
	Shared bool
}

// A Worker runs attempts.
type Worker struct {
	o        Options
	log      *slog.Logger
	instance string
	hostname string
	launcher *daghost.Launcher
	pool     *pool
	spool    *spool
	records  records
	oom      *oomWatch
	gpus     *gpuWatch
	refusals *diskWatch

	ctx    context.Context // ends with the worker
	cancel context.CancelFunc
	disk   context.Context // ends when a full disk is not waited for any longer
	giveUp context.CancelFunc
	tasks  sync.WaitGroup // attempts
	conns  sync.WaitGroup // connections and what they started
	stop   chan struct{}  // closed when the worker should end

	mu            sync.Mutex
	settings      workerapi.Settings
	server        *workerapi.Peer // nil: none attached
	serverChanged chan struct{}   // closed and replaced with every change of server
	attempts      map[string]*attempt
	forgotten     *memory[string, bool] // acknowledged attempts
	stopping      bool                  // no attempt starts any more
	ending        bool                  // and those that run were told to end
	lastUse       time.Time             // of the last task's end or the server's leaving
}

// Run runs a worker until ctx ends, a server stops it, or nobody has needed it for long. Only one runs per home.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OrphanIdle <= 0 {
		o.OrphanIdle = 10 * time.Minute
	}
	home, err := filepath.Abs(o.Home)
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	o.Home = home
	for _, dir := range []string{"run", "spool", "logs"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return fmt.Errorf("run worker: %w", err)
		}
	}
	held, err := lock(lockPath(home))
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	defer held.Close()
	if err := sign(held); err != nil {
		o.Logger.Warn("nobody can end this worker but over its socket", "err", err)
	}
	w, err := newWorker(o)
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	return w.run(ctx)
}

func newWorker(o Options) (*Worker, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	hostname, _ := os.Hostname()
	w := &Worker{
		o: o, log: o.Logger, instance: id.String(), hostname: hostname,
		records:       newRecords(filepath.Join(o.Home, "run")),
		oom:           newOOMWatch(),
		refusals:      newDiskWatch(),
		stop:          make(chan struct{}),
		serverChanged: make(chan struct{}),
		attempts:      map[string]*attempt{},
		forgotten:     newMemory[string, bool](1 << 16),
		lastUse:       time.Now(),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.disk, w.giveUp = context.WithCancel(w.ctx)
	w.gpus = newGPUWatch(w)
	if !o.Shared {
		if err := daghost.SetSubreaper(); err != nil {
			return nil, err
		}
	}
	if err := w.records.clearPredecessor(o.Home, w.instance, w.log); err != nil {
		return nil, err
	}
	removeScratch(w.log, scratchRoot(o.Home)) // nobody is left who could use it
	if w.spool, err = openSpool(filepath.Join(o.Home, "spool"), w.log); err != nil {
		return nil, err
	}
	w.spool.refused = func(err error) { w.refusals.note(w.spool.dir, err) }
	return w, nil
}

// SocketPath is where the worker of a home listens.
func SocketPath(home string) string { return filepath.Join(home, "run", "worker.sock") }

// CheckSocketPath refuses a path that is too long for a socket: the kernel keeps 107 bytes of it.
func CheckSocketPath(path string) error {
	if extra := len(path) - 107; extra > 0 {
		return fmt.Errorf("the path of its socket, %s, is %d bytes longer than the kernel allows; choose a shorter --home", path, extra)
	}
	return nil
}

func (w *Worker) run(ctx context.Context) error {
	listener, err := Listen(SocketPath(w.o.Home))
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	w.launcher = daghost.NewLauncher()
	env := baseEnv(w.o.Home, w.instance)
	w.pool = newPool(w.log, w.launcher, w.o.Home, func() []string { return append([]string(nil), env...) })
	w.pool.server = w.callImport
	w.log.Info("worker runs", "instance", w.instance, "pid", os.Getpid(), "home", w.o.Home, "spooled", len(w.spool.IDs()))

	var serving sync.WaitGroup
	serving.Go(func() { w.accept(listener) })
	serving.Go(w.gpus.run)
	serving.Go(w.watchDisk)
	if !w.o.Shared {
		serving.Go(w.reap)
	}
	why := w.await(ctx)
	w.log.Info("worker ends", "why", why)

	listener.Close()
	w.endTasks(killOrder{reason: "the worker was stopped", grace: w.graceOf(0)})
	w.pool.Close()
	w.mu.Lock()
	w.stopping = true
	server := w.server
	w.mu.Unlock()
	if server != nil {
		flush, cancel := context.WithTimeout(context.Background(), time.Second)
		server.Flush(flush)
		cancel()
		server.Close()
	}
	w.cancel()
	w.conns.Wait()
	serving.Wait()
	w.spool.Close()
	w.launcher.Close()
	return nil
}

// Listen opens a socket that only this user can connect to. Whoever calls it knows that a file that is there is that of a
// dead process.
func Listen(path string) (*net.UnixListener, error) {
	if err := CheckSocketPath(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// Nobody slips in before the mode is set: the directory is open to its owner only.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// await returns, in words, why the worker should end.
func (w *Worker) await(ctx context.Context) string {
	tick := time.NewTicker(min(w.o.OrphanIdle/4+time.Millisecond, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return "it was told to by a signal"
		case <-w.stop:
			return "the server stopped it"
		case <-tick.C:
			if why := w.needless(); why != "" {
				return why
			}
			if err := boundOwnLog(w.o.Home, ownLogLimit, 1, 2); err != nil {
				w.log.Error("the worker's log grows", "err", err)
			}
		}
	}
}

// needless says why nobody needs this worker; empty while somebody may.
func (w *Worker) needless() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil || len(w.attempts) > 0 {
		return ""
	}
	if _, err := os.Stat(SocketPath(w.o.Home)); errors.Is(err, os.ErrNotExist) {
		return "its home is gone"
	}
	if idle := time.Since(w.lastUse); idle >= w.o.OrphanIdle {
		return fmt.Sprintf("no server and no task for %v", idle.Round(time.Second))
	}
	return ""
}

// reap adopts and ends what dead hosts and tasks leave behind.
func (w *Worker) reap() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGCHLD)
	defer signal.Stop(ch)
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-ch:
			w.clearOrphans()
		}
	}
}

func (w *Worker) clearOrphans() {
	if w.o.Shared {
		return
	}
	if n := w.launcher.ClearOrphans(); n > 0 {
		w.log.Info("killed processes that a task or a lost DAG host had left behind", "count", n)
	}
}

// isHost reports whether a process is one of the pool's hosts.
func (w *Worker) isHost(pid int) bool {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	for h := range w.pool.all {
		if h.proc != nil && h.proc.PID() == pid {
			return true
		}
	}
	return false
}

// launch starts attempts that were never seen before. The order must come from the server that is attached now, not when
// it was read: a newer one has been told what runs here, and replaces what it was not told of.
func (w *Worker) launch(from *workerapi.Peer, orders []executor.Attempt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != from {
		return errNotAttached
	}
	if w.stopping {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: errStopping.Error()}
	}
	for _, o := range orders {
		if _, over := w.forgotten.Get(o.ID); over || w.attempts[o.ID] != nil || w.spool.Has(o.ID) {
			continue
		}
		if o.Instance != "" && o.Instance != w.instance {
			continue // meant for a worker that is gone: the server has replaced it, or will
		}
		a := newAttempt(w, o, w.settings)
		w.attempts[o.ID] = a
		w.gpus.begin(a)
		w.tasks.Go(func() {
			res := a.run()
			w.gpus.end(a, &res)
			w.finish(res)
			removeScratch(w.log, a.startup.Scratch)
		})
	}
	return nil
}

// reportStarted tells the server that an attempt's process exists.
func (w *Worker) reportStarted(a *attempt, s executor.Started) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.started = &s
	if w.server != nil {
		_ = w.server.Notify(workerapi.Started{Type: "Started", Started: s}) // told again at the next attach
	}
}

// finished is workerapi.Finished with the result encoded already.
type finished struct {
	Type   string          `json:"type"`
	Result json.RawMessage `json:"result"`
}

// finish reports a result and spools it. The report goes first, the file is not on the task's critical path: a result is
// lost only if server and worker both die in between, and then the attempt counts as lost with its worker.
func (w *Worker) finish(r executor.Result) {
	data, err := w.spool.Add(r)
	if err != nil { // a value that was JSON when it came is JSON now
		w.log.Error("cannot encode a result", "attempt", r.AttemptID, "err", err)
		data, _ = w.spool.Add(executor.Result{AttemptID: r.AttemptID, State: r.State, Reason: err.Error(), EndedAt: r.EndedAt})
	}
	if len(data) > resultLimit {
		data, _ = w.spool.Add(tooLarge(r, len(data)))
	}
	w.mu.Lock()
	delete(w.attempts, r.AttemptID)
	w.lastUse = time.Now()
	if w.server != nil {
		if err := w.server.Notify(finished{"Finished", data}); err != nil && !errors.Is(err, workerapi.ErrClosed) {
			w.log.Error("cannot report a result", "attempt", r.AttemptID, "err", err)
		}
	}
	w.mu.Unlock()
	w.spool.Save(r.AttemptID)
	w.records.Remove(r.AttemptID)
}

// resultLimit is the largest encoded result that travels in one message.
const resultLimit = protocol.MaxFrame - 1<<10

// tooLarge is what can be said of a result that no message can carry: without it the attempt would never end.
func tooLarge(r executor.Result, size int) executor.Result {
	r.State, r.Final, r.Defer, r.RescheduleAt = run.Failed, false, nil, nil
	r.Reason = fmt.Sprintf("its result is too large to be stored: %d bytes with its XComs, the limit is %d; "+
		"write large values to a file and push its name", size, resultLimit)
	r.XComs, r.OutletEvents, r.Rendered, r.SkipTasks, r.Notices, r.RenderedMapIndex = nil, nil, nil, nil, nil, ""
	return r
}

// call asks the server what a task asked. It waits for a server as long as ctx allows, and asks again when the
// connection was lost before the answer came.
func (w *Worker) call(ctx context.Context, o executor.Attempt, request json.RawMessage) (json.RawMessage, error) {
	return w.ask(ctx, workerapi.Call{Type: "Call", AttemptID: o.ID, Token: o.Token, Request: request})
}

// callImport asks the server what a DAG file of a bundle asked while it is imported, and waits as call does.
func (w *Worker) callImport(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error) {
	return w.ask(ctx, workerapi.Call{Type: "Call", Import: true, Bundle: bundle, Request: request})
}

func (w *Worker) ask(ctx context.Context, c workerapi.Call) (json.RawMessage, error) {
	for {
		w.mu.Lock()
		server, changed, ending := w.server, w.serverChanged, w.ending
		w.mu.Unlock()
		var retry <-chan time.Time
		if server != nil {
			var answer json.RawMessage
			err := server.Call(ctx, c, &answer)
			var refused *protocol.Error
			switch {
			case err == nil:
				return answer, nil
			case errors.Is(err, workerapi.ErrClosed): // the next server will know
			case errors.As(err, &refused) && refused.Code == protocol.CodeUnavailable:
				retry = time.After(200 * time.Millisecond)
			default:
				return nil, err
			}
		}
		if ending && (server == nil || retry != nil) {
			return nil, &protocol.Error{Code: protocol.CodeUnavailable,
				Message: "the worker is stopping and there is no server to answer; the attempt is run again at the next start"}
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// graceOf is the given grace, or the settings', or the default.
func (w *Worker) graceOf(seconds float64) time.Duration {
	if seconds <= 0 {
		w.mu.Lock()
		seconds = w.settings.GraceSeconds
		w.mu.Unlock()
	}
	if seconds <= 0 {
		return defaultGrace
	}
	return time.Duration(seconds * float64(time.Second))
}

// endTasks ends every attempt: TERM, grace, KILL. It says which ended in order and which had to be killed.
func (w *Worker) endTasks(k killOrder) (ended, killed []string) {
	w.mu.Lock()
	w.stopping = true
	var all []*attempt
	for _, a := range w.attempts {
		all = append(all, a)
	}
	w.mu.Unlock()
	for _, a := range all {
		k.infra, k.stop = true, true
		a.kill(k)
	}
	w.mu.Lock()
	w.ending = true // only now: a task that learns of it has its order to end, and does not fail of its own
	w.wakeAsking()
	w.mu.Unlock()
	// Ends take the grace period and a little; only a log that no disk takes can hold one up for longer.
	late := time.AfterFunc(k.grace+endSlack, w.giveUp)
	defer late.Stop()
	w.tasks.Wait()
	for _, a := range all {
		if a.wasForced.Load() {
			killed = append(killed, a.order.ID)
		} else {
			ended = append(ended, a.order.ID)
		}
	}
	return ended, killed
}

// endSlack is how long after the grace period a stopping worker waits for logs to be written. The server waits longer.
const endSlack = 4 * time.Second
