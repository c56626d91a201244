package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	// maxLine is the longest text of one log line; longer lines go on in the next, marked with "…" at the seam.
	maxLine = 64 << 10
	// overlap is how far beyond maxLine a reader looks, so that a secret across the seam is masked as one.
	overlap = 4 << 10
	// logBuffer is how much of a log waits for the disk; a writer that is faster waits with it.
	logBuffer = 256 << 10
	// logDelay is how long a line waits for more before it is written.
	logDelay = 20 * time.Millisecond
)

// Streams of a log line.
const (
	streamOut    = "stdout"
	streamErr    = "stderr"
	streamLog    = "log"
	streamSystem = "system"
)

// A logFile writes the log of one attempt: JSON lines {"t","s","l","m","n"}, whose times never go backwards. It may be used
// from any goroutine. When the disk is full it waits, and so do the processes that write; nothing is dropped until the
// worker itself ends. The worker's own lines never wait: a task must be ended on a full disk, too.
type logFile struct {
	mask   func(string) string
	limit  int64 // bytes; 0 none
	logger *slog.Logger
	ctx    context.Context           // its end gives up waiting for a disk
	put    func([]byte) (int, error) // writes to the file; tests fill the disk here
	broken func(error)               // called once when the file cannot be made and room on the disk would not help

	path string

	mu      sync.Mutex
	f       *os.File // nil until there is something to write, and while the disk has no room for it
	failed  bool     // broken was called; what comes is lost
	buf     []byte
	order   order // of what is in buf, and of what waits to get there
	written int64
	capped  bool
	timer   *time.Timer
	armed   bool
	closed  bool
	busy    bool       // somebody writes the buffer out, perhaps waiting for the disk without the lock
	idle    *sync.Cond // busy has become false
	lost    int        // lines that the disk did not take in time
}

// newLog returns a log that makes its file when it is opened or, at the latest, with the first line.
func newLog(ctx context.Context, path string, mask func(string) string, limit int64, logger *slog.Logger) *logFile {
	l := &logFile{mask: mask, limit: limit, logger: logger, ctx: ctx, path: path, broken: func(error) {}}
	l.idle = sync.NewCond(&l.mu)
	l.put = l.write
	return l
}

// Open makes the file. The task need not wait for it: it takes a good part of what a short one takes.
func (l *logFile) Open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil || l.busy || l.closed {
		return
	}
	if err := l.open(); err != nil && !diskTrouble(err) {
		l.fail(err)
	}
}

// fail gives up a log whose file cannot be made.
func (l *logFile) fail(err error) {
	l.failed = true
	l.lost, l.buf = l.lost+bytes.Count(l.buf, []byte{'\n'}), nil
	l.broken(err)
}

// open creates the file with its directories, or goes on with one that exists; a line torn by a crash is ended first.
func (l *logFile) open() error {
	f, err := createLog(l.path)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(l.path), 0o755); err == nil {
			f, err = createLog(l.path)
		}
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if err := mendTail(f); err != nil {
		f.Close()
		return fmt.Errorf("open log %s: %w", l.path, err)
	}
	l.f = f
	return nil
}

// diskTrouble reports whether an error may go away when somebody makes room.
func diskTrouble(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func createLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
}

// mendTail ends a last line that has no newline.
func mendTail(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}
	return err
}

// Add adds one line.
func (l *logFile) Add(e entry) {
	e.text = l.mask(e.text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	switch e.stream {
	case streamSystem:
		l.release(everything)
	case streamLog:
		if len(l.order.waiting) >= mostWaiting { // a full disk holds up what they wait for, and so it does the task
			l.release(everything)
		} else if l.order.early(e) {
			l.order.waiting = append(l.order.waiting, e)
			l.arm()
			return
		}
	default:
		stream := streamIndex(e.stream)
		l.order.read[stream] = max(l.order.read[stream], e.from) // what comes before it is stored
		l.release(l.order.arrived)
		if l.order.holds(e) {
			l.order.waiting = append(l.order.waiting, e)
			l.arm()
			return
		}
		if len(l.order.waiting) >= mostWaiting {
			l.release(everything)
		}
	}
	l.store(e)
}

// store puts a line into the buffer, with the lock held.
func (l *logFile) store(e entry) {
	if l.failed {
		l.lost++
		return
	}
	if l.limit > 0 && l.written+int64(len(l.buf)) > l.limit {
		if l.capped {
			return
		}
		l.capped = true
		e = entry{at: e.at, stream: streamSystem, level: "warning",
			text: fmt.Sprintf("the log reached its limit of %d bytes; what follows is not kept", l.limit)}
	}
	l.buf = l.order.put(l.buf, e)
	if len(l.buf) >= logBuffer && e.stream != streamSystem {
		l.flush()
		return
	}
	if !l.busy {
		l.arm()
	}
}

// release stores the records that wait and that pass, in their order.
func (l *logFile) release(passes func(entry) bool) {
	for len(l.order.waiting) > 0 && passes(l.order.waiting[0]) {
		e := l.order.waiting[0]
		l.order.waiting = l.order.waiting[1:]
		l.store(e)
	}
}

func everything(entry) bool { return true }

// Reached notes how much of a stream has been read and stored.
func (l *logFile) Reached(stream string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order.read[streamIndex(stream)] = bytes
	if !l.closed {
		l.release(l.order.arrived)
	}
}

// arm has what waits written in a moment.
func (l *logFile) arm() {
	if l.armed {
		return
	}
	l.armed = true
	if l.timer == nil {
		l.timer = time.AfterFunc(logDelay, l.Flush)
	} else {
		l.timer.Reset(logDelay)
	}
}

// System adds a line of the worker's own.
func (l *logFile) System(level, format string, args ...any) {
	l.Add(entry{at: time.Now(), stream: streamSystem, level: level, text: fmt.Sprintf(format, args...)})
}

// Flush writes what waits.
func (l *logFile) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.closed || l.busy {
		return
	}
	l.release(l.order.overdue)
	l.flush()
}

// flush writes the buffer out. It is called with the lock held and gives it up only while it waits for the disk; it keeps
// trying until it succeeds or the worker ends, and then counts what is lost.
func (l *logFile) flush() {
	for l.busy {
		l.idle.Wait()
	}
	l.busy = true
	defer func() {
		l.busy = false
		l.idle.Broadcast()
		if len(l.order.waiting) > 0 {
			l.arm()
		}
	}()
	wait := 50 * time.Millisecond
	for told := false; len(l.buf) > 0; {
		n, err := l.put(l.buf)
		l.written += int64(n)
		l.buf = l.buf[:copy(l.buf, l.buf[n:])]
		if err == nil {
			continue
		}
		if l.f == nil && !diskTrouble(err) {
			l.fail(err)
			return
		}
		if !told {
			told = true
			l.logger.Error("cannot write a task's log; waiting", "path", l.path, "err", err)
		}
		if !l.pause(wait) {
			l.lost += bytes.Count(l.buf, []byte{'\n'})
			l.buf = nil
			return
		}
		wait = min(2*wait, 2*time.Second)
	}
	if cap(l.buf) > 2*logBuffer {
		l.buf = nil
	}
}

// pause waits without the lock; false when the worker ends.
func (l *logFile) pause(d time.Duration) bool {
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-l.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (l *logFile) write(p []byte) (int, error) {
	if l.f == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	return l.f.Write(p)
}

// Waiting reports whether the log is being written, perhaps held up by the disk.
func (l *logFile) Waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}

// Lost is how many lines the disk did not take; it is final after Close.
func (l *logFile) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Close writes what waits and closes the file.
func (l *logFile) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.release(everything)
	l.flush()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.f != nil {
		l.f.Close()
	}
	if l.lost > 0 {
		l.logger.Error("lines of a task's log are lost: the disk did not take them before the worker ended", "path", l.path, "lines", l.lost)
	}
}

// Copy reads a stream to its end and adds it line by line.
func (l *logFile) Copy(r io.Reader, stream string) (n int64) {
	c := lineCutter{log: l, stream: stream}
	buf := make([]byte, 16<<10)
	for {
		got, err := r.Read(buf)
		n += int64(got)
		c.write(buf[:got])
		c.log.Reached(stream, n)
		if got == len(buf) && len(buf) < 256<<10 {
			buf = make([]byte, 4*len(buf)) // a busy stream earns larger reads
		}
		if err != nil {
			c.end()
			return n
		}
	}
}

// A lineCutter cuts a stream into lines.
type lineCutter struct {
	log    *logFile
	stream string
	from   int64  // where in the stream the next line begins
	rest   []byte // the beginning of a line whose end has not come
	seam   bool   // rest goes on a line that was cut
}

func (c *lineCutter) write(p []byte) { c.writeAt(time.Now(), p) }

func (c *lineCutter) writeAt(now time.Time, p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.rest = append(c.rest, p...)
			c.cut(now)
			return
		}
		line := p[:i]
		if len(c.rest) > 0 {
			c.rest = append(c.rest, line...)
			c.cut(now)
			line = c.rest
		}
		p = p[i+1:]
		if len(line) > maxLine { // arrived in one read
			c.rest = append(c.rest[:0], line...)
			c.cutTo(now, maxLine)
			line = c.rest
		}
		c.emit(now, line, false)
		c.rest, c.seam = c.rest[:0], false
	}
}

// cut sheds whole pieces while more than a piece and its look-ahead are there.
func (c *lineCutter) cut(now time.Time) { c.cutTo(now, maxLine+overlap) }

func (c *lineCutter) cutTo(now time.Time, keep int) {
	for len(c.rest) > keep {
		at := c.seamAt(maxLine)
		c.emit(now, c.rest[:at], true)
		c.rest = c.rest[:copy(c.rest, c.rest[at:])]
		c.seam = true
	}
}

// seamAt finds a place at or before want where neither a character nor a secret is cut in two: masking both halves must
// give what masking the whole gives.
func (c *lineCutter) seamAt(want int) int {
	for try, at := 0, want; try < 32 && at > 0; try, at = try+1, at-257 {
		for at > want-4 && at > 0 && !utf8.RuneStart(c.rest[at]) {
			at--
		}
		from, to := max(0, at-overlap), min(len(c.rest), at+overlap)
		mask := c.log.mask
		if mask(string(c.rest[from:at]))+mask(string(c.rest[at:to])) == mask(string(c.rest[from:to])) {
			return at
		}
	}
	return want
}

func (c *lineCutter) emit(now time.Time, line []byte, more bool) {
	from := c.from
	c.from += int64(len(line))
	if !more {
		c.from++ // the newline
	}
	if n := len(line); !more && n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	text := string(line)
	if c.seam {
		text = "…" + text
	}
	if more {
		text += "…"
	}
	c.log.Add(entry{at: now, stream: c.stream, level: "info", text: text, from: from}) // much that is no error goes to stderr: progress bars, warnings, logs
}

// end adds a last line without a newline.
func (c *lineCutter) end() {
	if len(c.rest) > 0 {
		c.cutTo(time.Now(), maxLine)
		c.emit(time.Now(), c.rest, false)
		c.rest = nil
	}
}

// appendLine appends one JSON line. It is written by hand because a task that prints a gigabyte passes through here.
func appendLine(dst []byte, at time.Time, stream, level, text, name string) []byte {
	dst = append(dst, `{"t":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","s":"`...)
	dst = append(dst, stream...)
	dst = append(dst, `","l":`...)
	dst = appendString(dst, level)
	dst = append(dst, `,"m":`...)
	dst = appendString(dst, text)
	if name != "" {
		dst = append(dst, `,"n":`...)
		dst = appendString(dst, name)
	}
	return append(dst, '}', '\n')
}

// appendString appends s as a JSON string; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= 0x20 && b != '"' && b != '\\' && b != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '"', '\\':
				dst = append(dst, '\\', b)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "�"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
