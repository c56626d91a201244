package workerapi

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ostro.dev/ostro/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type note struct {
	Type string `json:"type"`
	N    int    `json:"n"`
}

// pair connects two peers and runs them until the test ends.
func pair(t *testing.T, left, right Handler) (*Peer, *Peer) {
	t.Helper()
	a, b := net.Pipe()
	l, r := NewPeer(a, left), NewPeer(b, right)
	var wg sync.WaitGroup
	for _, p := range []*Peer{l, r} {
		wg.Go(func() { _ = p.Run(context.Background()) })
	}
	t.Cleanup(func() { l.Close(); r.Close(); wg.Wait() })
	return l, r
}

func ignore(context.Context, Inbound) {}

func echo(_ context.Context, in Inbound) { in.Reply(in.Body) }

func TestBothSidesCallEachOtherAtOnce(t *testing.T) {
	l, r := pair(t, echo, echo)
	var wg sync.WaitGroup
	for _, p := range []*Peer{l, r} {
		for i := range 100 {
			wg.Go(func() {
				var got note
				if err := p.Call(t.Context(), note{"Echo", i}, &got); err != nil || got.N != i {
					t.Errorf("call %d: got %d, %v", i, got.N, err)
				}
			})
		}
	}
	wg.Wait()
}

func TestNotificationsAndRequestsArriveInTheOrderTheyWereSent(t *testing.T) {
	var got []string
	l, _ := pair(t, ignore, func(_ context.Context, in Inbound) {
		var n note
		_ = json.Unmarshal(in.Body, &n)
		got = append(got, in.Type+strconv.Itoa(n.N))
		in.Reply(n)
	})
	var want []string
	for i := range 200 {
		if i%3 == 0 {
			if _, err := l.Start(note{"Ask", i}); err != nil {
				t.Fatal(err)
			}
			want = append(want, "Ask"+strconv.Itoa(i))
			continue
		}
		if err := l.Notify(note{"Tell", i}); err != nil {
			t.Fatal(err)
		}
		want = append(want, "Tell"+strconv.Itoa(i))
	}
	if err := l.Call(t.Context(), note{"Last", 0}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(want, "Last0"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARefusalKeepsItsCode(t *testing.T) {
	l, _ := pair(t, ignore, func(_ context.Context, in Inbound) {
		if in.Type == "Plain" {
			in.Fail(errors.New("something broke"))
			return
		}
		in.Fail(&protocol.Error{Code: protocol.CodeVariableNotFound, Message: "no variable x"})
	})
	var pe *protocol.Error
	if err := l.Call(t.Context(), note{Type: "Get"}, nil); !errors.As(err, &pe) || pe.Code != protocol.CodeVariableNotFound {
		t.Errorf("got %v", err)
	}
	if err := l.Call(t.Context(), note{Type: "Plain"}, nil); !errors.As(err, &pe) || pe.Code != protocol.CodeGeneric {
		t.Errorf("got %v", err)
	}
}

func TestACallEndsWithItsContextAndALateAnswerIsDropped(t *testing.T) {
	held := make(chan Inbound, 1)
	l, _ := pair(t, ignore, func(_ context.Context, in Inbound) {
		if in.Type == "Hold" {
			held <- in
			return
		}
		in.Reply(note{"Answer", 2})
	})
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := l.Start(note{Type: "Hold"})
	if err != nil {
		t.Fatal(err)
	}
	in := <-held
	cancel()
	if err := wait(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	in.Reply(note{"Answer", 1})
	var got note
	if err := l.Call(t.Context(), note{Type: "Other"}, &got); err != nil || got.N != 2 {
		t.Errorf("the next call got %+v, %v", got, err)
	}
}

func TestWhenTheConnectionEndsEveryCallInFlightIsTold(t *testing.T) {
	l, r := pair(t, ignore, ignore)
	wait, err := l.Start(note{Type: "Never"})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := wait(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("call in flight: %v", err)
	}
	<-l.Done()
	if err := l.Notify(note{Type: "Late"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAHandlersContextEndsWithTheConnection(t *testing.T) {
	got := make(chan context.Context, 1)
	l, r := pair(t, ignore, func(ctx context.Context, in Inbound) { got <- ctx })
	if err := l.Notify(note{Type: "Tell"}); err != nil {
		t.Fatal(err)
	}
	ctx := <-got
	r.Close()
	<-ctx.Done()
}

func TestFlushWaitsUntilTheQueueIsWritten(t *testing.T) {
	seen := 0
	l, r := pair(t, ignore, func(context.Context, Inbound) { seen++ })
	for i := range 50 {
		_ = l.Notify(note{"Tell", i})
	}
	l.Flush(t.Context())
	l.Close()
	<-r.Done()
	if seen != 50 {
		t.Errorf("%d of 50 arrived before the close", seen)
	}
}

func TestAMessageTooLargeIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	l, _ := pair(t, ignore, echo)
	if err := l.Notify(map[string]any{"type": "Big", "x": make([]byte, protocol.MaxFrame)}); !errors.Is(err, protocol.ErrFrameTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := l.Call(t.Context(), note{"Echo", 1}, nil); err != nil {
		t.Error(err)
	}
}
