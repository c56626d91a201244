package local

import "sync"

// A queue calls functions one after the other from one goroutine, in the order they were added. The sink may take its
// time without holding up the connection.
type queue struct {
	mu     sync.Mutex
	change *sync.Cond
	todo   []func()
	behind []func() // added while held
	held   bool
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.change = sync.NewCond(&q.mu)
	return q
}

// add appends f.
func (q *queue) add(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held {
		q.behind = append(q.behind, f)
		return
	}
	q.todo = append(q.todo, f)
	q.change.Signal()
}

// hold keeps what is added from now on back until release.
func (q *queue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = true
}

// release appends first, if any, and then what was held back.
func (q *queue) release(first func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if first != nil {
		q.todo = append(q.todo, first)
	}
	q.todo = append(q.todo, q.behind...)
	q.behind, q.held = nil, false
	q.change.Signal()
}

// deliver calls what is added until the queue is closed and empty.
func (q *queue) deliver() {
	for {
		q.mu.Lock()
		for len(q.todo) == 0 && !q.closed {
			q.change.Wait()
		}
		if len(q.todo) == 0 {
			q.mu.Unlock()
			return
		}
		todo := q.todo
		q.todo = nil
		q.mu.Unlock()
		for _, f := range todo {
			f()
		}
	}
}

// close has deliver return when it is done.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.change.Signal()
}
