package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// accept serves connections until the listener is closed.
func (w *Worker) accept(l *net.UnixListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			w.log.Error("cannot accept a connection", "err", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		w.conns.Go(func() { w.serve(c) })
	}
}

// serve talks to one server until the connection ends.
func (w *Worker) serve(c net.Conn) {
	var peer *workerapi.Peer
	peer = workerapi.NewPeer(c, func(ctx context.Context, in workerapi.Inbound) { w.handle(ctx, peer, in) })
	stop := context.AfterFunc(w.ctx, peer.Close)
	defer stop()
	err := peer.Run(context.Background())
	w.mu.Lock()
	was := w.server == peer
	if was {
		w.setServer(nil)
	}
	w.mu.Unlock()
	if was {
		w.log.Info("the server is gone", "err", err)
	}
}

// setServer changes the server, with the lock held.
func (w *Worker) setServer(p *workerapi.Peer) {
	w.server = p
	w.lastUse = time.Now()
	w.wakeAsking()
}

// wakeAsking has those who wait for a server look again, with the lock held.
func (w *Worker) wakeAsking() {
	close(w.serverChanged)
	w.serverChanged = make(chan struct{})
}

// errNotAttached refuses what comes over a connection that is not the server's.
var errNotAttached = &protocol.Error{Code: protocol.CodePermission,
	Message: "this connection is not attached; a newer server may have taken over"}

// handle handles one message of a server. Those that take long are answered from a goroutine.
func (w *Worker) handle(ctx context.Context, peer *workerapi.Peer, in workerapi.Inbound) {
	if in.Type == "Attach" {
		decode(in, func(m workerapi.Attach) error { return w.attach(peer, in, m) })
		return
	}
	w.mu.Lock()
	attached := w.server == peer
	w.mu.Unlock()
	if !attached {
		in.Fail(errNotAttached)
		return
	}
	ok := protocol.OKResponse{Type: "OKResponse", OK: true}
	switch in.Type {
	case "Launch":
		decode(in, func(m workerapi.Launch) error {
			err := w.launch(peer, m.Attempts)
			if err == nil {
				in.Reply(ok)
			}
			return err
		})
	case "Kill":
		decode(in, func(m workerapi.Kill) error {
			w.mu.Lock()
			a := w.attempts[m.AttemptID]
			w.mu.Unlock()
			if a != nil {
				a.kill(killOrder{reason: m.Reason})
			}
			in.Reply(ok)
			return nil
		})
	case "Acknowledge":
		decode(in, func(m workerapi.Acknowledge) error {
			w.acknowledge(m.AttemptIDs)
			in.Reply(ok)
			return nil
		})
	case "Parse":
		decode(in, func(m workerapi.Parse) error {
			w.conns.Go(func() {
				parsed, err := w.pool.Parse(ctx, m)
				if errors.Is(err, errStopping) { // it is not the file's fault: the next worker is asked
					in.Fail(&protocol.Error{Code: protocol.CodeUnavailable, Message: err.Error()})
					return
				}
				in.Reply(parsed)
			})
			return nil
		})
	case "Evaluate":
		decode(in, func(m workerapi.Evaluate) error {
			w.conns.Go(func() { in.Reply(w.pool.Evaluate(ctx, m)) })
			return nil
		})
	case "Ping":
		in.Reply(ok)
	case "Stop":
		decode(in, func(m workerapi.Stop) error {
			w.conns.Go(func() { w.stopFor(in, m) })
			return nil
		})
	default:
		in.Fail(&protocol.Error{Code: protocol.CodeNotSupported, Message: fmt.Sprintf("a worker does not know %q", in.Type)})
	}
}

// decode decodes a message and hands it to f; an error is the answer.
func decode[T any](in workerapi.Inbound, f func(T) error) {
	var m T
	err := json.Unmarshal(in.Body, &m)
	if err != nil {
		err = &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	} else {
		err = f(m)
	}
	if err != nil {
		in.Fail(err)
	}
}

// attach makes a connection the server's. The newest wins: an older server that still hangs on is cut off.
func (w *Worker) attach(peer *workerapi.Peer, in workerapi.Inbound, m workerapi.Attach) error {
	if m.Protocol != protocol.Version {
		return &protocol.Error{Code: protocol.CodeNotSupported,
			Message: fmt.Sprintf("this worker speaks protocol %d, the server %d", protocol.Version, m.Protocol)}
	}
	w.pool.Configure(m.Settings)
	w.mu.Lock()
	if w.stopping {
		w.mu.Unlock()
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: errStopping.Error()}
	}
	old := w.server
	w.settings = m.Settings
	spooled := w.spool.IDs()
	slices.Sort(spooled) // ids are in order of time
	var known []executor.Known
	var started []executor.Started
	for id, a := range w.attempts {
		known = append(known, executor.Known{AttemptID: id, Running: true})
		if a.started != nil {
			started = append(started, *a.started)
		}
	}
	for _, id := range spooled {
		if w.attempts[id] == nil { // else its end is about to be reported
			known = append(known, executor.Known{AttemptID: id})
		}
	}
	in.Reply(workerapi.Attached{
		Type: "Attached", Instance: w.instance, PID: os.Getpid(), Version: w.o.Version, Known: known, Devices: w.gpus.known(),
		Problem: w.refusals.problem(),
	})
	for _, s := range started {
		_ = peer.Notify(workerapi.Started{Type: "Started", Started: s})
	}
	w.setServer(peer)
	w.mu.Unlock()
	if old != nil && old != peer {
		w.log.Warn("a newer server takes over", "server", m.ServerID)
		old.Close()
	}
	w.log.Info("attached", "server", m.ServerID, "running", len(known)-len(spooled), "spooled", len(spooled))
	w.gpus.lookAgain()
	w.conns.Go(func() { w.resend(peer, spooled) })
	return nil
}

// resend reports results that no server has acknowledged, a few at a time: they may be large and many.
func (w *Worker) resend(peer *workerapi.Peer, ids []string) {
	for _, id := range ids {
		data, err := w.spool.Get(id)
		if err != nil {
			if w.spool.Has(id) {
				w.log.Error("cannot read a spooled result", "attempt", id, "err", err)
			}
			continue // acknowledged meanwhile
		}
		if err := peer.Notify(finished{"Finished", data}); errors.Is(err, workerapi.ErrClosed) {
			return
		} else if err != nil {
			w.log.Error("cannot report a spooled result", "attempt", id, "err", err)
		}
		peer.Flush(w.ctx)
	}
}

func (w *Worker) acknowledge(ids []string) {
	w.mu.Lock()
	for _, id := range ids {
		w.forgotten.Put(id, true)
	}
	w.mu.Unlock()
	for _, id := range ids {
		w.spool.Remove(id)
	}
}

// stopFor ends all tasks, says how, and has the worker end.
func (w *Worker) stopFor(in workerapi.Inbound, m workerapi.Stop) {
	ended, killed := w.endTasks(killOrder{reason: "the server was stopped", wished: true, grace: w.graceOf(m.GraceSeconds)})
	w.awaitAcknowledged(append(slices.Clone(ended), killed...), 2*time.Second)
	in.Reply(workerapi.Stopped{Type: "Stopped", Ended: ended, Killed: killed})
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
}

// awaitAcknowledged gives the server time to commit the last results while it can still say so. What it does not
// acknowledge stays in the spool.
func (w *Worker) awaitAcknowledged(ids []string, limit time.Duration) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if !slices.ContainsFunc(ids, w.spool.Has) {
			return
		}
	}
}
