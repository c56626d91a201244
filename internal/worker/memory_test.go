package worker

import (
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"

	"ostro.dev/ostro/protocol"
)

func TestAMemoryForgetsTheOldestAndNeverGrows(t *testing.T) {
	m := newMemory[string, int](3)
	for i := range 1000 {
		m.Put(strconv.Itoa(i), i)
		m.Put(strconv.Itoa(i), -i)
	}
	if len(m.values) != 3 || len(m.ring) != 3 {
		t.Errorf("%d values, %d in the ring", len(m.values), len(m.ring))
	}
	for i := 997; i < 1000; i++ {
		if v, ok := m.Get(strconv.Itoa(i)); !ok || v != -i {
			t.Errorf("%d is remembered as %d, %v", i, v, ok)
		}
	}
}

func TestWhatAPoolRemembersOfFilesIsBounded(t *testing.T) {
	p := newPool(slog.New(slog.DiscardHandler), nil, "", nil)
	defer p.Close()
	for i := range 3 * codeMemory {
		p.Demote(hostKey{file: "dag.py", version: strconv.Itoa(i)}, "its forks die")
	}
	if n := len(p.demoted.values); n != codeMemory {
		t.Errorf("%d versions are remembered", n)
	}
	h := &host{exits: map[string]chan protocol.Exited{}}
	h.expectExit("a")
	h.forgetExit("a")
	if len(h.exits) != 0 {
		t.Errorf("%d ends are awaited", len(h.exits))
	}
}

// A parse that is under way when the pool closes releases its host after the close has begun.
func TestAPoolIsClosedOnlyWhenItsLastUseHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(slog.New(slog.DiscardHandler), nil, "", nil)
		p.mu.Lock()
		h := p.add(hostKey{file: "dag.py"})
		p.use(h)
		p.mu.Unlock()
		closed := false
		go func() { p.Close(); closed = true }()
		synctest.Wait()
		if closed {
			t.Error("it was closed before")
		}
		p.Release(h)
		synctest.Wait()
		if !closed || len(p.all) != 0 {
			t.Errorf("closed: %v, with %d hosts left", closed, len(p.all))
		}
	})
}
