package protocol

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// ErrFrameTooLarge reports a frame above MaxFrame. A reader that meets one cannot go on: the stream has no resync point.
var ErrFrameTooLarge = errors.New("frame is larger than the protocol allows")

// AppendFrame appends one encoded frame to dst. body may be nil when failure is set. On an error dst is returned as it
// was, so that a buffer shared by several frames stays sound.
func AppendFrame(dst []byte, id uint64, body any, failure *Error) ([]byte, error) {
	start := len(dst)
	w := appender{append(dst, 0, 0, 0, 0)}
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false) // a value that passes through several frames must not grow in any of them
	frame := struct {
		ID    uint64 `json:"id"`
		Body  any    `json:"body,omitempty"`
		Error *Error `json:"error,omitempty"`
	}{id, body, failure}
	if err := enc.Encode(frame); err != nil {
		return dst[:start], fmt.Errorf("encode frame: %w", err)
	}
	dst = w.data[:len(w.data)-1] // Encode ends with a newline
	size := len(dst) - start - 4
	if size > MaxFrame {
		return dst[:start], fmt.Errorf("encode frame of %d bytes: %w (at most %d)", size, ErrFrameTooLarge, MaxFrame)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(size))
	return dst, nil
}

// appender writes to the end of a slice.
type appender struct{ data []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.data = append(a.data, p...)
	return len(p), nil
}

// ReadFrame reads one frame. At the end of the stream between two frames it returns io.EOF, inside one
// io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Frame{}, err
		}
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size > MaxFrame {
		return Frame{}, fmt.Errorf("read frame of %d bytes: %w (at most %d)", size, ErrFrameTooLarge, MaxFrame)
	}
	data, err := readBody(r, size)
	if err != nil {
		return Frame{}, err
	}
	var f Frame
	if err := json.Unmarshal(data, &f); err != nil {
		return Frame{}, fmt.Errorf("decode frame: %w", err)
	}
	return f, nil
}

// readBody does not trust size until the bytes are there: memory grows with what arrives.
func readBody(r io.Reader, size int) ([]byte, error) {
	const trusted = 1 << 20
	var data []byte
	var err error
	if size <= trusted {
		data = make([]byte, size)
		_, err = io.ReadFull(r, data)
	} else {
		var buf bytes.Buffer
		_, err = io.CopyN(&buf, r, int64(size))
		data = buf.Bytes()
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return data, err
}

// A Conn sends and receives frames over a byte stream. One goroutine may read; any number may write.
type Conn struct {
	stream io.ReadWriteCloser
	r      *bufio.Reader

	mu  sync.Mutex
	out []byte
}

// NewConn returns a Conn over stream. Descriptors that arrive are discarded by the kernel.
func NewConn(stream io.ReadWriteCloser) *Conn {
	return &Conn{stream: stream, r: bufio.NewReaderSize(stream, 16<<10)}
}

// Read reads one frame.
func (c *Conn) Read() (Frame, error) { return ReadFrame(c.r) }

// Write sends one frame.
func (c *Conn) Write(id uint64, body any, failure *Error) error {
	return c.WriteFiles(id, body, failure)
}

// Notify sends a notification.
func (c *Conn) Notify(body any) error { return c.WriteFiles(0, body, nil) }

// WriteFiles sends one frame with descriptors, which travel with its first byte. The caller keeps its own copies and
// closes them. Descriptors need a Unix socket.
func (c *Conn) WriteFiles(id uint64, body any, failure *Error, files ...*os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := AppendFrame(c.out[:0], id, body, failure)
	if err != nil {
		return err
	}
	if cap(out) <= 64<<10 {
		c.out = out // keep small buffers, give large ones back
	}
	if len(files) > 0 {
		n, err := sendWithFiles(c.stream, out, files)
		if err != nil {
			return fmt.Errorf("write frame with descriptors: %w", err)
		}
		out = out[n:]
	}
	if len(out) == 0 {
		return nil
	}
	if _, err := c.stream.Write(out); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Close closes the stream; a blocked Read or Write returns.
func (c *Conn) Close() error { return c.stream.Close() }

func sendWithFiles(stream io.Writer, data []byte, files []*os.File) (int, error) {
	u, ok := stream.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T carries no descriptors", stream)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return 0, err
		}
		// Fd() would make the description blocking; Control does not.
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return 0, err
		}
	}
	n, _, err := u.WriteMsgUnix(data, syscall.UnixRights(fds...), nil)
	return n, err
}

// SocketPair returns two ends of a Unix stream socket: ours, and theirs as a file to be inherited or passed on. Theirs
// is in blocking mode, as a process that knows nothing of Go expects.
func SocketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create socket pair: %w", err)
	}
	mine := os.NewFile(uintptr(fds[0]), "socketpair")
	c, err := net.FileConn(mine) // duplicates, non-blocking
	mine.Close()
	if err != nil {
		syscall.Close(fds[1])
		return nil, nil, fmt.Errorf("create socket pair: %w", err)
	}
	return c.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "socketpair"), nil
}
