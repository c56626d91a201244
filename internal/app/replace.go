package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ErrNoServer: no server runs on the home folder.
var ErrNoServer = errors.New("no server runs")

// ErrNoAnswer: a server runs and does not do what it is asked in time.
var ErrNoAnswer = errors.New("the server does not answer")

// Replaced says which server handed over to this one. PID 0: there was none.
type Replaced struct {
	PID     int
	Version string
	// Left is how many running tasks it left with the worker.
	Left int
}

// Replaced is the server that handed over to this one; nil when Options did not ask for it.
func (a *App) Replaced() *Replaced { return a.replaced }

// Stopped is what a server said that was asked to stop.
type Stopped struct {
	PID     int
	Version string
	Said    []string
	Left    int
}

// StopServer asks the server of a home to stop and waits until it has. waits is told, once, why that cannot begin yet.
func StopServer(ctx context.Context, folder string, mode StopMode, waits func(why string)) (Stopped, error) {
	c, err := dialControl(ctx, home(folder), waits)
	if err != nil {
		return Stopped{}, err
	}
	defer c.Close()
	said, files, err := c.stop(ctx, stopQuestion{Type: "Stop", KeepTasks: mode == KeepTasks})
	closeAll(files)
	return said, err
}

// replace has the server that runs on the home hand over, and takes home and port. Whatever can be known to fail is found
// out before the other server is asked.
func (a *App) replace() error {
	a.replaced = &Replaced{}
	ctx := context.Background() // each server that is asked says itself how long it takes
	if err := a.home.ownedBy(os.Geteuid()); err != nil {
		return err
	}
	for range replaceTries {
		lock, err := a.home.lock()
		if err == nil {
			a.lock = lock
			break
		}
		if !errors.Is(err, ErrHomeInUse) {
			return err
		}
		if err := a.askToHandOver(ctx); err != nil {
			return err
		}
	}
	if a.lock == nil {
		return fmt.Errorf("take over %s: %w", a.home, ErrHomeInUse)
	}
	if a.listener != nil {
		return nil
	}
	return a.listenAfter()
}

// replaceTries is how many servers, one after the other, may come up in the way of one that is to take over.
const replaceTries = 10

// listenAfter takes the port as soon as the server before has let go of it.
func (a *App) listenAfter() (err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(dialPatience); ; <-tick.C {
		a.listener, err = listen(a.cfg.Host, a.cfg.Port)
		if !errors.Is(err, ErrPortInUse) || a.replaced.PID == 0 || time.Now().After(deadline) {
			return err
		}
	}
}

// askToHandOver asks the server that runs, once.
func (a *App) askToHandOver(ctx context.Context) error {
	c, err := dialControl(ctx, a.home, func(why string) { a.log.Info("the running server does not hand over yet", "why", why) })
	if errors.Is(err, ErrNoServer) { // it has just ended
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if a.listener == nil {
		if err := a.reservePort(c.pid); err != nil {
			return err
		}
	}
	a.log.Info("the running server is asked to hand over", "pid", c.pid)
	said, files, err := c.stop(ctx, stopQuestion{Type: "Stop", KeepTasks: true, Successor: os.Getpid()})
	defer closeAll(files)
	if err != nil {
		return err
	}
	*a.replaced = Replaced{PID: said.PID, Version: said.Version, Left: said.Left}
	if a.listener == nil && len(files) > 0 {
		a.listener = a.inherit(files[0])
	}
	return nil
}

// reservePort takes the port while the other server still runs, unless that server itself has it.
func (a *App) reservePort(pid int) error {
	l, err := listen(a.cfg.Host, a.cfg.Port)
	if errors.Is(err, ErrPortInUse) && pid != 0 && listensOn(pid, a.cfg.Port) {
		return nil // it comes with the hand-over
	}
	a.listener = l
	return err
}

// inherit makes the socket of the other server ours if it is the one this server is to listen on.
func (a *App) inherit(file *os.File) net.Listener {
	l, err := net.FileListener(file)
	if err != nil {
		a.log.Warn("the other server's listening socket cannot be used", "error", err)
		return nil
	}
	want, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(a.cfg.Host, strconv.Itoa(a.cfg.Port)))
	have, ok := l.Addr().(*net.TCPAddr)
	if err == nil && ok && have.Port == want.Port && (have.IP.Equal(want.IP) || have.IP.IsUnspecified() && (want.IP == nil || want.IP.IsUnspecified())) {
		return l
	}
	_ = l.Close()
	return nil
}

// afterReplacing adds to the error of a start what became of the server before it.
func (a *App) afterReplacing(err error) error {
	if a.replaced == nil || a.replaced.PID == 0 {
		return err
	}
	return fmt.Errorf("%w (the server before, process %d, has handed over and ended; the worker goes on with its tasks: put this right and start again)",
		err, a.replaced.PID)
}

// ownedBy refuses a home that another user's server has run on: files that a second user writes there shut the first out.
func (h home) ownedBy(uid int) error {
	info, err := os.Stat(h.path("run", "server.lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the home folder: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
		return fmt.Errorf("take over %s: its server runs as user %d and this one as user %d; start it as that user: %w", h, st.Uid, uid, fs.ErrPermission)
	}
	return nil
}

// controlConn is a conversation with a server that runs.
type controlConn struct {
	*net.UnixConn
	home  home
	pid   int
	held  int // the process that held the home when this conversation began, by its own account
	waits func(why string)
}

// dialPatience is how long a server may hold the home before its socket is there.
const dialPatience = 3 * time.Second

// dialControl connects to the server of a home. waits is told, once, why a stop cannot begin yet.
func dialControl(ctx context.Context, h home, waits func(why string)) (*controlConn, error) {
	path := controlPath(h)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(dialPatience)
	defer patience.Stop()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			u := c.(*net.UnixConn)
			held, _ := h.server()
			return &controlConn{UnixConn: u, home: h, pid: peerPID(u), held: held, waits: waits}, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("ask the server of %s to stop: %w", h, err)
		}
		pid, serves := h.server()
		if !serves {
			return nil, fmt.Errorf("%w on %s", ErrNoServer, h)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience.C:
			return nil, noAnswer(h, pid, fmt.Errorf("connect: %w", err))
		}
	}
}

// server is the process that holds the home's lock.
func (h home) server() (pid int, serves bool) {
	f, err := os.Open(h.path("run", "server.lock"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return lockedBy(f), errors.Is(err, syscall.EWOULDBLOCK)
}

// noAnswer says what can be done about a server that does not do what it is asked.
func noAnswer(h home, pid int, cause error) error {
	who, kill := "it", ""
	if pid > 0 {
		who, kill = fmt.Sprintf("process %d", pid), fmt.Sprintf("; or end it with kill -9 %d: its tasks go on with the worker, and the next server adopts them", pid)
	}
	return fmt.Errorf("%w: %s serves %s and does not do what it is asked (%w); see what it says, and try again%s", ErrNoAnswer, who, h, cause, kill)
}

// stop asks, and waits for the last answer.
func (c *controlConn) stop(ctx context.Context, q stopQuestion) (Stopped, []*os.File, error) {
	ended := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer ended()
	lines := lineReader{conn: c.UnixConn}
	fail := func(err error) (Stopped, []*os.File, error) {
		closeAll(lines.files)
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Stopped{}, nil, ctx.Err()
		}
		if c.gone() {
			return Stopped{PID: c.pid}, nil, nil
		}
		return Stopped{}, nil, noAnswer(c.home, c.pid, err)
	}
	question, err := json.Marshal(q)
	if err != nil {
		return Stopped{}, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(answerPatience))
	if _, err := c.Write(append(question, '\n')); err != nil {
		return fail(err)
	}
	waited := false
	for {
		var answer stopAnswer
		if err := lines.next(&answer); err != nil {
			return fail(err)
		}
		patience := answerPatience
		switch answer.Type {
		case "Starting":
			if !waited {
				c.waits(fmt.Sprintf("process %d serves %s: %s", answer.PID, c.home, answer.Problem))
			}
			waited = true
		case "Stopping":
			patience += time.Duration(answer.WithinSeconds * float64(time.Second))
		case "Stopped":
			return Stopped{PID: answer.PID, Version: answer.Version, Said: answer.Said, Left: answer.Left}, lines.files, nil
		default:
			return fail(errors.New(answer.Problem))
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if ctx.Err() != nil { // its end may have come just before
			return fail(ctx.Err())
		}
	}
}

// gone reports whether the server that was asked has ended without a word: it was killed, or is of a build that closes
// first. Another one may have taken the home meanwhile.
func (c *controlConn) gone() bool {
	pid, serves := c.home.server()
	return !serves || pid != c.held || c.pid > 0 && errors.Is(syscall.Kill(c.pid, 0), syscall.ESRCH)
}

// peerPID is the process that listens on the other side; 0 when the system does not say.
func peerPID(c *net.UnixConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
