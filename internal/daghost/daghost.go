// Package daghost runs the processes in which DAG files live: hosts, which import one file and fork a task process per
// attempt, and task processes started on their own (spawn mode).
//
// It promises that a process it started dies with this one, that a process tree it is told to kill is gone when the call
// returns, and that a host's end is noticed and explained. It must not know what an attempt's outcome means.
package daghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ostro.dev/ostro/protocol"
)

// Environment variables that tell a child where its channel is.
const (
	EnvHostFD = "OSTRO_HOST_FD"
	EnvTaskFD = "OSTRO_TASK_FD"
	// EnvKeeperFD is where the keeper of a spawned task reports.
	EnvKeeperFD = "OSTRO_KEEPER_FD"
)

// outputLimit bounds what is kept of a host's own output.
const outputLimit = 64 << 10

// Spec says how to start a host.
type Spec struct {
	// Interpreter is the Python executable, looked up in PATH when it is a bare name.
	Interpreter string
	// Runtime is the directory of the Python runtime; it goes first on the module search path.
	Runtime string
	Dir     string
	// Env is the complete environment but for what the host itself needs.
	Env []string
	// Ask answers what the file asks for while a host imports it; nil: nobody does. Its context ends with the host.
	Ask func(ctx context.Context, request json.RawMessage) (json.RawMessage, error)
	// Mask hears of values, read by the import, that must not appear in a log. It is called before Describe returns.
	Mask func(value string)
}

// A Host is one host process.
type Host struct {
	Hello protocol.Hello

	child  *Child
	conn   *protocol.Conn
	exited func(protocol.Exited)
	ask    func(ctx context.Context, request json.RawMessage) (json.RawMessage, error)
	mask   func(value string)
	out    *os.File
	output *tail
	reads  sync.WaitGroup

	killed  atomic.Bool // by this program
	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan protocol.Frame
	lost    bool
	asked   int // questions of the file that wait for an answer

	done chan struct{}
}

// Start starts a host and shakes hands. exited is called for every task process that has ended, from one goroutine, the
// last time before Done is closed.
func Start(ctx context.Context, l *Launcher, s Spec, exited func(protocol.Exited)) (*Host, error) {
	ours, theirs, err := protocol.SocketPair()
	if err != nil {
		return nil, err
	}
	outR, outW, err := Pipe()
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, fmt.Errorf("start DAG host: %w", err)
	}
	path, args := pythonCommand(s.Interpreter, "ostro.keeper")
	child, err := l.Start(Command{
		Path: path, Args: args, Dir: s.Dir,
		Env:    pythonEnv(s.Env, s.Runtime, EnvHostFD+"=3"),
		Stdout: outW, Stderr: outW, Inherit: []*os.File{theirs},
	})
	theirs.Close()
	outW.Close()
	if err != nil {
		ours.Close()
		outR.Close()
		return nil, fmt.Errorf("start DAG host: %w", err)
	}
	h := &Host{
		child: child, conn: protocol.NewConn(ours), exited: exited, ask: s.Ask, mask: s.Mask,
		out: outR, output: &tail{limit: outputLimit},
		waiting: map[uint64]chan protocol.Frame{}, done: make(chan struct{}),
	}
	h.reads.Go(func() { h.output.readFrom(outR) })
	hello := make(chan error, 1)
	go h.run(ours, outR, hello)

	select {
	case err = <-hello:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		h.Kill()
		<-h.done
		return nil, fmt.Errorf("start DAG host: %w", h.explain(err))
	}
	return h, nil
}

// pythonCommand finds the interpreter.
func pythonCommand(interpreter, module string) (path string, args []string) {
	path = interpreter
	if path == "" {
		path = "python3"
	}
	if !strings.Contains(path, "/") {
		for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
			if info, err := os.Stat(dir + "/" + path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
				path = dir + "/" + path
				break
			}
		}
	}
	return path, []string{path, "-u", "-m", module}
}

// pythonEnv puts the runtime first on Python's search path.
func pythonEnv(base []string, runtime string, more ...string) []string {
	env := slices.Clone(base)
	search := runtime
	for i, v := range env {
		if old, ok := strings.CutPrefix(v, "PYTHONPATH="); ok {
			if old != "" {
				search += ":" + old
			}
			env = slices.Delete(env, i, i+1)
			break
		}
	}
	env = append(env, "PYTHONPATH="+search)
	return append(env, more...)
}

// run reads the control channel until the host is gone, then cleans up.
func (h *Host) run(c *net.UnixConn, out *os.File, hello chan<- error) {
	err := h.greet()
	hello <- err
	if err == nil {
		h.read()
	} else {
		h.Kill()
	}
	// A host that closed its channel is of no use; it gets a moment to leave by itself.
	select {
	case <-h.child.Done:
	case <-time.After(2 * time.Second):
		h.Kill()
		<-h.child.Done
	}
	c.Close()
	h.mu.Lock()
	h.lost = true
	waiting := h.waiting
	h.waiting = nil
	h.mu.Unlock()
	for _, ch := range waiting {
		close(ch)
	}
	// A process that inherited the host's output may hold it open; what it writes is nobody's.
	_ = out.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	h.reads.Wait()
	out.Close()
	close(h.done)
}

func (h *Host) greet() error {
	f, err := h.conn.Read()
	if err != nil {
		return fmt.Errorf("%w without a greeting: %w", ErrHostGone, err)
	}
	hello, err := protocol.DecodeAs[protocol.Hello](f.Body, "Hello")
	if err != nil {
		return err
	}
	if hello.Protocol != protocol.Version {
		return fmt.Errorf("it speaks protocol %d, this program %d", hello.Protocol, protocol.Version)
	}
	h.Hello = *hello
	return h.conn.Notify(protocol.Welcome{Type: "Welcome", Protocol: protocol.Version})
}

func (h *Host) read() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		f, err := h.conn.Read()
		if err != nil {
			return
		}
		switch {
		case f.ID == 0:
			h.hear(f.Body)
		case isQuestion(f):
			h.question(ctx, f)
		default:
			h.mu.Lock()
			ch := h.waiting[f.ID]
			delete(h.waiting, f.ID)
			h.mu.Unlock()
			if ch != nil {
				ch <- f
			}
		}
	}
}

// openQuestions is how many questions of an imported file may wait for an answer.
const openQuestions = 256

// question has a question answered. The channel is read on whatever happens, since it also says that tasks have ended: a
// file that asks too much at once is refused.
func (h *Host) question(ctx context.Context, f protocol.Frame) {
	h.mu.Lock()
	full := h.asked >= openQuestions
	if !full {
		h.asked++
	}
	h.mu.Unlock()
	if full {
		_ = h.conn.Write(f.ID, nil, &protocol.Error{Code: protocol.CodeUnavailable,
			Message: fmt.Sprintf("the DAG file asks more than %d questions at once", openQuestions)})
		return
	}
	h.reads.Go(func() {
		h.reply(ctx, f)
		h.mu.Lock()
		h.asked--
		h.mu.Unlock()
	})
}

// isQuestion tells a request of the host from its answer to one of ours.
func isQuestion(f protocol.Frame) bool {
	const most = 64 << 10 // a question is a name; a description may be long, and is not read twice
	if f.Error != nil || len(f.Body) > most {
		return false
	}
	name, err := protocol.TypeOf(f.Body)
	return err == nil && (name == "MaskSecret" || protocol.IsRequest(name))
}

// hear takes a notification.
func (h *Host) hear(body json.RawMessage) {
	if e, err := protocol.DecodeAs[protocol.Exited](body, "Exited"); err == nil {
		h.exited(*e)
		return
	}
	if m, err := protocol.DecodeAs[protocol.MaskSecret](body, "MaskSecret"); err == nil && h.mask != nil {
		h.mask(m.Value)
	}
}

// reply answers what the imported file asks for. A host that is gone gets no answer.
func (h *Host) reply(ctx context.Context, f protocol.Frame) {
	if name, _ := protocol.TypeOf(f.Body); name == "MaskSecret" {
		h.hear(f.Body)
		_ = h.conn.Write(f.ID, protocol.OKResponse{Type: "OKResponse", OK: true}, nil)
		return
	}
	if h.ask == nil {
		_ = h.conn.Write(f.ID, nil, &protocol.Error{Code: protocol.CodeUnavailable, Message: "nobody answers a DAG file here"})
		return
	}
	answer, err := h.ask(ctx, f.Body)
	if ctx.Err() != nil {
		return
	}
	var refused *protocol.Error
	switch {
	case err == nil:
		_ = h.conn.Write(f.ID, answer, nil)
	case errors.As(err, &refused):
		_ = h.conn.Write(f.ID, nil, refused)
	default:
		_ = h.conn.Write(f.ID, nil, &protocol.Error{Code: protocol.CodeGeneric, Message: err.Error()})
	}
}

// ErrHostGone reports that the host ended before it answered.
var ErrHostGone = errors.New("the DAG host has ended")

func (h *Host) call(ctx context.Context, body any, files ...*os.File) (json.RawMessage, error) {
	ch := make(chan protocol.Frame, 1)
	h.mu.Lock()
	if h.lost {
		h.mu.Unlock()
		return nil, h.explain(ErrHostGone)
	}
	h.nextID++
	id := h.nextID
	h.waiting[id] = ch
	h.mu.Unlock()
	if err := h.conn.WriteFiles(id, body, nil, files...); err != nil {
		select {
		case <-h.done:
			return nil, h.explain(ErrHostGone)
		case <-time.After(3 * time.Second):
			return nil, err
		}
	}
	select {
	case f, ok := <-ch:
		if !ok {
			<-h.done
			return nil, h.explain(ErrHostGone)
		}
		if f.Error != nil {
			return nil, f.Error
		}
		return f.Body, nil
	case <-ctx.Done():
		h.mu.Lock()
		delete(h.waiting, id)
		h.mu.Unlock()
		return nil, ctx.Err()
	}
}

// Describe imports the file, the first time, and says what it declares.
func (h *Host) Describe(ctx context.Context, d protocol.Describe) (*protocol.Described, error) {
	d.Type = "Describe"
	body, err := h.call(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", d.File, err)
	}
	return protocol.DecodeAs[protocol.Described](body, "Described")
}

// Timetable asks the timetable of a DAG of the file.
func (h *Host) Timetable(ctx context.Context, q protocol.Timetable) (*protocol.TimetableAnswer, error) {
	q.Type = "Timetable"
	body, err := h.call(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("ask the timetable of %s: %w", q.DAGID, err)
	}
	return protocol.DecodeAs[protocol.TimetableAnswer](body, "TimetableAnswer")
}

// Fork makes a task process with the given task channel, stdout and stderr, which the caller closes. forkID is what its
// end is reported with; spare, that there is no task for it yet.
func (h *Host) Fork(ctx context.Context, forkID string, spare bool, channel, stdout, stderr *os.File) (pid int, err error) {
	request := protocol.Fork{Type: "Fork", ForkID: forkID, Spare: spare}
	body, err := h.call(ctx, request, channel, stdout, stderr)
	if err != nil {
		return 0, fmt.Errorf("fork a task process: %w", err)
	}
	f, err := protocol.DecodeAs[protocol.Forked](body, "Forked")
	if err != nil {
		return 0, err
	}
	return f.PID, nil
}

// Shutdown asks the host to end its tasks and itself, and waits; a host that does not is killed with its tree.
func (h *Host) Shutdown(grace time.Duration) {
	_ = h.conn.Notify(protocol.Shutdown{Type: "Shutdown", Grace: grace.Seconds()})
	select {
	case <-h.done:
	case <-time.After(grace + 2*time.Second):
		h.Kill()
		<-h.done
	}
}

// Kill kills the host with everything below it.
func (h *Host) Kill() {
	h.killed.Store(true)
	select {
	case <-h.child.Done:
	default:
		KillTree(h.child.PID)
	}
}

// PID is the host's process id. Its parent, the process that this program has started, keeps it (see python/ostro/keeper.py).
func (h *Host) PID() int { return h.Hello.PID }

// Done is closed when the host and its output are gone.
func (h *Host) Done() <-chan struct{} { return h.done }

// TakeOutput returns the output and forgets it. What the host printed before the answer it gave last is in it.
func (h *Host) TakeOutput() string {
	for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline) && Buffered(h.out) > 0; {
		time.Sleep(time.Millisecond)
	}
	return h.output.take()
}

// Buffered returns how many bytes wait in a pipe or socket to be read, 0 when it is closed.
func Buffered(c syscall.Conn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

// An EndError is what failed because the host had ended, with how it ended and what it printed last.
type EndError struct {
	Err    error
	Ending string
	Output string
	// Killed is true when somebody killed the host: it did not end of what it was running.
	Killed bool
}

// Error says what failed and why.
func (e *EndError) Error() string {
	if e.Output != "" {
		return fmt.Sprintf("%v (%s); it printed last: %s", e.Err, e.Ending, e.Output)
	}
	return fmt.Sprintf("%v (%s)", e.Err, e.Ending)
}

// Unwrap returns what failed.
func (e *EndError) Unwrap() error { return e.Err }

// explain adds how the process ended, if it has, to an error.
func (h *Host) explain(err error) error {
	select {
	case <-h.child.Done:
	default:
		return err
	}
	end := &EndError{Err: err, Ending: Ending(h.child.State), Output: lastLines(h.output.String(), 3)}
	if h.child.State != nil {
		if ws, ok := h.child.State.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			end.Killed = ws.Signal() == syscall.SIGKILL || ws.Signal() == syscall.SIGTERM
		}
	}
	return end
}

// Ending says how the host ended; it must be gone.
func (h *Host) Ending() string { return Ending(h.child.State) }

// Left reports that the host, which must be gone, ended by itself and in order.
func (h *Host) Left() bool { return h.child.State != nil && h.child.State.Success() }

// Killed reports that this program killed it, or tried to.
func (h *Host) Killed() bool { return h.killed.Load() }

// Ending says in words how a process ended.
func Ending(s *os.ProcessState) string {
	if s == nil {
		return "its end was not seen"
	}
	ws, ok := s.Sys().(syscall.WaitStatus)
	if !ok {
		return s.String()
	}
	return EndingOf(ws)
}

// EndingOf says in words what a wait status means.
func EndingOf(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "killed by " + SignalName(ws.Signal())
	}
	return fmt.Sprintf("exit code %d", ws.ExitStatus())
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// tail keeps the end of what is written, limit bytes of it.
type tail struct {
	limit int

	mu      sync.Mutex
	data    []byte
	skipped bool
}

func (t *tail) readFrom(f *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		t.mu.Lock()
		t.data = append(t.data, buf[:n]...)
		if over := len(t.data) - t.limit; over > 0 {
			t.data = slices.Delete(t.data, 0, over)
			t.skipped = true
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.skipped {
		return "…" + strings.ToValidUTF8(string(t.data), "�")
	}
	return strings.ToValidUTF8(string(t.data), "�")
}

func (t *tail) take() string {
	s := t.String()
	t.mu.Lock()
	t.data, t.skipped = nil, false
	t.mu.Unlock()
	return s
}
