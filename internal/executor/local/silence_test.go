package local

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// eventually polls until f returns true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(what + ": it never was so")
		}
	}
}

// A silentWorker reads nothing until it is woken.
func silentWorker(w *fakeWorker) (dial func(context.Context) (net.Conn, error), wake func()) {
	awake := make(chan struct{})
	dial = func(ctx context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		w.running.Go(func() {
			<-awake
			p := (*workerapi.Peer)(nil)
			p = workerapi.NewPeer(ours, func(_ context.Context, in workerapi.Inbound) { w.handle(p, in) })
			_ = p.Run(context.Background())
		})
		return theirs, nil
	}
	return dial, sync.OnceFunc(func() { close(awake) })
}

func TestAWorkerThatAcceptsAndIsSilentIsAProblemInWordsUntilItAnswers(t *testing.T) {
	w := newFakeWorker(t, "w1")
	w.known = []executor.Known{{AttemptID: "a", Running: true}}
	dial, wake := silentWorker(w)
	defer wake()
	e, r := start(t, Options{Dial: dial, Silence: time.Millisecond, Process: func() (int, bool, bool) { return 4711, true, true }})
	eventually(t, "the problem is said", func() bool { return e.Problem() != "" })
	if p := e.Problem(); !strings.Contains(p, "process 4711) is stopped") || !strings.Contains(p, "kill -CONT 4711") {
		t.Errorf("it is said so: %s", p)
	}
	if err := e.Launch(t.Context(), executor.Attempt{ID: "b"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("launch: %v", err)
	}
	wake()
	r.expect(t, "connected w1 1")
	eventually(t, "the problem is over", func() bool { return e.Problem() == "" })
}

func TestAConnectedWorkerThatFallsSilentIsAProblemToo(t *testing.T) {
	w := newFakeWorker(t, "w1")
	var mu sync.Mutex
	var held []workerapi.Inbound
	silent := true
	w.on = func(in workerapi.Inbound, _ *workerapi.Peer) bool {
		mu.Lock()
		defer mu.Unlock()
		if in.Type == "Ping" && silent {
			held = append(held, in)
			return true
		}
		return false
	}
	e, r := start(t, Options{Dial: w.dial, Silence: time.Millisecond, Process: func() (int, bool, bool) { return 4711, false, true }})
	r.expect(t, "connected w1 0")
	eventually(t, "the problem is said", func() bool { return strings.Contains(e.Problem(), "process 4711) has not answered") })
	mu.Lock()
	silent = false
	for _, in := range held {
		in.Fail(&protocol.Error{Code: protocol.CodeNotSupported, Message: "what is a ping?"})
	}
	mu.Unlock()
	eventually(t, "the problem is over", func() bool { return e.Problem() == "" })
}

func TestWhatTheWorkerSaysKeepsItsTasksWaitingIsAProblemUntilItSaysOtherwise(t *testing.T) {
	w := newFakeWorker(t, "w1")
	w.early = []any{workerapi.Trouble{Type: "Trouble", Problem: "no room"}}
	e, r := start(t, Options{Dial: w.dial})
	r.expect(t, "connected w1 0")
	eventually(t, "the problem is said", func() bool { return e.Problem() == "no room" })
	if err := w.peer().Notify(workerapi.Trouble{Type: "Trouble"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the problem is over", func() bool { return e.Problem() == "" })
}

func TestAWorkerThatCannotBeStartedIsAProblemInWords(t *testing.T) {
	e, _ := start(t, Options{
		Dial:  func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") },
		Spawn: func(context.Context) (<-chan struct{}, error) { return nil, errors.New("the program is gone") },
	})
	eventually(t, "the problem is said", func() bool { return e.Problem() == "no worker can be started: the program is gone" })
}

func TestAStopThatCannotReachTheWorkerEndsItFromOutside(t *testing.T) {
	for name, connected := range map[string]bool{"it never answered": false, "it fell silent": true} {
		t.Run(name, func(t *testing.T) {
			w := newFakeWorker(t, "w1")
			w.on = func(in workerapi.Inbound, _ *workerapi.Peer) bool { return in.Type == "Stop" }
			dial, wake := silentWorker(w)
			defer wake()
			if connected {
				dial = w.dial
			}
			e, r := start(t, Options{Dial: dial, End: func(context.Context, time.Duration) (*workerapi.Stopped, error) {
				return &workerapi.Stopped{Killed: []string{"a"}}, nil
			}})
			if connected {
				r.expect(t, "connected w1 0")
			}
			ctx, cancel := context.WithTimeout(t.Context(), lastResort)
			defer cancel()
			s, err := e.Stop(ctx, time.Second)
			if err != nil || s == nil || len(s.Killed) != 1 {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
}

func TestAStopSaysWhatItLeaves(t *testing.T) {
	e := New(Options{End: func(context.Context, time.Duration) (*workerapi.Stopped, error) {
		return nil, errors.New("process 4711 is still there")
	}})
	if _, err := e.Stop(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Errorf("got %v", err)
	}
}

func TestAnAttemptThatNoMessageCanCarryFailsForGoodInWords(t *testing.T) {
	w := newFakeWorker(t, "w1")
	e, r := start(t, Options{Dial: w.dial, Silence: time.Hour})
	results := make(chan executor.Result, 1)
	r.expect(t, "connected w1 0")
	e.mu.Lock()
	finished := e.finished
	e.finished = func(res executor.Result) { results <- res; finished(res) }
	e.mu.Unlock()
	conf, _ := json.Marshal(strings.Repeat("x", protocol.MaxFrame))
	a := executor.Attempt{ID: "a", Callbacks: []string{"on_failure_callback"}}
	a.Startup.Context.DagRun.Conf = conf
	if err := e.Launch(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "finished a")
	res := <-results
	if res.State != "failed" || !res.Final || res.Infra || len(res.CallbacksOwed) != 1 ||
		!strings.Contains(res.Reason, "the DAG run's conf alone takes") || !strings.Contains(res.Reason, "pass the name of a file") {
		t.Errorf("got %+v", res)
	}
	a.Startup.Context.DagRun.Conf = nil
	if err := e.Launch(t.Context(), a); err != nil { // the connection is whole
		t.Fatal(err)
	}
	if in := <-w.arrived; in.Type != "Launch" {
		t.Errorf("the worker got %s", in.Type)
	}
}

func TestRequestsOfTasksThatAreUnderWayAreBounded(t *testing.T) {
	var c calls
	gate := make(chan struct{})
	var mu sync.Mutex
	ran := 0
	for range openCalls + 100 {
		c.begin(workerapi.Inbound{}, func() { <-gate; mu.Lock(); ran++; mu.Unlock() })
	}
	close(gate)
	c.Wait()
	if ran != openCalls || c.open.Load() != 0 {
		t.Errorf("%d ran, %d are said to be open", ran, c.open.Load())
	}
}
