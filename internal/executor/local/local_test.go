package local

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scripted worker answers orders in memory.
type fakeWorker struct {
	t        *testing.T
	instance string
	version  string
	known    []executor.Known
	early    []any // sent right behind the answer to Attach
	refuses  error // the answer to Attach instead

	mu      sync.Mutex
	peers   []*workerapi.Peer
	running sync.WaitGroup
	arrived chan workerapi.Inbound
	on      func(in workerapi.Inbound, p *workerapi.Peer) bool // true: handled
}

func newFakeWorker(t *testing.T, instance string) *fakeWorker {
	return &fakeWorker{t: t, instance: instance, arrived: make(chan workerapi.Inbound, 1000)}
}

// dial is Options.Dial.
func (w *fakeWorker) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	var p *workerapi.Peer
	p = workerapi.NewPeer(ours, func(_ context.Context, in workerapi.Inbound) { w.handle(p, in) })
	w.mu.Lock()
	w.peers = append(w.peers, p)
	w.mu.Unlock()
	w.running.Go(func() { _ = p.Run(context.Background()) })
	return theirs, nil
}

func (w *fakeWorker) handle(p *workerapi.Peer, in workerapi.Inbound) {
	if in.Type == "Attach" {
		if w.refuses != nil {
			in.Fail(w.refuses)
			return
		}
		in.Reply(workerapi.Attached{Type: "Attached", Instance: w.instance, Version: w.version, Known: w.known})
		for _, m := range w.early {
			_ = p.Notify(m)
		}
		return
	}
	if w.on == nil || !w.on(in, p) {
		in.Reply(protocol.OKResponse{Type: "OKResponse", OK: true})
	}
	w.arrived <- in
}

func (w *fakeWorker) peer() *workerapi.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peers[len(w.peers)-1]
}

// A recorder is a sink that writes down what it hears.
type recorder struct {
	heard chan string
	call  func(request json.RawMessage) (json.RawMessage, error)
}

func (r *recorder) Connected(name, instance string, known []executor.Known) {
	r.heard <- "connected " + instance + " " + strconv.Itoa(len(known))
}
func (r *recorder) Started(s executor.Started) { r.heard <- "started " + s.AttemptID }
func (r *recorder) Finished(f executor.Result) { r.heard <- "finished " + f.AttemptID }
func (r *recorder) Call(_ context.Context, id, token string, request json.RawMessage) (json.RawMessage, error) {
	return r.call(request)
}

func start(t *testing.T, o Options) (*Executor, *recorder) {
	t.Helper()
	e, r := New(o), &recorder{heard: make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx, r); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return e, r
}

func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case s := <-r.heard:
			got = append(got, s)
		case <-time.After(10 * time.Second):
			t.Fatalf("heard %q, waiting for more of %q", got, want)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReportsFollowConnectedInTheirOrderAlsoAfterReconnecting(t *testing.T) {
	w := newFakeWorker(t, "w1")
	w.known = []executor.Known{{AttemptID: "a"}}
	w.early = []any{
		workerapi.Started{Type: "Started", Started: executor.Started{AttemptID: "a"}},
		workerapi.Finished{Type: "Finished", Result: executor.Result{AttemptID: "a"}},
	}
	e, r := start(t, Options{Dial: w.dial})
	r.expect(t, "connected w1 1", "started a", "finished a")
	if e.Instance() != "w1" {
		t.Errorf("instance %q", e.Instance())
	}
	w.peer().Close()
	r.expect(t, "connected w1 1", "started a", "finished a")
}

func TestOrdersReachTheWorkerInTheirOrder(t *testing.T) {
	w := newFakeWorker(t, "w1")
	e, r := start(t, Options{Dial: w.dial})
	r.expect(t, "connected w1 0")
	ctx := t.Context()
	for i := range 50 {
		id := strconv.Itoa(i)
		if err := errors.Join(e.Launch(ctx, executor.Attempt{ID: id}), e.Kill(ctx, id, "x"), e.Acknowledge(ctx, id)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 150 {
		in := <-w.arrived
		if want := []string{"Launch", "Kill", "Acknowledge"}[i%3]; in.Type != want {
			t.Fatalf("order %d is %s, want %s", i, in.Type, want)
		}
	}
}

func TestWithoutAWorkerOrdersAreRefusedAndOneIsStartedOnce(t *testing.T) {
	w := newFakeWorker(t, "w1")
	var mu sync.Mutex
	spawned, up := 0, false
	ended := make(chan struct{})
	asked := make(chan struct{}, 100)
	e, r := start(t, Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if asked <- struct{}{}; !up {
				return nil, errors.New("nobody there")
			}
			return w.dial(ctx)
		},
		Spawn: func(context.Context) (<-chan struct{}, error) {
			mu.Lock()
			defer mu.Unlock()
			spawned++
			return ended, nil
		},
	})
	for range 4 {
		<-asked
	}
	if err := e.Launch(t.Context(), executor.Attempt{ID: "a"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("launch: %v", err)
	}
	if e.Instance() != "" {
		t.Errorf("instance %q", e.Instance())
	}
	mu.Lock()
	up = true
	mu.Unlock()
	r.expect(t, "connected w1 0")
	if spawned != 1 {
		t.Errorf("%d workers were started", spawned)
	}
}

func TestWorkersThatEndAtOnceAreToldAboutAndStartedLessOften(t *testing.T) {
	w := newFakeWorker(t, "w1")
	var mu sync.Mutex
	up := false
	spawned := make(chan struct{}, 100)
	e, r := start(t, Options{
		Home: "/home/of/it",
		Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if !up {
				return nil, errors.New("nobody there")
			}
			return w.dial(ctx)
		},
		Spawn: func(context.Context) (<-chan struct{}, error) {
			ended := make(chan struct{})
			close(ended)
			spawned <- struct{}{}
			return ended, nil
		},
	})
	for range tellEarly + 1 {
		<-spawned
	}
	if p := e.Problem(); !strings.Contains(p, "in a row have ended before they could be reached; the end of /home/of/it/logs/worker.log says why") {
		t.Errorf("the problem is said to be %q", p)
	}
	mu.Lock()
	up = true
	mu.Unlock()
	r.expect(t, "connected w1 0")
	if p := e.Problem(); p != "" {
		t.Errorf("with a worker the problem is said to be %q", p)
	}
}

func TestATasksRequestIsAnsweredByTheSink(t *testing.T) {
	w := newFakeWorker(t, "w1")
	_, r := start(t, Options{Dial: w.dial})
	r.call = func(request json.RawMessage) (json.RawMessage, error) {
		if string(request) == `"refuse"` {
			return nil, &protocol.Error{Code: protocol.CodeXComNotFound, Message: "none"}
		}
		return request, nil
	}
	r.expect(t, "connected w1 0")
	var got json.RawMessage
	if err := w.peer().Call(t.Context(), workerapi.Call{Type: "Call", Request: json.RawMessage(`{"x":1}`)}, &got); err != nil || string(got) != `{"x":1}` {
		t.Errorf("got %s, %v", got, err)
	}
	var pe *protocol.Error
	err := w.peer().Call(t.Context(), workerapi.Call{Type: "Call", Request: json.RawMessage(`"refuse"`)}, nil)
	if !errors.As(err, &pe) || pe.Code != protocol.CodeXComNotFound {
		t.Errorf("got %v", err)
	}
}

func TestAParseOutlivesALostConnection(t *testing.T) {
	w := newFakeWorker(t, "w1")
	parses := 0
	w.on = func(in workerapi.Inbound, p *workerapi.Peer) bool {
		if parses++; parses == 1 {
			p.Close()
			return true
		}
		in.Reply(workerapi.Parsed{Type: "Parsed", Output: "ok"})
		return true
	}
	e, _ := start(t, Options{Dial: w.dial}) // Parse waits for the connection too
	p, err := e.Parse(t.Context(), workerapi.Parse{})
	if err != nil || p.Output != "ok" || parses != 2 {
		t.Errorf("got %+v, %v after %d", p, err, parses)
	}
}

func TestAParseWithoutAWorkerSaysWhyWhenItsTimeIsUp(t *testing.T) {
	tried := make(chan struct{}, 100)
	e, _ := start(t, Options{
		Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") },
		Spawn: func(context.Context) (<-chan struct{}, error) {
			tried <- struct{}{}
			return nil, errors.New("the program is gone")
		},
	})
	<-tried
	<-tried
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := e.Parse(ctx, workerapi.Parse{}); err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the program is gone") {
		t.Errorf("got %v", err)
	}
}

func TestAnIdleWorkerOfAnotherVersionIsReplacedAndABusyOneIsNot(t *testing.T) {
	old, fresh := newFakeWorker(t, "old"), newFakeWorker(t, "fresh")
	old.version, fresh.version = "1", "2"
	old.known = []executor.Known{{AttemptID: "spooled"}}
	var mu sync.Mutex
	current := old
	old.on = func(in workerapi.Inbound, p *workerapi.Peer) bool {
		if in.Type == "Stop" {
			mu.Lock()
			current = fresh
			mu.Unlock()
			p.Close()
		}
		return true
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		w := current
		mu.Unlock()
		return w.dial(ctx)
	}
	_, r := start(t, Options{Dial: dial, Version: "2"})
	r.expect(t, "connected fresh 0")

	busy := newFakeWorker(t, "busy")
	busy.version, busy.known = "1", []executor.Known{{AttemptID: "a", Running: true}}
	_, r = start(t, Options{Dial: busy.dial, Version: "2"})
	r.expect(t, "connected busy 1")
}

func TestAWorkerThatSpeaksAnotherProtocolIsReplacedOnceItHasNothingToDo(t *testing.T) {
	old, fresh := newFakeWorker(t, "old"), newFakeWorker(t, "fresh")
	old.refuses = &protocol.Error{Code: protocol.CodeNotSupported, Message: "this worker speaks protocol 0, the server 1"}
	var mu sync.Mutex
	current, running, ended := old, []string{"a", "b"}, 0
	looked := make(chan struct{}, 100)
	e, r := start(t, Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			w := current
			mu.Unlock()
			return w.dial(ctx)
		},
		Process: func() (int, bool, bool) { return 77, false, true },
		Running: func() []string {
			mu.Lock()
			defer mu.Unlock()
			looked <- struct{}{}
			return running
		},
		End: func(context.Context, time.Duration) (*workerapi.Stopped, error) {
			mu.Lock()
			defer mu.Unlock()
			ended++
			current = fresh
			return &workerapi.Stopped{Type: "Stopped"}, nil
		},
	})
	<-looked
	<-looked // what the first look has found is said
	const want = "the worker (process 77) is of a version that this server cannot talk to: the tasks it runs go on and their results are kept, " +
		"new ones wait; it is replaced when it has none any more (now: 2); `kill 77` ends it at once, and a new worker runs its tasks again"
	if diff := cmp.Diff(want, e.Problem()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mu.Lock()
	if ended > 0 {
		t.Error("it was ended with its tasks")
	}
	running = nil
	mu.Unlock()
	r.expect(t, "connected fresh 0")
	if p := e.Problem(); p != "" || ended != 1 {
		t.Errorf("after that the problem is %q, and %d workers were ended", p, ended)
	}
}

func TestABusyWorkerOfAnotherVersionIsRetiredOnceNothingIsParsedOnIt(t *testing.T) {
	old, fresh := newFakeWorker(t, "old"), newFakeWorker(t, "fresh")
	old.version, fresh.version = "1", "2"
	old.known = []executor.Known{{AttemptID: "a", Running: true}}
	var mu sync.Mutex
	current := old
	parsing := make(chan workerapi.Inbound, 1)
	old.on = func(in workerapi.Inbound, p *workerapi.Peer) bool {
		switch in.Type {
		case "Parse":
			parsing <- in
		case "Stop":
			mu.Lock()
			current = fresh
			mu.Unlock()
			p.Close()
		}
		return true
	}
	e, r := start(t, Options{Version: "2", Dial: func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		w := current
		mu.Unlock()
		return w.dial(ctx)
	}})
	r.expect(t, "connected old 1")
	parsed := make(chan error)
	go func() {
		_, err := e.Parse(t.Context(), workerapi.Parse{})
		parsed <- err
	}()
	in := <-parsing
	if e.Retire() {
		t.Error("the worker was retired while a file was parsed on it")
	}
	in.Reply(workerapi.Parsed{Type: "Parsed"})
	if err := <-parsed; err != nil {
		t.Error(err)
	}
	if !e.Retire() || e.Instance() != "" {
		t.Errorf("the worker was not retired: instance %q", e.Instance())
	}
	if err := e.Launch(t.Context(), executor.Attempt{ID: "b"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a launch on a retired worker: %v", err)
	}
	r.expect(t, "connected fresh 0")
	if e.Retire() {
		t.Error("a worker of the right version was retired")
	}
}

func TestStopSaysWhatTheWorkerDidAndStartsNoOther(t *testing.T) {
	w := newFakeWorker(t, "w1")
	down := false
	var mu sync.Mutex
	w.on = func(in workerapi.Inbound, p *workerapi.Peer) bool {
		in.Reply(workerapi.Stopped{Type: "Stopped", Ended: []string{"a"}})
		mu.Lock()
		down = true
		mu.Unlock()
		p.Flush(context.Background())
		p.Close()
		return true
	}
	asked := make(chan struct{}, 1000)
	e, r := start(t, Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				asked <- struct{}{}
				return nil, errors.New("gone")
			}
			return w.dial(ctx)
		},
		Spawn: func(context.Context) (<-chan struct{}, error) {
			t.Error("a worker was started")
			return nil, errors.New("no")
		},
	})
	r.expect(t, "connected w1 0")
	s, err := e.Stop(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, s.Ended); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	<-asked
	<-asked
	if s, err := e.Stop(t.Context(), 0); s != nil || err != nil {
		t.Errorf("a second stop: %+v, %v", s, err)
	}
}
