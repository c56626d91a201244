package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/protocol"
)

// openRequests is how many requests of one task may wait for the server; a task that asks for more is read on when one is
// answered.
const openRequests = 64

// requests are the requests of a task that wait for an answer.
type requests struct {
	sync.WaitGroup
	log   *logFile
	turns chan struct{}
}

// begin runs f when there is a turn for it, or when ctx has ended, since then it ends at once. While it waits, what the task
// prints does not wait for what it has sent.
func (r *requests) begin(ctx context.Context, f func()) {
	select {
	case r.turns <- struct{}{}:
	default:
		r.log.Aside(true)
		defer r.log.Aside(false)
		select {
		case r.turns <- struct{}{}:
		case <-ctx.Done():
			f()
			return
		}
	}
	r.Go(func() { f(); <-r.turns })
}

// converse reads the task channel to its end.
func (a *attempt) converse(ctx context.Context, ch *channels) {
	conn := ch.conn
	calls := requests{log: a.log, turns: make(chan struct{}, openRequests)}
	defer calls.Wait()
	defer a.log.order.deaf()
	for first := true; ; first = false {
		f, err := conn.Read()
		if err != nil {
			if first && errors.Is(err, syscall.ECONNRESET) {
				ch.lost.Store(true)
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrDeadlineExceeded) &&
				!errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
				a.report.breakOff("the task sent something its worker cannot read: " + err.Error())
				a.kill(killOrder{reason: a.report.broken})
			}
			return
		}
		a.spoke.Store(true)
		if err := a.message(ctx, conn, f, &calls); err != nil {
			a.log.System("error", "a message of the task was not understood: %v", err)
			a.answer(ctx, conn, f, &calls, nil, &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()})
		}
	}
}

// message handles one frame of the task.
func (a *attempt) message(ctx context.Context, conn *protocol.Conn, f protocol.Frame, calls *requests) error {
	name, err := protocol.TypeOf(f.Body)
	if err != nil {
		return err
	}
	if protocol.IsRequest(name) {
		calls.begin(ctx, func() { a.forward(ctx, conn, f, name) })
		return nil
	}
	m, err := protocol.Decode(f.Body)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *protocol.MaskSecret:
		a.mask.AddExplicit(m.Value)
	case *protocol.LogRecord:
		a.logRecord(m)
	case *protocol.Exiting:
		a.lastWord.Store(m)
	case *protocol.ImportedModules:
		if a.host != nil {
			a.w.pool.Learn(a.host, m.Modules)
		}
	default:
		if !a.report.take(m) {
			return fmt.Errorf("a task does not send %s", name)
		}
	}
	a.answer(ctx, conn, f, calls, protocol.OKResponse{Type: "OKResponse", OK: true}, nil)
	return nil
}

// answer answers what the worker answers itself, if it was a request. A task may be slow to read it, so that this is not
// done by the goroutine that reads what the task says.
func (a *attempt) answer(ctx context.Context, conn *protocol.Conn, f protocol.Frame, calls *requests, body any, failure *protocol.Error) {
	if f.ID != 0 {
		calls.begin(ctx, func() { _ = conn.Write(f.ID, body, failure) })
	}
}

func (a *attempt) logRecord(m *protocol.LogRecord) {
	now := time.Now()
	at := m.Time
	if at.IsZero() || at.After(now) { // a task may have set its own clock
		at = now
	}
	text := m.Event
	if m.Error != "" {
		text = strings.TrimRight(text+"\n"+m.Error, "\n")
	}
	e := entry{at: at, stream: streamLog, level: m.Level, text: text, name: m.Logger, alone: m.Alone, behind: m.Behind}
	if len(m.After) == len(e.after) {
		e.counted = true
		copy(e.after[:], m.After)
		copy(e.begun[:], m.Begun)
	}
	a.log.Add(e)
}

// forward passes a request on to the server and the answer back. While no server is there it waits.
func (a *attempt) forward(ctx context.Context, conn *protocol.Conn, f protocol.Frame, name string) {
	answer, err := a.w.call(ctx, a.order, withRequestID(f.Body, fmt.Sprintf("%s/%d", a.order.ID, f.ID)))
	if ctx.Err() != nil || f.ID == 0 {
		return
	}
	var refused *protocol.Error
	switch {
	case err == nil:
		if name == "GetVariable" || name == "GetConnection" {
			a.mask.Add(secretsIn(f.Body, answer)...) // before the task has it, so that it cannot print it first
		}
		err = conn.Write(f.ID, answer, nil)
	case errors.As(err, &refused):
		err = conn.Write(f.ID, nil, refused)
	default:
		err = conn.Write(f.ID, nil, &protocol.Error{Code: protocol.CodeGeneric, Message: err.Error()})
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, net.ErrClosed) {
		a.log.System("error", "the answer to %s did not reach the task: %v", name, err)
	}
}

// secretsIn returns what of an answer must stay out of logs: a variable whose name says so, a connection's password,
// and what stands in either under a key that says so.
func secretsIn(request, answer json.RawMessage) []string {
	var r protocol.Request
	if json.Unmarshal(request, &r) != nil {
		return nil
	}
	switch r.Type {
	case "GetVariable":
		var v struct {
			Value string `json:"value"`
		}
		if json.Unmarshal(answer, &v) == nil {
			return secret.Find(r.Key, v.Value)
		}
	case "GetConnection":
		var c protocol.ConnectionResult
		if json.Unmarshal(answer, &c) == nil {
			return append(secret.Find("", c.Extra), c.Password)
		}
	}
	return nil
}

// withRequestID adds request_id to an object.
func withRequestID(body json.RawMessage, id string) json.RawMessage {
	end := len(body)
	for end > 0 && body[end-1] != '}' {
		end--
	}
	if end == 0 {
		return body
	}
	out := make(json.RawMessage, 0, len(body)+len(id)+20)
	out = append(out, body[:end-1]...)
	out = append(out, `,"request_id":`...)
	out = appendString(out, id)
	return append(out, '}')
}
