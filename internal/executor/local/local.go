// Package local hands attempts to the machine's worker process over a Unix socket, and starts that process when none
// answers.
//
// It promises that orders reach the worker in the order they were given and that what the worker reports reaches the
// sink in the order it was reported, across any number of reconnections. It must not know what an attempt does.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// Name is how tasks ask for this executor.
const Name = "local"

// ErrNotConnected: no worker can be reached now; the order was not passed on. A queued attempt is handed over again
// after the next Connected.
var ErrNotConnected = errors.New("no worker can be reached")

// Options say how to reach the worker.
type Options struct {
	Home     string
	Settings workerapi.Settings
	Logger   *slog.Logger
	// Version of this program; a worker of another version is replaced once it has nothing to do. Empty: any will do.
	Version string
	// Binary is the program that runs `worker --home HOME`; empty: this one.
	Binary string
	// Spawn starts a worker process; nil: Binary, in its own session, writing to HOME/logs/worker.log. It returns when
	// the process runs; the channel is closed when it has ended.
	Spawn func(ctx context.Context) (ended <-chan struct{}, err error)
	// Dial connects to the worker; nil: HOME/run/worker.sock.
	Dial func(ctx context.Context) (net.Conn, error)
	// Process says which process the worker is, for words about one that does not answer; nil: nobody knows.
	Process func() (pid int, stopped, known bool)
	// Running are the attempts that the worker has by its own records, for one that this program cannot talk to; nil: nobody
	// knows.
	Running func() []string
	// End ends the worker from outside, for a Stop that cannot reach it, and says what was running, nil when there was no
	// worker; nil: nobody can.
	End func(ctx context.Context, grace time.Duration) (*workerapi.Stopped, error)
	// Silence is how long a worker may take to answer before people are told; zero: ten seconds.
	Silence time.Duration
}

// An Executor is the server's side of the conversation with a worker. It implements executor.Executor.
type Executor struct {
	o        Options
	log      *slog.Logger
	serverID string

	mu       sync.Mutex
	peer     *workerapi.Peer // nil: not connected
	instance string
	pid      int           // of the worker
	outdated bool          // the worker is of another version and had tasks when it was found
	parses   int           // under way
	ready    chan struct{} // closed while connected
	stopped  bool          // Stop was called: no worker is started any more
	worker   <-chan struct{}
	spawnErr error
	early    int                   // workers in a row that ended before they could be reached
	notYet   time.Time             // before which no other is started
	silent   string                // what is the matter with a worker that does not answer
	foreign  string                // what is the matter with one that speaks another protocol
	trouble  string                // what keeps its tasks waiting, in its own words
	finished func(executor.Result) // reports a result to the sink; nil before Run
}

var (
	_ executor.Executor = (*Executor)(nil)
	_ executor.Retirer  = (*Executor)(nil)
)

// New returns an executor; Run connects it.
func New(o Options) *Executor {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Executor{o: o, log: o.Logger, serverID: uuid.NewString(), ready: make(chan struct{})}
	if e.o.Spawn == nil {
		e.o.Spawn = e.spawn
	}
	if e.o.Silence <= 0 {
		e.o.Silence = 10 * time.Second
	}
	if e.o.Dial == nil {
		path := filepath.Join(o.Home, "run", "worker.sock")
		e.o.Dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	}
	return e
}

// Name is "local".
func (e *Executor) Name() string { return Name }

// Instance identifies the worker process that is connected; empty while none is.
func (e *Executor) Instance() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer == nil {
		return ""
	}
	return e.instance
}

// WorkerPID is the process id of the worker that is connected; 0 while none is.
func (e *Executor) WorkerPID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer == nil {
		return 0
	}
	return e.pid
}

// Flush waits until every order passed on so far has been handed to the operating system, or until ctx ends.
func (e *Executor) Flush(ctx context.Context) {
	e.mu.Lock()
	peer := e.peer
	e.mu.Unlock()
	if peer != nil {
		peer.Flush(ctx)
	}
}

// Retire ends a worker of another version that was left its tasks and has nothing to do any more. Run starts the next one.
// While a file is parsed it waits.
func (e *Executor) Retire() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer == nil || !e.outdated || e.parses > 0 || e.stopped {
		return false
	}
	if err := e.peer.Post(workerapi.Stop{Type: "Stop"}); err != nil {
		return false // it is gone already
	}
	e.log.Info("the worker of another version has nothing to do any more and is replaced", "instance", e.instance, "pid", e.pid)
	e.peer, e.ready = nil, make(chan struct{})
	return true
}

// Launch passes an attempt on. It does not wait for the worker's answer.
func (e *Executor) Launch(_ context.Context, a executor.Attempt) error {
	err := e.post(workerapi.Launch{Type: "Launch", Attempts: []executor.Attempt{a}})
	if errors.Is(err, protocol.ErrFrameTooLarge) {
		e.refuse(a)
		return nil
	}
	if err != nil {
		return fmt.Errorf("launch attempt %s: %w", a.ID, err)
	}
	return nil
}

// Kill passes the order on.
func (e *Executor) Kill(_ context.Context, attemptID, reason string) error {
	if err := e.post(workerapi.Kill{Type: "Kill", AttemptID: attemptID, Reason: reason}); err != nil {
		return fmt.Errorf("kill attempt %s: %w", attemptID, err)
	}
	return nil
}

// Acknowledge passes the ids on. When the connection is lost the worker reports their results again.
func (e *Executor) Acknowledge(_ context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := e.post(workerapi.Acknowledge{Type: "Acknowledge", AttemptIDs: ids}); err != nil {
		return fmt.Errorf("acknowledge %d attempts: %w", len(ids), err)
	}
	return nil
}

func (e *Executor) post(order any) error {
	e.mu.Lock()
	peer := e.peer
	e.mu.Unlock()
	if peer == nil {
		return ErrNotConnected
	}
	if err := peer.Post(order); err != nil {
		if errors.Is(err, workerapi.ErrClosed) {
			return ErrNotConnected
		}
		return err
	}
	return nil
}

// Parse has the worker import a DAG file and says what it declares. It waits for a worker to be connected; a connection
// lost meanwhile is waited for again, since a parse changes nothing.
func (e *Executor) Parse(ctx context.Context, r workerapi.Parse) (*workerapi.Parsed, error) {
	r.Type = "Parse"
	var parsed workerapi.Parsed
	if err := e.inquire(ctx, "parse "+r.Describe.File, r, &parsed); err != nil {
		return nil, err
	}
	return &parsed, nil
}

// Evaluate has the worker ask the timetable of a DAG; it waits like Parse.
func (e *Executor) Evaluate(ctx context.Context, r workerapi.Evaluate) (*workerapi.Evaluated, error) {
	r.Type = "Evaluate"
	var out workerapi.Evaluated
	if err := e.inquire(ctx, "ask the timetable of "+r.Question.DAGID, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// inquire puts a question that changes nothing to whatever worker is connected, again and again until one answers.
func (e *Executor) inquire(ctx context.Context, what string, question, answer any) error {
	for {
		peer, ready := e.beginParse()
		if peer == nil {
			select {
			case <-ready:
				continue
			case <-ctx.Done():
				return fmt.Errorf("%s: %w (%w)", what, ctx.Err(), e.why())
			}
		}
		err := peer.Call(ctx, question, answer)
		e.endParse()
		var refused *protocol.Error
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && refused.Code == protocol.CodePermission: // taken over; a new connection comes or not
		case errors.As(err, &refused) && refused.Code == protocol.CodeUnavailable: // it ends; another one comes
		case errors.Is(err, workerapi.ErrClosed):
		default:
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-peer.Done():
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		e.drop(peer)
	}
}

// beginParse counts a parse on the connected worker, which is not retired before endParse; nil when none is connected.
func (e *Executor) beginParse() (*workerapi.Peer, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer != nil {
		e.parses++
	}
	return e.peer, e.ready
}

func (e *Executor) endParse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.parses--
}

// why says why no worker is connected.
func (e *Executor) why() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spawnErr != nil {
		return e.spawnErr
	}
	return ErrNotConnected
}

// Run connects, reconnects and reports to sink until ctx ends.
func (e *Executor) Run(ctx context.Context, sink executor.Sink) error {
	q := newQueue()
	e.mu.Lock()
	e.finished = func(r executor.Result) { q.add(func() { sink.Finished(r) }) }
	e.mu.Unlock()
	var delivering sync.WaitGroup
	delivering.Go(q.deliver)
	defer delivering.Wait()
	defer q.close()
	const least, most = 5 * time.Millisecond, 250 * time.Millisecond
	pause := least
	for ctx.Err() == nil {
		connected, err := e.connect(ctx, sink, q)
		if connected {
			pause = least
		}
		if err != nil && ctx.Err() == nil {
			e.log.Error("the worker", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(pause+pause/4, most)
		}
	}
	return nil
}

// connect dials and, when a worker answers, serves the connection to its end.
func (e *Executor) connect(ctx context.Context, sink executor.Sink, q *queue) (connected bool, err error) {
	c, err := e.o.Dial(ctx)
	if err != nil {
		return false, e.ensureWorker(ctx)
	}
	var calls calls
	peer := workerapi.NewPeer(c, func(ctx context.Context, in workerapi.Inbound) { e.receive(ctx, in, sink, q, &calls) })
	attached := make(chan error, 1)
	var attaching sync.WaitGroup
	attaching.Go(func() {
		err := e.attach(ctx, peer, sink, q)
		attached <- err
		if err == nil {
			e.listen(ctx, peer)
		}
	})
	if err := peer.Run(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("the connection to the worker broke", "err", err)
	}
	e.drop(peer)
	attaching.Wait()
	e.drop(peer) // the answer to Attach may have come with the end of the connection
	calls.Wait()
	if err := <-attached; err != nil {
		if errors.Is(err, workerapi.ErrClosed) || ctx.Err() != nil {
			return false, nil //nolint:nilerr // Run dials again, and the next attach says what is wrong
		}
		if isForeign(err) {
			return false, e.outlast(ctx, err)
		}
		return false, err
	}
	return true, nil
}

// attach becomes the worker's server. Between the answer and the first report nothing overtakes: reports are queued
// behind Connected.
func (e *Executor) attach(ctx context.Context, peer *workerapi.Peer, sink executor.Sink, q *queue) error {
	q.hold()
	var a workerapi.Attached
	err := e.ask(ctx, peer, workerapi.Attach{
		Type: "Attach", Protocol: protocol.Version, ServerID: e.serverID, Settings: e.o.Settings,
	}, &a)
	if err != nil {
		q.release(nil)
		peer.Close()
		return fmt.Errorf("attach to the worker: %w", err)
	}
	other := e.o.Version != "" && a.Version != e.o.Version
	if other && !busy(a) {
		e.log.Info("replacing an idle worker of another version", "has", a.Version, "want", e.o.Version)
		q.release(nil)
		return peer.Post(workerapi.Stop{Type: "Stop"})
	}
	e.mu.Lock()
	e.peer, e.instance, e.pid, e.outdated, e.spawnErr, e.early, e.foreign = peer, a.Instance, a.PID, other, nil, 0, ""
	close(e.ready)
	e.mu.Unlock()
	e.troubled(a.Problem)
	e.log.Info("connected to the worker", "instance", a.Instance, "pid", a.PID, "known", len(a.Known))
	if other {
		e.log.Info("the worker is of another version and keeps its tasks; it is replaced once it has none", "has", a.Version, "want", e.o.Version)
	}
	q.release(func() {
		tellGPUs(sink, a.Devices, other)
		sink.Connected(Name, a.Instance, a.Known)
	})
	return nil
}

// busy reports whether a worker runs something. What it has spooled is its successor's.
func busy(a workerapi.Attached) bool {
	return slices.ContainsFunc(a.Known, func(k executor.Known) bool { return k.Running })
}

// drop forgets a connection that has ended.
func (e *Executor) drop(peer *workerapi.Peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer == peer {
		e.peer, e.trouble = nil, ""
		e.ready = make(chan struct{})
	}
}

// receive takes one message of the worker.
func (e *Executor) receive(ctx context.Context, in workerapi.Inbound, sink executor.Sink, q *queue, open *calls) {
	switch in.Type {
	case "Started":
		var m workerapi.Started
		if err := json.Unmarshal(in.Body, &m); err != nil {
			e.log.Error("cannot read a report of the worker", "type", in.Type, "err", err)
			return
		}
		q.add(func() { sink.Started(m.Started) })
	case "Finished":
		var m workerapi.Finished
		if err := json.Unmarshal(in.Body, &m); err != nil {
			e.log.Error("cannot read a report of the worker", "type", in.Type, "err", err)
			return
		}
		q.add(func() { sink.Finished(m.Result) })
	case "Devices", "Used":
		e.receiveGPUs(in, sink, q)
	case "Trouble":
		var m workerapi.Trouble
		if err := json.Unmarshal(in.Body, &m); err != nil {
			e.log.Error("cannot read a report of the worker", "type", in.Type, "err", err)
			return
		}
		q.add(func() { e.troubled(m.Problem) })
	case "Call":
		var m workerapi.Call
		if err := json.Unmarshal(in.Body, &m); err != nil {
			in.Fail(&protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()})
			return
		}
		open.begin(in, func() {
			answer, err := answerCall(ctx, sink, m)
			switch {
			case err != nil && ctx.Err() != nil: // this server ends; the worker asks the next one
			case err != nil:
				in.Fail(err)
			default:
				in.Reply(answer)
			}
		})
	default:
		in.Fail(&protocol.Error{Code: protocol.CodeNotSupported, Message: fmt.Sprintf("a server does not know %q", in.Type)})
	}
}

// answerCall has the sink answer a request of a task, or of a DAG file that is being imported.
func answerCall(ctx context.Context, sink executor.Sink, m workerapi.Call) (json.RawMessage, error) {
	if !m.Import {
		return sink.Call(ctx, m.AttemptID, m.Token, m.Request)
	}
	imports, ok := sink.(executor.ImportSink)
	if !ok {
		return nil, &protocol.Error{Code: protocol.CodeNotSupported, Message: "this server answers no requests of DAG files"}
	}
	return imports.CallImport(ctx, m.Bundle, m.Request)
}

// ensureWorker starts a worker process unless one that we started is still coming up.
func (e *Executor) ensureWorker(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil
	}
	if e.worker != nil {
		select {
		case <-e.worker:
			e.worker = nil
			if err := e.endedEarly(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	if time.Now().Before(e.notYet) {
		return nil
	}
	if e.o.Process != nil {
		if _, _, known := e.o.Process(); known {
			return nil // it is coming up, or ending; a second one would not be let in
		}
	}
	ended, err := e.o.Spawn(ctx)
	if err != nil {
		if e.spawnErr == nil || e.spawnErr.Error() != err.Error() {
			e.spawnErr = err
			return fmt.Errorf("start a worker: %w", err)
		}
		return nil // said before
	}
	e.worker = ended
	return nil
}

// endedEarly counts a worker that has ended, with the lock held; one that was reached has set the count back. The first may
// have met its predecessor, which was still clearing up: after a few people are told, and the next are started later and later.
func (e *Executor) endedEarly() error {
	if e.peer != nil {
		return nil
	}
	if e.early++; e.early < tellEarly {
		return nil
	}
	e.notYet = time.Now().Add(min(250*time.Millisecond<<min(e.early-tellEarly, 10), 10*time.Second))
	e.spawnErr = fmt.Errorf("%d in a row have ended before they could be reached; the end of %s says why",
		e.early, filepath.Join(e.o.Home, "logs", "worker.log"))
	if e.early > tellEarly {
		return nil // said before
	}
	return e.spawnErr
}

// tellEarly is after how many workers that end at once people are told.
const tellEarly = 3

// spawn starts the worker process.
func (e *Executor) spawn(context.Context) (<-chan struct{}, error) {
	binary := e.o.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	return StartProcess(e.o.Home, binary, "worker", "--home", e.o.Home)
}
