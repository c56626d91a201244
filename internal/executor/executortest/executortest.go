// Package executortest is what every executor must pass: the promises of package executor, asked of an implementation
// through the few things a test must be able to make happen.
//
// It is imported by tests only.
package executortest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

// A Harness is one executor with what a test needs around it.
type Harness struct {
	Executor executor.Executor
	// Attempt makes the order for an attempt with the given id that does what b says.
	Attempt func(id string, b Behaviour) executor.Attempt
	// KillWorker makes everything the executor runs die at once, with the incarnation that ran it; nil: cannot be done.
	KillWorker func()
}

// Behaviour is what an attempt does: runs for a time, then ends with an exit code.
type Behaviour struct {
	For  time.Duration
	Exit int
}

// patience is how long the suite waits for what must happen.
const patience = 20 * time.Second

// Exercise runs the suite. newHarness is called once for each test.
func Exercise(t *testing.T, newHarness func(t *testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, *conversation){
		"an attempt is reported as started and then as finished":     startsAndFinishes,
		"a failing attempt is reported as such":                      fails,
		"launching twice runs once":                                  launchTwice,
		"an order for another incarnation is not begun":              otherInstance,
		"a result is repeated after reconnecting until acknowledged": repeats,
		"an attempt outlives the server and is known to the next":    outlives,
		"a killed attempt ends soon and is reported":                 kills,
		"killing or acknowledging what is unknown is no error":       unknown,
		"a new incarnation knows nothing of the former one's":        dies,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &conversation{t: t, h: newHarness(t), sink: newSink()}
			c.connect()
			t.Cleanup(c.disconnect)
			test(t, c)
		})
	}
}

// conversation is one server's side.
type conversation struct {
	t      *testing.T
	h      Harness
	sink   *sink
	cancel context.CancelFunc
	done   chan struct{}
}

func (c *conversation) connect() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.cancel, c.done = cancel, done
	sink := c.sink
	go func() {
		defer close(done)
		if err := c.h.Executor.Run(ctx, sink); err != nil {
			c.t.Errorf("Run: %v", err)
		}
	}()
	c.wait("the connection", func() bool { return len(sink.connections) > 0 })
	if c.h.Executor.Instance() == "" {
		c.t.Error("connected, but Instance is empty")
	}
}

func (c *conversation) disconnect() {
	c.cancel()
	<-c.done
}

// reconnect is a new server: it knows nothing of what the old one was told.
func (c *conversation) reconnect() {
	c.t.Helper()
	c.disconnect()
	c.sink = newSink()
	c.connect()
}

func (c *conversation) launch(id string, b Behaviour) {
	c.t.Helper()
	if err := c.h.Executor.Launch(context.Background(), c.h.Attempt(id, b)); err != nil {
		c.t.Fatalf("Launch: %v", err)
	}
}

func (c *conversation) wait(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.sink.mu.Lock()
		changed, now := c.sink.changed, ok()
		c.sink.mu.Unlock()
		if now {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("waited too long for %s", what)
		}
	}
}

func (c *conversation) finished(id string) executor.Result {
	c.t.Helper()
	c.wait("the end of "+id, func() bool { return len(c.sink.finished[id]) > 0 })
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	return c.sink.finished[id][0]
}

func (c *conversation) started(id string) {
	c.t.Helper()
	c.wait("the start of "+id, func() bool { return c.sink.started[id] > 0 })
}

func startsAndFinishes(t *testing.T, c *conversation) {
	c.launch("a", Behaviour{})
	r := c.finished("a")
	if r.State != run.Success || r.AttemptID != "a" || r.EndedAt.IsZero() || r.StartedAt == nil || r.StartedAt.After(r.EndedAt) {
		t.Errorf("result: %+v", r)
	}
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	if c.sink.started["a"] != 1 || c.sink.order[0] != "started a" {
		t.Errorf("reports: %v", c.sink.order)
	}
}

func fails(t *testing.T, c *conversation) {
	c.launch("a", Behaviour{Exit: 3})
	if r := c.finished("a"); r.State == run.Success || r.Infra || r.Reason == "" {
		t.Errorf("result: %+v", r)
	}
}

func launchTwice(t *testing.T, c *conversation) {
	c.launch("a", Behaviour{For: 50 * time.Millisecond})
	c.launch("a", Behaviour{For: 50 * time.Millisecond})
	c.finished("a")
	c.launch("a", Behaviour{})
	c.launch("b", Behaviour{For: 50 * time.Millisecond})
	c.finished("b")
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	if c.sink.started["a"] != 1 {
		t.Errorf("a started %d times", c.sink.started["a"])
	}
}

func otherInstance(t *testing.T, c *conversation) {
	a := c.h.Attempt("a", Behaviour{})
	a.Instance = "an incarnation of long ago"
	_ = c.h.Executor.Launch(context.Background(), a) // it may say so, or not
	c.launch("b", Behaviour{})
	c.finished("b")
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	if c.sink.started["a"] != 0 {
		t.Error("it was begun")
	}
}

func repeats(t *testing.T, c *conversation) {
	c.launch("a", Behaviour{})
	c.finished("a")
	c.reconnect()
	if r := c.finished("a"); r.State != run.Success {
		t.Errorf("repeated as %+v", r)
	}
	if !c.knows("a", false) {
		t.Errorf("Connected does not list it: %v", c.sink.connections)
	}
	if err := c.h.Executor.Acknowledge(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	c.launch("b", Behaviour{}) // orders are in order: once b has ended, a was acknowledged
	c.finished("b")
	c.reconnect()
	c.finished("b")
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	if len(c.sink.finished["a"]) > 0 {
		t.Error("it is repeated after it was acknowledged")
	}
}

func (c *conversation) knows(id string, running bool) bool {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	for _, k := range c.sink.connections[len(c.sink.connections)-1].known {
		if k.AttemptID == id && k.Running == running {
			return true
		}
	}
	return false
}

func outlives(t *testing.T, c *conversation) {
	instance := c.h.Executor.Instance()
	c.launch("a", Behaviour{For: time.Second})
	c.started("a")
	c.reconnect()
	if !c.knows("a", true) {
		t.Errorf("Connected does not list it as running: %v", c.sink.connections)
	}
	if now := c.h.Executor.Instance(); now != instance {
		t.Errorf("the incarnation changed from %s to %s", instance, now)
	}
	if r := c.finished("a"); r.State != run.Success {
		t.Errorf("result: %+v", r)
	}
}

func kills(t *testing.T, c *conversation) {
	c.launch("a", Behaviour{For: time.Hour})
	c.started("a")
	if err := c.h.Executor.Kill(context.Background(), "a", "cleared by a test"); err != nil {
		t.Fatal(err)
	}
	if r := c.finished("a"); r.State == run.Success || r.Infra || r.Reason == "" {
		t.Errorf("result: %+v", r)
	}
}

func unknown(t *testing.T, c *conversation) {
	if err := c.h.Executor.Kill(context.Background(), "nobody", "test"); err != nil {
		t.Error(err)
	}
	if err := c.h.Executor.Acknowledge(context.Background(), "nobody"); err != nil {
		t.Error(err)
	}
}

func dies(t *testing.T, c *conversation) {
	if c.h.KillWorker == nil {
		t.Skip("this executor's worker cannot be killed")
	}
	instance := c.h.Executor.Instance()
	c.launch("a", Behaviour{For: time.Hour})
	c.started("a")
	c.h.KillWorker()
	c.wait("another incarnation", func() bool {
		last := c.sink.connections[len(c.sink.connections)-1]
		return last.instance != instance
	})
	if c.knows("a", true) {
		t.Error("it still runs the attempt")
	}
	c.launch("b", Behaviour{})
	c.finished("b")
}

// sink remembers what is reported.
type sink struct {
	mu          sync.Mutex
	changed     chan struct{}
	connections []connection
	started     map[string]int
	finished    map[string][]executor.Result
	order       []string
}

type connection struct {
	instance string
	known    []executor.Known
}

func newSink() *sink {
	return &sink{changed: make(chan struct{}), started: map[string]int{}, finished: map[string][]executor.Result{}}
}

func (s *sink) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Connected implements executor.Sink.
func (s *sink) Connected(_, instance string, known []executor.Known) {
	s.note(func() { s.connections = append(s.connections, connection{instance, known}) })
}

// Started implements executor.Sink.
func (s *sink) Started(e executor.Started) {
	s.note(func() { s.started[e.AttemptID]++; s.order = append(s.order, "started "+e.AttemptID) })
}

// Finished implements executor.Sink.
func (s *sink) Finished(r executor.Result) {
	s.note(func() {
		s.finished[r.AttemptID] = append(s.finished[r.AttemptID], r)
		s.order = append(s.order, "finished "+r.AttemptID)
	})
}

// Call implements executor.Sink.
func (s *sink) Call(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return nil, &protocol.Error{Code: protocol.CodeNotSupported, Message: "the suite answers no calls"}
}
