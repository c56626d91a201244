package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ostro.dev/ostro/internal/daghost"
)

// What a task prints and what it logs come over different pipes, each read by a goroutine of its own, so they would arrive
// in an order of their own. Two rules give them back the task's. Before what was printed is stored, the records that the
// task had sent by then are taken in (ear). And a record says how much the task had printed when it was made (After): one
// that is early waits for the lines it follows, and what belongs behind it waits with it. When the lines do not come, the
// task has sent them elsewhere, and they are not waited for again.

// patienceForPrints is how long a record waits for what was printed before it; a busy machine may take long to read a pipe.
const patienceForPrints = 500 * time.Millisecond

// mostWaiting bounds what waits with it.
const mostWaiting = 1000

// An entry is a line on its way into a log.
type entry struct {
	at                        time.Time // when a record was made, when anything else was read
	stream, level, text, name string
	from                      int64     // of a printed line: where in its stream it begins
	after                     []int64   // of a record: how much of stdout and stderr had been printed; nil when that is not known
	since                     time.Time // of a record that waits: since when
}

func streamIndex(stream string) int {
	if stream == streamErr {
		return 1
	}
	return 0
}

// An order keeps the lines of a log in order, and their times.
type order struct {
	last    time.Time // the time of the last line
	read    [2]int64  // how much of stdout and stderr is stored
	missing [2]int64  // how much the task has counted that does not come
	waiting []entry   // a record that has come before what was printed before it, and what belongs behind it
}

// early says whether a record has to wait.
func (o *order) early(e entry) bool {
	return len(o.waiting) > 0 || !o.arrived(e)
}

// arrived says whether everything printed before a record is stored.
func (o *order) arrived(e entry) bool {
	return len(e.after) != 2 || o.place(e, 0) <= o.read[0] && o.place(e, 1) <= o.read[1]
}

// place is where in a stream a record belongs.
func (o *order) place(record entry, stream int) int64 {
	return record.after[stream] - o.missing[stream]
}

// holds says of a printed line whether it has to wait behind a record that waits for the other stream.
func (o *order) holds(line entry) bool {
	return len(o.waiting) > 0 && len(o.waiting) < mostWaiting && line.from >= o.place(o.waiting[0], streamIndex(line.stream))
}

// overdue says whether a record has waited long enough; what it has waited for is missing then. A line waits for a record
// only.
func (o *order) overdue(e entry) bool {
	if time.Since(e.since) < patienceForPrints {
		return false
	}
	for i := range o.read {
		if len(e.after) == 2 {
			o.missing[i] += max(0, o.place(e, i)-o.read[i])
		}
	}
	return true
}

// put adds an entry to the buffer. Its time is never before that of the line it comes after.
func (o *order) put(buf []byte, e entry) []byte {
	if e.at.After(o.last) {
		o.last = e.at
	}
	return appendLine(buf, o.last, e.stream, e.level, e.text, e.name)
}

// catchLimit is how long what was printed waits for the records before it. A task that keeps its worker busy with requests
// may have sent one that cannot be taken in yet.
const catchLimit = 20 * time.Millisecond

// An ear reads a task's channel and knows whether everything sent through it has been taken in.
type ear struct {
	*net.UnixConn
	raw   syscall.RawConn
	empty atomic.Bool // the last look found nothing, and what came before has been handled
	// behind says that waiting was in vain, until everything has been taken in once
	behind atomic.Bool
}

func newEar(c *net.UnixConn) (*ear, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listen to a task: %w", err)
	}
	return &ear{UnixConn: c, raw: raw}, nil
}

// Read reads from the channel; it is called when what was read before has been handled.
func (e *ear) Read(p []byte) (n int, err error) {
	waited := e.raw.Read(func(fd uintptr) bool {
		e.empty.Store(false) // before it looks: what is taken out of the socket is handled later
		for {
			n, err = unix.Read(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		e.empty.Store(n <= 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// catchUp waits until what the task has sent so far is taken in, for a moment at most, and not again before it is.
func (e *ear) catchUp() {
	for deadline := time.Now().Add(catchLimit); daghost.Buffered(e.UnixConn) > 0 || !e.empty.Load(); {
		if e.behind.Load() || time.Now().After(deadline) {
			e.behind.Store(true)
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
	e.behind.Store(false)
}
