package app

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// http.Server's Shutdown closes a connection whose first request it reads only now, without an answer. A server that stops
// in order lets them finish first: it closes the listening socket, and shuts down when nobody waits for an answer.

// openConns are the connections on which an answer is due.
type openConns struct {
	mu    sync.Mutex
	state map[net.Conn]http.ConnState
	calm  chan struct{} // signalled when a connection is done with
}

func newOpenConns() *openConns {
	return &openConns{state: map[net.Conn]http.ConnState{}, calm: make(chan struct{}, 1)}
}

// track is http.Server's ConnState.
func (o *openConns) track(c net.Conn, s http.ConnState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s == http.StateNew || s == http.StateActive {
		o.state[c] = s
		return
	}
	delete(o.state, c)
	select {
	case o.calm <- struct{}{}:
	default:
	}
}

// due counts connections with a request, and those on which none has come yet.
func (o *openConns) due() (active, fresh int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.state {
		if s == http.StateNew {
			fresh++
		} else {
			active++
		}
	}
	return active, fresh
}

// silence is how long a connection on which no request has come holds up a stop.
const silence = 500 * time.Millisecond

// drain waits until every request is answered, or until ctx ends.
func (o *openConns) drain(ctx context.Context) {
	mute := time.NewTimer(silence)
	defer mute.Stop()
	muted := false
	for {
		active, fresh := o.due()
		if active == 0 && (fresh == 0 || muted) {
			return
		}
		select {
		case <-o.calm:
		case <-mute.C:
			muted = true
		case <-ctx.Done():
			return
		}
	}
}

// endRequests takes no new requests and gives those that are open time to be answered; streams end soon.
func (r *running) endRequests(ctx context.Context, grace time.Duration) {
	a := r.app
	defer a.streams()
	if r.http.cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	streams := time.AfterFunc(streamsGrace, a.streams)
	defer streams.Stop()
	_ = a.listener.Close() // Serve ends, and says why to nobody
	r.http.end()           // every connection that was accepted is known now
	a.http.SetKeepAlivesEnabled(false)
	a.conns.drain(ctx)
	if a.http.Shutdown(ctx) != nil {
		_ = a.http.Close() // a client that does not let go
	}
}
