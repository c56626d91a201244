package daghost

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ostro.dev/ostro/protocol"
)

// Spawn starts a task process on its own: it imports the file itself. channel, stdout and stderr become its task
// channel and streams; the caller closes its copies.
func Spawn(l *Launcher, s Spec, channel, stdout, stderr *os.File) (*Child, error) {
	path, args := pythonCommand(s.Interpreter, "ostro.task")
	return l.Start(Command{
		Path: path, Args: args, Dir: s.Dir,
		Env:    pythonEnv(s.Env, s.Runtime, EnvTaskFD+"=3"),
		Stdout: stdout, Stderr: stderr, Inherit: []*os.File{channel},
	})
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

// ExitOf describes a reaped child as a host would.
func ExitOf(attemptID string, c *Child) protocol.Exited {
	e := protocol.Exited{Type: "Exited", AttemptID: attemptID, PID: c.PID, Status: -1}
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
