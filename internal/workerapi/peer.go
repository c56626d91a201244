package workerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"ostro.dev/ostro/protocol"
)

// ErrClosed reports that the connection has ended, so an order may or may not have arrived.
var ErrClosed = errors.New("the connection to the other side has ended")

// A Handler is called for every request and notification of the other side, in the order in which they were sent, from
// one goroutine. It must not wait for the other side: a request may be answered later, from any goroutine.
type Handler func(ctx context.Context, in Inbound)

// Inbound is a message of the other side. Exactly one of Reply and Fail must be called for a request; for a
// notification they do nothing.
type Inbound struct {
	Type string
	Body json.RawMessage

	id   uint64
	peer *Peer
}

// IsRequest reports whether the other side waits for an answer.
func (in Inbound) IsRequest() bool { return in.id != 0 }

// Reply answers a request.
func (in Inbound) Reply(body any) {
	if in.id == 0 {
		return
	}
	if err := in.peer.send(in.id, body, nil); err != nil && !errors.Is(err, ErrClosed) {
		in.Fail(&protocol.Error{Code: protocol.CodeGeneric, Message: err.Error()})
	}
}

// Fail answers a request with an error. A *protocol.Error travels as it is, any other with code GENERIC_ERROR.
func (in Inbound) Fail(err error) {
	if in.id == 0 {
		return
	}
	var pe *protocol.Error
	if !errors.As(err, &pe) {
		pe = &protocol.Error{Code: protocol.CodeGeneric, Message: err.Error()}
	}
	// An answer that cannot be sent has nobody left who could use it.
	_ = in.peer.send(in.id, nil, pe)
}

// A Peer is one end of a connection on which both sides send requests and notifications at any time. Messages arrive in
// the order of the calls that sent them. Sending never waits for the other side: what cannot be written yet is queued,
// and the queue is bounded by what the two sides have outstanding.
//
// Both sides number their own requests. A request's id is even; its answer carries the same id with the lowest bit set,
// which is how an answer is told from a request of the other side.
type Peer struct {
	stream  io.ReadWriteCloser
	handler Handler

	mu      sync.Mutex
	queue   []byte
	wake    chan struct{} // capacity 1: the queue has something, or the peer is closing
	flushed *sync.Cond
	busy    bool // the writer holds bytes taken from the queue
	closed  bool
	nextID  uint64
	waiting map[uint64]chan protocol.Frame

	done chan struct{} // closed when Run is about to return
}

// NewPeer returns a Peer over stream; Run must be called for anything to happen.
func NewPeer(stream io.ReadWriteCloser, h Handler) *Peer {
	p := &Peer{
		stream: stream, handler: h,
		wake:    make(chan struct{}, 1),
		waiting: make(map[uint64]chan protocol.Frame),
		done:    make(chan struct{}),
	}
	p.flushed = sync.NewCond(&p.mu)
	return p
}

// Run reads and writes until the stream ends, Close is called or ctx is done. It returns nil when either side closed in
// an orderly way. When it has returned, nothing of the Peer runs any more and no handler is called.
func (p *Peer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, p.Close)
	var writing sync.WaitGroup
	writing.Go(p.write)
	err := p.read(ctx)
	cancel()
	stop()
	p.Close()
	writing.Wait()
	close(p.done)
	return err
}

// Done is closed when Run has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Close ends the connection without waiting: calls in flight return ErrClosed, queued messages are dropped.
func (p *Peer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	waiting := p.waiting
	p.waiting = nil
	p.flushed.Broadcast()
	p.mu.Unlock()
	for _, ch := range waiting {
		close(ch)
	}
	p.kick()
	p.stream.Close()
}

// Flush waits until everything sent so far has been handed to the operating system, the peer is closed or ctx is done.
func (p *Peer) Flush(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		p.flushed.Broadcast()
		p.mu.Unlock()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for (len(p.queue) > 0 || p.busy) && !p.closed && ctx.Err() == nil {
		p.flushed.Wait()
	}
}

// Notify sends a notification.
func (p *Peer) Notify(body any) error { return p.send(0, body, nil) }

// Call sends a request and decodes the answer into answer, which may be nil. The error is a *protocol.Error when the
// other side refused, ErrClosed when the connection ended first.
func (p *Peer) Call(ctx context.Context, request, answer any) error {
	wait, err := p.Start(request)
	if err != nil {
		return err
	}
	return wait(ctx, answer)
}

// Start sends a request in order with everything sent before and after, and returns a function that waits for the
// answer. The function must be called once; a caller that needs no answer calls it with a context that is done.
func (p *Peer) Start(request any) (wait func(ctx context.Context, answer any) error, err error) {
	ch := make(chan protocol.Frame, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.nextID++
	id := p.nextID << 1
	err = p.enqueue(id, request, nil)
	if err == nil {
		p.waiting[id] = ch
	}
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p.kick()
	return func(ctx context.Context, answer any) error {
		select {
		case f, ok := <-ch:
			if !ok {
				return ErrClosed
			}
			return readAnswer(f, answer)
		case <-ctx.Done():
			p.mu.Lock()
			delete(p.waiting, id)
			p.mu.Unlock()
			return ctx.Err()
		}
	}, nil
}

// Post sends a request in order and lets its answer go.
func (p *Peer) Post(request any) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.nextID++
	err := p.enqueue(p.nextID<<1, request, nil)
	p.mu.Unlock()
	if err == nil {
		p.kick()
	}
	return err
}

func readAnswer(f protocol.Frame, answer any) error {
	if f.Error != nil {
		return f.Error
	}
	if answer == nil {
		return nil
	}
	if raw, ok := answer.(*json.RawMessage); ok {
		*raw = f.Body
		return nil
	}
	if err := json.Unmarshal(f.Body, answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// send queues a notification (id 0) or an answer.
func (p *Peer) send(id uint64, body any, failure *protocol.Error) error {
	if id != 0 {
		id |= 1
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	err := p.enqueue(id, body, failure)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	p.kick()
	return nil
}

func (p *Peer) enqueue(id uint64, body any, failure *protocol.Error) error {
	queue, err := protocol.AppendFrame(p.queue, id, body, failure)
	p.queue = queue
	return err
}

func (p *Peer) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write sends what is queued, as much as there is at a time.
func (p *Peer) write() {
	var out []byte
	for range p.wake {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		out, p.queue = p.queue, out[:0]
		if cap(p.queue) > 1<<20 {
			p.queue = nil
		}
		p.busy = true
		p.mu.Unlock()

		_, err := p.stream.Write(out)

		p.mu.Lock()
		p.busy = false
		p.flushed.Broadcast()
		p.mu.Unlock()
		if err != nil {
			p.Close() // the reader sees the closed stream and reports the end
			return
		}
	}
}

// read dispatches what arrives.
func (p *Peer) read(ctx context.Context) error {
	conn := protocol.NewConn(p.stream)
	for {
		f, err := conn.Read()
		if err != nil {
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if f.ID&1 == 1 {
			p.answer(f)
			continue
		}
		in := Inbound{Body: f.Body, id: f.ID, peer: p}
		in.Type, err = protocol.TypeOf(f.Body)
		if err != nil {
			in.Fail(&protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()})
			continue
		}
		p.handler(ctx, in)
	}
}

// answer hands an answer to its caller; one nobody waits for any more is dropped.
func (p *Peer) answer(f protocol.Frame) {
	p.mu.Lock()
	id := f.ID &^ 1
	ch := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if ch != nil {
		ch <- f
	}
}
