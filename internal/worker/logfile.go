package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	// maxRecord is that of a record, which may have many lines. As JSON it is at most six times as long, which readers take.
	maxRecord = 512 << 10
	// overlap is how far beyond maxLine a reader looks, so that a secret across the seam is masked as one.
	overlap = 4 << 10
	// logBuffer is how much of a log waits for the disk; a writer that is faster waits with it.
	logBuffer = 256 << 10
	// reviewDelay is how often it is looked again at what a record waits for that has come too early.
	reviewDelay = 2 * time.Millisecond
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
	hides  func(text []byte) int // how many bytes at the end of a text may be the beginning of what mask hides
	limit  int64                 // bytes; 0 none
	logger *slog.Logger
	ctx    context.Context           // its end gives up waiting for a disk
	put    func([]byte) (int, error) // writes to the file; tests fill the disk here
	broken func(error)               // called once when the file cannot be made and room on the disk would not help
	// refused is called when the disk does not take what waits, and with nil when it has, or when nothing waits any more.
	refused func(error)

	path string

	mu      sync.Mutex
	f       *os.File // nil until there is something to write, and while the disk has no room for it
	failed  bool     // broken was called; what comes is lost
	buf     []byte
	last    time.Time // of the last line
	order   order     // in which lines come into buf
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
	l := &logFile{mask: mask, limit: limit, logger: logger, ctx: ctx, path: path, broken: func(error) {}, refused: func(error) {},
		hides: func([]byte) int { return 0 }}
	l.idle = sync.NewCond(&l.mu)
	l.put = l.write
	l.order.begin(l)
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

// Add adds a line that is printed nowhere: the worker's own at once, a record where the task made it. One that is longer
// than a reader takes is cut into several.
func (l *logFile) Add(e entry) {
	rest, begin := l.mask(e.text), ""
	for len(rest) > maxRecord {
		at := maxRecord
		for !utf8.RuneStart(rest[at]) && at > maxRecord-utf8.UTFMax {
			at--
		}
		e.text = begin + rest[:at] + "…"
		l.add(e)
		rest, begin = rest[at:], "…"
	}
	e.text = begin + rest
	l.add(e)
}

func (l *logFile) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.stream == streamLog {
		l.order.admit(&e)
	} else {
		l.store(e)
	}
}

// store puts a line into the buffer, with the lock held.
func (l *logFile) store(e entry) {
	if l.closed {
		return
	}
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
	if e.at.After(l.last) {
		l.last = e.at
	}
	l.buf = appendLine(l.buf, l.last, e.stream, e.level, e.text, e.name)
	if len(l.buf) >= logBuffer && e.stream != streamSystem {
		l.flush()
		return
	}
	if !l.busy {
		l.arm(0)
	}
}

// arm has what waits written after a delay, by somebody else: whoever has a line must not wait for the disk. There is no
// delay for a line, which is lost when the worker is killed; those that come until it is written go with it.
func (l *logFile) arm(delay time.Duration) {
	if l.armed {
		return
	}
	l.armed = true
	if l.timer == nil {
		l.timer = time.AfterFunc(delay, l.Flush)
	} else {
		l.timer.Reset(delay)
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
	l.order.review()
	l.flush()
}

// flush writes the buffer out. It is called with the lock held and gives it up only while it waits for the disk; it keeps
// trying until it succeeds or the worker ends, and then counts what is lost.
func (l *logFile) flush() {
	for l.busy {
		l.idle.Wait()
	}
	l.busy = true
	told := false
	defer func() {
		l.busy = false
		if told {
			l.refused(nil)
		}
		l.idle.Broadcast()
		if l.order.early != nil {
			l.arm(reviewDelay)
		}
	}()
	wait := 50 * time.Millisecond
	for len(l.buf) > 0 {
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
			l.refused(err)
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
	l.flush()
	l.closed = true
	l.order.turn.Broadcast()
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
