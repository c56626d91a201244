package worker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// An entry is a line on its way into a log.
type entry struct {
	at                        time.Time // when a record was made, when anything else was read
	stream, level, text, name string
	counted                   bool     // of a record: it is known
	after                     [2]int64 // … how much of stdout and stderr the task had printed
	begun                     [2]bool  // … and whether it had begun a line there, or was just writing
	alone                     bool     // … and nothing more until it was sent
	behind                    bool     // … and the task waits: it belongs behind all that is there, whoever has written it
	until                     [2]int64 // … that is, how much of stdout and stderr
}

// An order brings what a task prints and what it logs into the order in which the task did it. Both come over ways of
// their own (two pipes and the task's channel), each read by a goroutine of its own, at any distance from each other. Two
// facts are known of a single task, and no clock is needed:
//
//   - A record says how much the task had printed when it was made (After). A record that is early waits, and with it
//     everything behind it in the channel, until that much is stored; what is printed behind that place waits for it.
//   - A record is sent when it is made. So when a piece of a pipe has been read, every record that belongs before its end
//     has been sent. How much that is the channel says (total), and the piece waits until that much of it has been
//     handled, or until a record has come that is early, and so says how much of the piece stands before it.
//
// Everything waits where it is, in the hands of who reads it, and so does the task, in a full pipe or a full channel. There
// is no queue: a log holds one record and one piece of either pipe at most.
//
// Nobody waits for ever. What an early record waits for is in a pipe or has been read: it was printed before the record was
// sent, and when the pipe cannot give that much, the task has sent it elsewhere (a file in the place of descriptor 1), which
// is found out at once and remembered (shift). The reader of that pipe stores it without waiting: what stands before the
// place of the early record waits for nothing. So an early record, and whatever waits for it, waits for a reader that only
// the disk can hold up. A reader that waits for the channel without an early record waits for a goroutine that handles
// what has come already and needs the task for nothing: an answer to the task is written by another goroutine, and while
// too many of them are under way it steps aside (Aside), and the prints go on without it. That is the one case in which
// the order may be lost: a task that has asked for more than the server answers. A task that is stopped, or stuck in the
// middle of a message or a line, is waited for by nobody, since only what it has sent is. And the end of a stream or of the
// channel is as good as all of it.
//
// Others may write to a task's pipes, too: its children, and libraries in C. Then the pipe has more than the task has
// counted. How much more is found out (shift) from the first record that was sent after something that the task cannot
// have printed by its count. Until then, and in a task of several threads, whose count may be late, a record may be stored
// before the last of what was printed before it, but nothing before a record that had been sent when it was printed. The
// record that matters most, with the traceback of a failure, is never early: after it the task waits until it is stored, so all
// that is in the pipes by then stands before it (behind).
type order struct {
	log     *logFile
	turn    *sync.Cond // on the log's lock: something that somebody waits for has changed
	inlets  [2]inlet   // stdout and stderr
	early   *entry     // a record that has come before what was printed before it
	channel func() int64
	handled atomic.Int64 // of what came through the channel
	aside   bool         // whoever handles it waits for the server or for the task
	awaited atomic.Bool  // somebody waits for it
}

func (o *order) begin(log *logFile) {
	o.log, o.turn = log, sync.NewCond(&log.mu)
	o.inlets = [2]inlet{{log: log, stream: streamOut}, {log: log, stream: streamErr}}
}

// listen tells the log where its lines come from now. Before it is called, a log knows of nothing that is still to come.
func (o *order) listen(ch *channels) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	o.inlets = [2]inlet{{log: o.log, stream: streamOut}, {log: o.log, stream: streamErr}}
	o.early, o.aside = nil, false
	o.handled.Store(0)
	o.channel, o.inlets[0].total, o.inlets[1].total = ch.ear.total, ch.out.total, ch.err.total
	ch.ear.heard = o.heard
}

// sent is how much has been sent through the channel.
func (o *order) sent() int64 {
	if o.channel == nil {
		return 0
	}
	return o.channel()
}

// heard says that everything sent through the channel up to a place has been handled.
func (o *order) heard(upTo int64) {
	o.handled.Store(upTo)
	if o.awaited.Load() {
		o.log.mu.Lock()
		defer o.log.mu.Unlock()
		o.awaited.Store(false)
		o.turn.Broadcast()
	}
}

// deaf says that the channel has come to its end.
func (o *order) deaf() { o.heard(math.MaxInt64) }

// Aside says whether what has come through the channel has to wait for the server or for the task itself.
func (l *logFile) Aside(aside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order.aside = aside
	l.order.turn.Broadcast()
}

// room waits until some of a piece of n bytes may be stored, and says how much. By the time it had been read, as much had
// been sent through the channel.
func (o *order) room(in *inlet, n int, sent int64) int {
	for {
		switch r := o.early; {
		case o.log.closed:
			return n
		case r != nil:
			if ahead := in.place(r) - in.read; ahead > 0 {
				return int(min(ahead, int64(n)))
			}
		case o.aside || o.handled.Load() >= sent:
			return n
		}
		if o.awaited.Swap(true) { // else look again: it may have been handled before it was known that somebody waits
			o.turn.Wait()
		}
	}
}

// admit stores a record where the task made it.
func (o *order) admit(r *entry) {
	if r.behind {
		r.until = [2]int64{o.inlets[0].written(), o.inlets[1].written()}
	}
	o.settle(r)
	if o.arrived(r) {
		o.store(r)
		return
	}
	o.early = r
	o.turn.Broadcast()
	o.log.arm(reviewDelay)
	for o.early == r && !o.log.closed {
		o.turn.Wait()
	}
}

// release stores the early record when it is that no more.
func (o *order) release() {
	if r := o.early; r != nil && o.arrived(r) {
		o.early = nil
		o.turn.Broadcast()
		o.store(r)
	}
}

// review looks once more at what an early record waits for: somebody may have read a pipe that is the worker's.
func (o *order) review() {
	if o.early != nil {
		o.settle(o.early)
		o.release()
	}
}

// arrived says whether everything printed before a record is stored.
func (o *order) arrived(r *entry) bool {
	for i := range o.inlets {
		if in := &o.inlets[i]; !in.over && in.place(r) > in.read {
			return false
		}
	}
	return true
}

// settle finds out by how much the task's count of a stream is wrong: it may have sent something elsewhere, and others may
// write there, too.
func (o *order) settle(r *entry) {
	for i := range o.inlets { // somebody may have taken some of it out of the pipe
		r.until[i] = min(r.until[i], o.inlets[i].written())
	}
	if !r.counted {
		return
	}
	handled := o.handled.Load()
	for i := range o.inlets {
		in := &o.inlets[i]
		own := r.after[i]
		// Others have written: all that was sent before in.sure was noted has been handled, so this record was sent after it,
		// and yet more had been read then than the task counts now.
		if handled >= in.sure.sent && in.sure.read > own+in.shift && r.alone {
			in.shift = in.sure.read - in.sure.own
		}
		// The task has sent something elsewhere: by its count there would have to be more than the pipe can give. What was
		// added for others may be too much for the same reason.
		if own+in.shift > in.read || in.shift > 0 {
			in.shift = min(in.shift, in.written()-own)
		}
		in.own = own
	}
}

// store stores a record. A line that was begun before it is broken off there.
func (o *order) store(r *entry) {
	for i := range o.inlets {
		if in := &o.inlets[i]; (r.begun[i] || r.behind) && in.place(r) == in.read {
			in.breakOff(r.at)
		}
	}
	o.log.store(*r)
}

// place is where in a stream a record belongs; 0 when that is not known.
func (in *inlet) place(r *entry) int64 {
	i := in.index()
	if !r.counted {
		return r.until[i]
	}
	return max(r.after[i]+in.shift, r.until[i])
}
