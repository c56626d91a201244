package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// openCalls is how many requests of tasks one connection may have under way.
const openCalls = 1024

// calls are the requests of tasks under way.
type calls struct {
	sync.WaitGroup
	open atomic.Int32
}

// begin runs f, or has the worker ask again: reports of results come over the same connection and must not wait.
func (c *calls) begin(in workerapi.Inbound, f func()) {
	if c.open.Add(1) > openCalls {
		c.open.Add(-1)
		in.Fail(&protocol.Error{Code: protocol.CodeUnavailable, Message: "too many requests of tasks are under way"})
		return
	}
	c.Go(func() {
		defer c.open.Add(-1)
		f()
	})
}

// refuse ends an attempt that no message can carry to the worker. Trying again would change nothing, so its failure is
// final.
func (e *Executor) refuse(a executor.Attempt) {
	words := tooLarge(a)
	e.log.Error("an attempt cannot be handed to the worker", "attempt", a.ID, "err", words)
	e.mu.Lock()
	finished := e.finished
	e.mu.Unlock()
	r := executor.Result{AttemptID: a.ID, State: run.Failed, Final: true, EndedAt: time.Now(), Reason: words}
	const owed = "on_failure_callback"
	if a.Startup.Kind != protocol.KindCallback && slices.Contains(a.Callbacks, owed) {
		r.CallbacksOwed = []string{owed}
	}
	finished(r) // a worker is connected, so Run runs
}

// tooLarge says what of an attempt is too large, and what to do.
func tooLarge(a executor.Attempt) string {
	context := a.Startup.Context
	parts := []struct {
		name, advice string
		value        any
	}{
		{"the DAG run's conf", "pass the name of a file instead of its content", context.DagRun.Conf},
		{"the asset events that the DAG run consumes", "let the producers keep less in their events' extra", context.DagRun.ConsumedAssetEvent},
		{"what the task had kept when it was deferred (next_kwargs)", "let the trigger hand over the name of a file", context.NextKwargs},
		{"the list of upstream map indexes", "map over fewer elements", context.UpstreamMapIndexes},
		{"the task's environment", "set fewer or shorter variables", a.Startup.Env},
		{"the task's order without these", "shorten its parameters", a},
	}
	largest, most := 0, 0
	for i, p := range parts[:len(parts)-1] {
		if n := encodedSize(p.value); n > most {
			largest, most = i, n
		}
	}
	whole := encodedSize(a)
	if most < whole/2 {
		largest, most = len(parts)-1, whole-most
	}
	p := parts[largest]
	return fmt.Sprintf("the task cannot be started: what it is started with takes %d bytes, a message holds at most %d; "+
		"%s alone takes %d: %s", whole, protocol.MaxFrame, p.name, most, p.advice)
}

func encodedSize(v any) int {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // as the message is encoded
	_ = enc.Encode(v)
	return buf.Len()
}
