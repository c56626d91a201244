// Package scripted is an executor for tests: attempts do what a script says (take a while, fail, vanish, take their worker
// with them) instead of running anything.
//
// It promises what every executor promises and nothing more: orders are idempotent, results are repeated until they are
// acknowledged, and after Restart every attempt of the former instance is gone. It keeps a ledger of every attempt it
// ever began, so that a test can say that none began twice. It works under testing/synctest.
package scripted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

// Behaviour is what one attempt does. The zero value succeeds at once.
type Behaviour struct {
	// StartAfter is the time until the process exists; For how long it then runs.
	StartAfter, For time.Duration
	// Exit other than 0 fails the attempt, to be retried; Final keeps it from being retried.
	Exit  int
	Final bool
	// Result, when set, is taken as it stands, with ids and times filled in.
	Result *executor.Result
	// XComs are pushed with the success.
	XComs []protocol.XComValue
	// Outlets are the asset events of the success.
	Outlets json.RawMessage
	// Vanish loses the attempt without a result, as a bug in an executor would.
	Vanish bool
	// DieWithInstance makes the whole executor restart when the attempt would have ended.
	DieWithInstance bool
	// IgnoreTerm makes a kill take the grace time.
	IgnoreTerm bool
	// Begun and Gone, when set, are called when the attempt's process begins, and when it has ended, before anybody is told.
	// An attempt whose worker is gone by then does not begin.
	Begun, Gone func()
}

// Script says what an attempt does.
type Script func(a executor.Attempt) Behaviour

// ErrAway is returned while no worker can be reached.
var ErrAway = errors.New("no worker can be reached")

// Executor is a scripted executor. Create it with New.
type Executor struct {
	name   string
	script Script
	wg     sync.WaitGroup

	mu       sync.Mutex
	instance int
	attached bool
	sink     executor.Sink
	queue    []func(executor.Sink) // reports, in order
	wake     chan struct{}
	attempts map[string]*attempt
	begun    map[string]int // the ledger
	gpus     gpu.Inventory
	orders   []string
	wall     func() time.Time
}

type attempt struct {
	order    executor.Attempt
	instance int
	started  *executor.Started
	result   *executor.Result
	cancel   context.CancelCauseFunc
	whenGone func()
}

// SetGPUs changes the GPUs of the machine, of which it has none at first.
func (e *Executor) SetGPUs(inv gpu.Inventory) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gpus = inv
	name := e.name
	e.report(func(sink executor.Sink) { tellGPUs(sink, name, inv) })
}

func tellGPUs(sink executor.Sink, name string, inv gpu.Inventory) {
	if s, ok := sink.(executor.DeviceSink); ok {
		s.Devices(name, inv)
	}
}

// New returns an executor that does what script says.
func New(name string, script Script) *Executor {
	return &Executor{
		name: name, script: script, instance: 1, wake: make(chan struct{}, 1),
		attempts: map[string]*attempt{}, begun: map[string]int{}, wall: time.Now,
	}
}

// SetClock gives the worker's machine a clock, which tells the times of its reports.
func (e *Executor) SetClock(wall func() time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wall = wall
}

// ByTask is a script that looks up the task id; tasks it does not know succeed at once.
func ByTask(m map[string]Behaviour) Script {
	return func(a executor.Attempt) Behaviour { return m[a.Startup.TI.TaskID] }
}

// Name implements executor.Executor.
func (e *Executor) Name() string { return e.name }

// Instance implements executor.Executor.
func (e *Executor) Instance() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.attached {
		return ""
	}
	return e.instanceName()
}

func (e *Executor) instanceName() string { return fmt.Sprintf("%s-%d", e.name, e.instance) }

// Launch implements executor.Executor.
func (e *Executor) Launch(_ context.Context, a executor.Attempt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.attached {
		return ErrAway
	}
	if e.attempts[a.ID] != nil || (a.Instance != "" && a.Instance != e.instanceName()) {
		return nil
	}
	e.begun[a.ID]++
	ctx, cancel := context.WithCancelCause(context.Background())
	at := &attempt{order: a, instance: e.instance, cancel: cancel}
	e.attempts[a.ID] = at
	e.orders = append(e.orders, "launch "+a.ID)
	e.wg.Go(func() { e.play(ctx, at) })
	return nil
}

// play is the life of one attempt.
func (e *Executor) play(ctx context.Context, at *attempt) {
	defer at.cancel(nil)
	b := e.script(at.order)
	if !e.made(at, b) {
		return
	}
	wait(ctx, b.StartAfter)
	e.begin(at)
	if b.Vanish {
		e.mu.Lock()
		at.gone()
		delete(e.attempts, at.order.ID)
		e.mu.Unlock()
		return
	}
	wait(ctx, b.For)
	if errors.Is(context.Cause(ctx), errGone) {
		return
	}
	if killed := context.Cause(ctx); killed != nil {
		if b.IgnoreTerm {
			time.Sleep(max(at.order.Grace, time.Millisecond))
		}
		e.end(at, executor.Result{State: run.Failed, Reason: killed.Error(), Signal: "SIGTERM"})
		return
	}
	if b.DieWithInstance {
		e.Restart()
		return
	}
	e.end(at, b.result())
}

var errGone = errors.New("the worker is gone")

// made begins the process; false when its worker is gone already, so that there is none.
func (e *Executor) made(at *attempt, b Behaviour) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.instance != e.instance {
		return false
	}
	if b.Begun != nil {
		b.Begun()
	}
	if b.Gone != nil {
		at.whenGone = sync.OnceFunc(b.Gone)
	}
	return true
}

// gone calls what is to be called at the end of the process. The executor's lock is held.
func (at *attempt) gone() {
	if at.whenGone != nil {
		at.whenGone()
	}
}

func (b Behaviour) result() executor.Result {
	if b.Result != nil {
		return *b.Result
	}
	r := executor.Result{State: run.Success, XComs: b.XComs, OutletEvents: b.Outlets, ExitCode: &b.Exit, Reported: true}
	if b.Exit != 0 {
		r.State, r.Final, r.XComs, r.OutletEvents = run.UpForRetry, b.Final, nil, nil
		r.Reason = fmt.Sprintf("exit code %d", b.Exit)
		if b.Final {
			r.State = run.Failed
		}
	}
	return r
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (e *Executor) begin(at *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.instance != e.instance {
		return
	}
	s := executor.Started{AttemptID: at.order.ID, At: e.wall(), PID: 1000 + len(e.begun), Hostname: "scripted", Isolation: "fork"}
	at.started = &s
	e.report(func(sink executor.Sink) { sink.Started(s) })
}

func (e *Executor) end(at *attempt, r executor.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.instance != e.instance || e.attempts[at.order.ID] != at {
		return
	}
	r.AttemptID, r.EndedAt, r.Hostname = at.order.ID, e.wall(), "scripted"
	if at.started != nil {
		r.StartedAt, r.PID = &at.started.At, at.started.PID
	}
	at.result = &r
	at.gone()
	e.report(func(sink executor.Sink) { sink.Finished(r) })
}

// report queues a report; without a server it is dropped, for results are repeated when one comes. The lock is held.
func (e *Executor) report(f func(executor.Sink)) {
	if !e.attached {
		return
	}
	e.queue = append(e.queue, f)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Kill implements executor.Executor.
func (e *Executor) Kill(_ context.Context, id, reason string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.attached {
		return ErrAway
	}
	e.orders = append(e.orders, "kill "+id)
	if at := e.attempts[id]; at != nil {
		at.cancel(errors.New(reason))
	}
	return nil
}

// Acknowledge implements executor.Executor.
func (e *Executor) Acknowledge(_ context.Context, ids ...string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.attached {
		return ErrAway
	}
	for _, id := range ids {
		if at := e.attempts[id]; at != nil && at.result != nil {
			delete(e.attempts, id)
		}
	}
	return nil
}

// Run implements executor.Executor. When ctx ends, attempts go on: the worker outlives the server.
func (e *Executor) Run(ctx context.Context, sink executor.Sink) error {
	e.attach(sink)
	for {
		select {
		case <-ctx.Done():
			e.mu.Lock()
			e.attached, e.queue = false, nil
			e.mu.Unlock()
			return nil
		case <-e.wake:
			e.mu.Lock()
			queue := e.queue
			e.queue = nil
			e.mu.Unlock()
			for _, f := range queue {
				f(sink)
			}
		}
	}
}

// attach reports what there is and repeats results that were not acknowledged.
func (e *Executor) attach(sink executor.Sink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attached, e.sink, e.queue = true, sink, nil
	var known []executor.Known
	var again []executor.Result
	for _, id := range slices.Sorted(maps.Keys(e.attempts)) {
		at := e.attempts[id]
		known = append(known, executor.Known{AttemptID: id, Running: at.result == nil})
		if at.result != nil {
			again = append(again, *at.result)
		}
	}
	name, instance, gpus := e.name, e.instanceName(), e.gpus
	e.report(func(sink executor.Sink) {
		tellGPUs(sink, name, gpus)
		sink.Connected(name, instance, known)
		for _, r := range again {
			sink.Finished(r)
		}
	})
}

// Restart kills the worker with everything it runs and starts a new one.
func (e *Executor) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instance++
	for id, at := range e.attempts {
		at.cancel(errGone)
		at.gone()
		delete(e.attempts, id)
	}
	e.queue = nil
	name, instance := e.name, e.instanceName()
	e.report(func(sink executor.Sink) { sink.Connected(name, instance, nil) })
}

// Begun returns how often each attempt began, since New.
func (e *Executor) Begun() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.begun)
}

// Held returns how many attempts the executor holds: running, or finished and not acknowledged.
func (e *Executor) Held() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.attempts)
}

// Wait waits for the goroutines of attempts, after everything was killed or has ended.
func (e *Executor) Wait() { e.wg.Wait() }

// Close kills everything and waits.
func (e *Executor) Close() {
	e.mu.Lock()
	for _, at := range e.attempts {
		at.cancel(errGone)
	}
	e.mu.Unlock()
	e.wg.Wait()
}
