package daghost

import (
	"bufio"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ostro.dev/ostro/protocol"
)

// Spawn starts a task process on its own: it imports the file itself. channel, stdout and stderr become its task
// channel and streams; the caller closes its copies.
//
// What is started is the task's keeper, which forks the task: so the parent that a task sees, and may kill, is not this
// program. Signals to the keeper reach the task; neither outlives the other.
func Spawn(l *Launcher, s Spec, channel, stdout, stderr *os.File) (*Kept, error) {
	report, theirs, err := Pipe()
	if err != nil {
		return nil, err
	}
	path, args := pythonCommand(s.Interpreter, "ostro.task")
	child, err := l.Start(Command{
		Path: path, Args: args, Dir: s.Dir,
		Env:    pythonEnv(s.Env, s.Runtime, EnvTaskFD+"=3", EnvKeeperFD+"=4"),
		Stdout: stdout, Stderr: stderr, Inherit: []*os.File{channel, theirs},
	})
	theirs.Close()
	if err != nil {
		report.Close()
		return nil, err
	}
	k := &Kept{Child: child, report: report, read: make(chan struct{})}
	go k.listen()
	return k, nil
}

// A Kept is a spawned task process with its keeper, the Child.
type Kept struct {
	*Child
	report *os.File
	read   chan struct{} // closed when the report has been read
	task   atomic.Int64  // its process; 0: not known yet
	end    *protocol.Exited
}

// listen reads what the keeper reports: "started PID", and at the end "exited STATUS UTIME STIME MAXRSS ORPHANS", times in
// seconds and memory in KiB.
func (k *Kept) listen() {
	defer close(k.read)
	defer k.report.Close()
	for lines := bufio.NewScanner(k.report); lines.Scan(); {
		var pid int64
		var x protocol.Exited
		if n, _ := fmt.Sscanf(lines.Text(), "started %d", &pid); n == 1 {
			k.task.Store(pid)
		}
		if n, _ := fmt.Sscanf(lines.Text(), "exited %d %g %g %d %d", &x.Status, &x.UTime, &x.STime, &x.MaxRSS, &x.Orphans); n == 5 {
			x.MaxRSS <<= 10
			k.end = &x
		}
	}
}

// TaskPID is the task's process; 0 while it is not known.
func (k *Kept) TaskPID() int { return int(k.task.Load()) }

// Wait waits for the end and describes it as a host would. It is false when the keeper was gone before the task: what is
// described then is the keeper's end.
func (k *Kept) Wait() (protocol.Exited, bool) {
	<-k.Done
	_ = k.report.SetReadDeadline(time.Now().Add(time.Second)) // somebody may have got hold of the other end
	<-k.read
	if k.end == nil {
		return exitOf(k.Child), k.TaskPID() == 0
	}
	x := *k.end
	x.Type, x.PID = "Exited", k.TaskPID()
	return x, true
}

// Pipe returns a pipe whose read end suits this program and whose write end is in blocking mode, as a process expects of
// its stdout. (os.Pipe makes both ends non-blocking, and the mode travels with a passed descriptor.)
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("create pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("create pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// exitOf describes a reaped child as a host would.
func exitOf(c *Child) protocol.Exited {
	e := protocol.Exited{Type: "Exited", PID: c.PID, Status: -1}
	if c.State == nil {
		return e
	}
	if ws, ok := c.State.Sys().(syscall.WaitStatus); ok {
		e.Status = int(ws)
	}
	e.UTime, e.STime = c.State.UserTime().Seconds(), c.State.SystemTime().Seconds()
	if ru, ok := c.State.SysUsage().(*syscall.Rusage); ok && ru != nil {
		e.MaxRSS = ru.Maxrss << 10
	}
	return e
}

// SignalName returns SIGKILL for signal 9, and so on.
func SignalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
