package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/internal/store/postgres"
)

// The points at which Options.Fault is asked, once a transaction each.
const (
	// FaultBegin: before a transaction begins.
	FaultBegin = "begin"
	// FaultCommit: everything is written, nothing is durable.
	FaultCommit = "commit"
	// FaultCommitted: everything is durable, nobody was told.
	FaultCommitted = "committed"
)

const (
	// A batch ends after so many closures or so long, so that the first of it need not wait for ever.
	maxBatch     = 1024
	maxBatchTime = 25 * time.Millisecond

	// A checkpoint is made beside the writer after so many commits or statements, or when nothing was committed for a
	// while. A log of more frames than maxFrames that passive checkpoints cannot empty is emptied in the writer's time.
	checkpointCommits = 1000
	checkpointWork    = 20_000
	checkpointIdle    = 500 * time.Millisecond
	maxFrames         = 12 * 1024
)

// writer runs closures in durable transactions: those that wait are run together, each in a savepoint, and answered
// after the one commit that holds them. One goroutine owns the writing connection; a second one checkpoints.
type writer struct {
	eng   engine
	fault func(point string) error
	s     *session

	requests chan *request
	quit     chan struct{} // closed when stop begins
	stopped  chan struct{} // closed when nothing is taken from requests any more
	wg       sync.WaitGroup
	closing  sync.Once

	batch   []*request // what the open transaction holds; the writer's own
	commits atomic.Uint64
	since   int           // commits since a checkpoint was asked for
	dirty   chan struct{} // there is something to checkpoint, some time
	full    chan struct{} // there is much to checkpoint, now
	restart atomic.Bool   // the log must be emptied in the writer's time

	mu      sync.Mutex
	changed chan struct{}
}

// request is one closure on its way.
type request struct {
	f     func(*session) error
	taken atomic.Bool     // by the writer, or by a caller that gave up
	gone  <-chan struct{} // closed when the caller would rather have no answer than wait
	done  chan struct{}
	err   error
	// panicked is what f panicked with; it is raised again where Update was called.
	panicked any
}

func newWriter(eng engine, texts []string, fault func(string) error, used []atomic.Uint64) *writer {
	if fault == nil {
		fault = func(string) error { return nil }
	}
	w := &writer{
		eng: eng, fault: fault,
		s:        &session{eng: eng, texts: texts, runs: map[runRef]int64{}, tasks: map[taskRef]int64{}, used: used},
		requests: make(chan *request, maxBatch),
		quit:     make(chan struct{}),
		stopped:  make(chan struct{}),
		dirty:    make(chan struct{}, 1),
		full:     make(chan struct{}, 1),
		changed:  make(chan struct{}),
	}
	w.wg.Go(w.loop)
	w.wg.Go(w.checkpoints)
	return w
}

// do runs f in the writer and returns after the commit that holds it. A caller whose ctx ends before the writer took f
// is answered at once and f never runs; after that it waits for the outcome, unless the answer to the commit is lost.
func (w *writer) do(ctx context.Context, f func(*session) error) error {
	r := &request{f: f, gone: ctx.Done(), done: make(chan struct{})}
	select {
	case <-w.quit:
		return ErrClosed
	default:
	}
	select {
	case w.requests <- r:
	case <-w.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.take() {
			return ctx.Err()
		}
		<-r.done
	case <-w.stopped:
		if r.take() {
			return ErrClosed
		}
		<-r.done
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

// stop ends both goroutines; closures that wait are answered ErrClosed.
func (w *writer) stop() error {
	var err error
	w.closing.Do(func() {
		close(w.quit)
		w.wg.Wait()
		err = w.s.close()
		close(w.stopped)
	})
	return err
}

func (w *writer) loop() {
	clean := false
	defer func() {
		if !clean { // a closure called runtime.Goexit (t.FailNow in a test): the goroutine is gone, the work goes on
			w.abandon(errors.New("the closure ended its goroutine"))
			w.wg.Go(w.loop)
		}
	}()
	for {
		select {
		case <-w.quit:
			clean = true
			return
		case r := <-w.requests:
			w.run(r)
		}
	}
}

// run makes one transaction of first and of what else waits.
func (w *writer) run(first *request) {
	if !first.take() {
		return
	}
	w.batch = append(w.batch[:0], first)
	if err := w.begin(); err != nil {
		w.abandon(err)
		return
	}
	if len(w.requests) == 0 {
		if first.err = w.call(first); first.err != nil && w.s.fault == nil {
			w.abandon(first.err)
			return
		}
	} else {
		w.runTogether(first)
	}
	w.finish()
}

// runTogether runs first and the closures that wait behind it, each in its savepoint.
func (w *writer) runTogether(first *request) {
	start := time.Now()
	first.err = w.callInSavepoint(first)
	for w.s.fault == nil && len(w.batch) < maxBatch && time.Since(start) < maxBatchTime {
		select {
		case r := <-w.requests:
			if r.take() {
				w.batch = append(w.batch, r)
				r.err = w.callInSavepoint(r)
			}
		default:
			return
		}
	}
}

func (w *writer) callInSavepoint(r *request) error {
	if err := w.s.failed(w.s.link.Savepoint()); err != nil {
		return err
	}
	err := w.call(r)
	if w.s.fault != nil {
		return err
	}
	if err != nil {
		w.s.forget()
		return errors.Join(err, w.s.failed(w.s.link.RollbackTo()))
	}
	return w.s.failed(w.s.link.Release())
}

// call runs one closure and turns a panic into an error, to be raised again in the caller's goroutine.
func (w *writer) call(r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked = p
			err = fmt.Errorf("the closure panicked: %v", p)
		}
	}()
	w.s.refused = nil
	if err = r.f(w.s); err == nil {
		err = w.s.flush()
	}
	if err == nil {
		err = w.s.refused
	}
	return err
}

func (w *writer) begin() error {
	w.s.fault = nil
	if err := w.fault(FaultBegin); err != nil {
		return err
	}
	if w.restart.Swap(false) {
		if _, _, err := w.eng.RestartLog(context.Background()); err != nil {
			return w.s.failed(err)
		}
	}
	return w.s.failed(w.s.begin(context.Background()))
}

// finish commits and answers. After a fault of the engine nothing of the batch is kept and all are told so.
func (w *writer) finish() {
	if w.s.fault != nil {
		w.abandon(explain(w.s.fault))
		return
	}
	if !slices.ContainsFunc(w.batch, func(r *request) bool { return r.err == nil }) {
		w.abandon(nil) // every closure was rolled back alone
		return
	}
	if err := w.fault(FaultCommit); err != nil {
		w.abandon(err)
		return
	}
	if err := w.s.failed(w.commit()); err != nil {
		w.abandon(fmt.Errorf("commit: %w", err))
		return
	}
	w.commits.Add(1)
	w.announce()
	err := w.fault(FaultCommitted)
	for i, r := range w.batch {
		if err != nil && r.err == nil {
			r.err = err
		}
		r.answer(r.err)
		w.batch[i] = nil
	}
	w.batch = w.batch[:0]
}

// commit commits. When the answer is lost it asks until it is known what has become of the commit: nobody of the batch can be
// told anything before, since a change that was made and is made again is made twice. Those who come meanwhile are refused.
func (w *writer) commit() error {
	err := w.s.link.Commit()
	if !errors.Is(err, postgres.ErrUnsettled) {
		return err
	}
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		switch w.s.link.Outcome() {
		case postgres.Committed:
			_ = w.s.close() // it is broken; the next transaction opens another
			return nil
		case postgres.NotCommitted:
			return err
		case postgres.Unknowable:
			return fmt.Errorf("%w, and the server keeps no account of it any more", err)
		case postgres.Unknown:
		}
		if !w.refuseFor(pause, err) {
			return fmt.Errorf("%w, and the database is closed before the server has said what became of it", err)
		}
		w.batch = slices.DeleteFunc(w.batch, func(r *request) bool {
			select {
			case <-r.gone:
				r.answer(explain(err))
				return true
			default:
				return false
			}
		})
	}
}

// How long a writer waits before it asks again what has become of a commit.
const (
	leastPause = 50 * time.Millisecond
	mostPause  = time.Second
)

// refuseFor answers those who want to write that they cannot, for a while; false when the database closes.
func (w *writer) refuseFor(d time.Duration, why error) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-w.quit:
			return false
		case r := <-w.requests:
			if r.take() {
				r.answer(explain(fmt.Errorf("wait for an earlier commit: %w", why)))
			}
		case <-t.C:
			return true
		}
	}
}

// abandon rolls back and answers every closure of the batch: its own error, or else err.
func (w *writer) abandon(err error) {
	w.s.forget()
	if w.s.link != nil {
		// SQLite may have rolled back by itself already, so an error here says nothing, unless the connection broke.
		rerr := w.s.link.Rollback()
		if w.s.fault != nil && !keepsConnection(w.s.fault) || !keepsConnection(rerr) {
			_ = w.s.close()
		}
	}
	for i, r := range w.batch {
		switch {
		case w.s.fault != nil && !errors.Is(r.err, ErrUnavailable) && !errors.Is(r.err, ErrCorrupt):
			r.err = err
		case r.err == nil:
			r.err = err
		}
		r.answer(r.err)
		w.batch[i] = nil
	}
	w.batch = w.batch[:0]
}

// announce wakes those who wait for a commit and, now and then, the checkpoints.
func (w *writer) announce() {
	w.mu.Lock()
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	notify(w.dirty)
	w.since++
	if w.since >= checkpointCommits || w.s.work >= checkpointWork {
		w.since, w.s.work = 0, 0
		notify(w.full)
	}
}

func (w *writer) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// checkpoints keeps the write-ahead log short without ever standing in a commit's way: when the writer has been idle
// for a moment, or when much has been written.
func (w *writer) checkpoints() {
	for {
		select {
		case <-w.quit:
			return
		case <-w.dirty:
		}
		if !w.settle() {
			return
		}
		// An error here is met again, and reported, by the next commit or reader; the log only stays longer.
		if frames, copied, err := w.eng.Checkpoint(context.Background()); err == nil && frames > maxFrames && copied > frames/2 {
			w.restart.Store(true)
		}
	}
}

// settle waits until a checkpoint is due; false when the database closes. It does not wake at every commit.
func (w *writer) settle() bool {
	idle := time.NewTimer(checkpointIdle)
	defer idle.Stop()
	for seen := w.commits.Load(); ; seen = w.commits.Load() {
		select {
		case <-w.quit:
			return false
		case <-w.full:
			return true
		case <-idle.C:
			if w.commits.Load() == seen {
				return true
			}
			idle.Reset(checkpointIdle)
		}
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *request) take() bool { return r.taken.CompareAndSwap(false, true) }

func (r *request) answer(err error) {
	r.err = err
	close(r.done)
}
