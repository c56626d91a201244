package scheduler

import "sync"

// message is one thing for the scheduler's goroutine to fold.
type message struct {
	// actor is who causes the change; messages of one actor that wait together share a commit.
	actor string
	// fold changes memory and fills the batch. It may be called again, after memory was rebuilt, when a commit failed. An
	// error refuses the message: it must not have changed anything then.
	fold func(b *batch) error
	// alone: nothing else, not even what follows from it, goes into the same commit.
	alone bool
	// read: changes nothing, so it is answered at once, also while the database cannot be written.
	read bool
	// reply is told once how it ended: after the commit, or why not. May be nil.
	reply func(error)
	// fallback replaces fold when the commit fails for this message alone and for good. May be nil.
	fallback func(b *batch, err error) error
}

// mailbox is an unbounded queue: whoever reports a result must never wait for the database.
type mailbox struct {
	mu       sync.Mutex
	items    []message
	reads    int // of the items
	commands int
	closed   bool
	wake     chan struct{} // holds a token while items may be there
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put appends a message; false after close.
func (m *mailbox) put(msg message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.items = append(m.items, msg)
	if msg.read {
		m.reads++
	} else if msg.command() {
		m.commands++
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the mailbox.
func (m *mailbox) take() []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.empty()
}

// empty returns all messages and keeps none, with the lock held.
func (m *mailbox) empty() []message {
	items := m.items
	m.items, m.reads, m.commands = nil, 0, 0
	return items
}

// takeImpatient takes the messages that do not wait for the database, those that change nothing and perhaps the commands,
// and leaves the others where they are. Where there are none it costs nothing, however many results wait.
func (m *mailbox) takeImpatient(commands bool) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reads == 0 && (!commands || m.commands == 0) {
		return nil
	}
	var taken []message
	rest := m.items[:0]
	for _, msg := range m.items {
		if msg.read || commands && msg.command() {
			taken = append(taken, msg)
		} else {
			rest = append(rest, msg)
		}
	}
	clear(m.items[len(rest):])
	m.items, m.reads = rest, 0
	if commands {
		m.commands = 0
	}
	return taken
}

// command reports whether a message is a change from outside: while the database cannot be written it is refused, not
// kept, so that nothing happens later that its sender was told had failed.
func (m message) command() bool { return m.reply != nil && !m.read && m.actor != actorScheduler }

// close refuses further messages and returns those that were never looked at.
func (m *mailbox) close() []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.empty()
}
