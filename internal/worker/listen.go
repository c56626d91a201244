package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ostro.dev/ostro/internal/daghost"
)

// A tap reads a pipe or a socket and knows how much has been written into it.
type tap struct {
	raw   syscall.RawConn
	mu    sync.Mutex // held while something is taken out, so that what is taken and what is left are known of one moment
	taken int64
}

func newTap(c syscall.Conn) (*tap, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listen to a task: %w", err)
	}
	return &tap{raw: raw}, nil
}

// Read reads what is there, or waits for something. One goroutine may read.
func (t *tap) Read(p []byte) (n int, err error) {
	waited := t.raw.Read(func(fd uintptr) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		for {
			n, err = unix.Read(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		t.taken += int64(max(0, n))
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

// total is how much has been written by now, read or not.
func (t *tap) total() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left int
	_ = t.raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // of a closed one nothing is left
	return t.taken + int64(left)
}

// A pipe is one that a task prints to.
type pipe struct {
	*os.File
	*tap
}

// openPipe returns our end of a new one, and the task's.
func openPipe() (ours *pipe, theirs *os.File, err error) {
	r, w, err := daghost.Pipe()
	if err != nil {
		return nil, nil, err
	}
	t, err := newTap(r)
	return &pipe{r, t}, w, err
}

func (p *pipe) Read(b []byte) (int, error) { return p.tap.Read(b) }

// An ear reads a task's channel and says how much of it has been handled.
type ear struct {
	*net.UnixConn
	*tap
	heard func(upTo int64)
}

func newEar(c *net.UnixConn) (*ear, error) {
	t, err := newTap(c)
	return &ear{c, t, func(int64) {}}, err
}

// Read reads from the channel. It is called when everything has been handled that was read before, but for a message that
// is not whole yet.
func (e *ear) Read(p []byte) (int, error) {
	e.heard(e.taken)
	return e.tap.Read(p)
}
