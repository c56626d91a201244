package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/worker"
)

// A server listens on HOME/run/server.sock for whoever asks it to stop: the next server, which takes its place, or
// `ostro stop`. The socket is open to the home's owner only, and answers from the moment the home is taken. One question, then
// answers, each a line of JSON: while the server is starting, every moment that it is; that the stop has begun; and, when it
// is complete, what was done. A server that is replaced sends its listening socket along, so that clients who connect
// meanwhile wait for the next server instead of being refused.

// controlLine bounds a line of the conversation.
const controlLine = 64 << 10

// stopQuestion asks a server to stop.
type stopQuestion struct {
	Type      string `json:"type"` // "Stop"
	KeepTasks bool   `json:"keep_tasks"`
	// Successor is the process id of the server that takes over; 0 for none.
	Successor int `json:"successor,omitempty"`
}

// stopAnswer is "Starting" as long as the server has not come up, then "Stopping", then "Stopped"; or else "Refused".
type stopAnswer struct {
	Type    string `json:"type"`
	PID     int    `json:"pid"`
	Version string `json:"version,omitempty"`
	// WithinSeconds is how long the stop takes at most.
	WithinSeconds float64 `json:"within_seconds,omitempty"`
	// Said is what was done, in words; Left how many tasks were left running.
	Said []string `json:"said,omitempty"`
	Left int      `json:"left,omitempty"`
	// Problem is what went wrong.
	Problem string `json:"problem,omitempty"`
}

func controlPath(h home) string { return h.path("run", "server.sock") }

// listenControl opens the socket; whoever calls it holds the home's lock, so a file that is there is a dead server's.
func listenControl(h home) (*net.UnixListener, error) {
	l, err := worker.Listen(controlPath(h))
	if err != nil {
		return nil, fmt.Errorf("open the socket for those who ask this server to stop: %w", err)
	}
	return l, nil
}

// serveControl answers those who ask for a stop until the socket is closed. The function it returns waits for the last
// answer, which is given when a.stopped is closed.
func (a *App) serveControl() (wait func()) {
	var serving sync.WaitGroup
	listener := a.control
	serving.Go(func() {
		for {
			c, err := listener.AcceptUnix()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					a.log.Error("nobody can ask this server to stop any more but by a signal", "error", err)
				}
				return
			}
			serving.Go(func() { a.answerStop(c) })
		}
	})
	return serving.Wait
}

const (
	// answerPatience is how long the other side may take to write or read a line.
	answerPatience = 5 * time.Second
	// startingPause is how often a server that is starting says so to who waits for its stop.
	startingPause = time.Second
)

// answerStop takes the question of one connection and answers it.
func (a *App) answerStop(c *net.UnixConn) {
	defer c.Close()
	q, err := a.question(c)
	if err != nil {
		return // nobody asked anything
	}
	answer := stopAnswer{PID: os.Getpid(), Version: a.opts.Version}
	if q.Type != "Stop" {
		answer.Type, answer.Problem = "Refused", fmt.Sprintf("this server (%s) does not know the request %q", a.opts.Version, q.Type)
		_ = a.tell(c, answer, nil) // who asks in vain may be gone
		return
	}
	if err := a.awaitStart(c, answer); err != nil {
		a.log.Warn("who asked this server to stop did not wait until it had come up: it goes on", "error", err)
		return
	}
	order := stopOrder{mode: EndTasks}
	if q.KeepTasks {
		order = stopOrder{mode: KeepTasks, successor: q.Successor, socket: q.Successor != 0}
	}
	answer.Type, answer.WithinSeconds = "Stopping", a.limitOf(a.standing(order)).Seconds()
	if err := a.tell(c, answer, nil); err != nil {
		a.log.Warn("who asked this server to stop did not wait for the answer: it goes on", "error", err)
		return
	}
	if limit := a.limitOf(a.order(order)).Seconds(); limit != answer.WithinSeconds { // somebody was faster
		answer.WithinSeconds = limit
		_ = a.tell(c, answer, nil) // whether that has failed the last answer finds out
	}
	<-a.stopped
	answer.Type, answer.WithinSeconds, answer.Left = "Stopped", 0, a.report.left()
	answer.Said = append(a.report.Lines(), "Ostro "+a.report.String()+".")
	var socket *os.File
	if q.Successor != 0 && q.Successor == a.report.Successor {
		socket = a.socket
	}
	if err := a.tell(c, answer, socket); err != nil {
		a.log.Warn("who asked this server to stop is gone", "error", err)
	}
}

// awaitStart tells who asked for a stop that this server is starting, again and again, until it has come up or has failed to.
func (a *App) awaitStart(c *net.UnixConn, answer stopAnswer) error {
	answer.Type, answer.Problem = "Starting", "it is still starting (its database may be on the way to a newer version) and stops when it has come up"
	tick := time.NewTicker(startingPause)
	defer tick.Stop()
	for {
		select {
		case <-a.begun:
			return nil
		case <-a.stopped:
			return nil
		default:
		}
		if err := a.tell(c, answer, nil); err != nil {
			return err
		}
		select {
		case <-a.begun:
		case <-a.stopped:
		case <-tick.C:
		}
	}
}

// tell writes one answer, with a file if there is one.
func (a *App) tell(c *net.UnixConn, answer stopAnswer, file *os.File) error {
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	_ = c.SetWriteDeadline(time.Now().Add(answerPatience))
	_, _, err = c.WriteMsgUnix(append(line, '\n'), rights, nil)
	return err
}

// question reads what is asked; a server that has stopped waits for no question any more.
func (a *App) question(c *net.UnixConn) (q stopQuestion, err error) {
	_ = c.SetReadDeadline(time.Now().Add(answerPatience))
	read := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-a.stopped:
			_ = c.SetReadDeadline(time.Now())
		case <-read:
		}
	})
	lines := lineReader{conn: c}
	err = lines.next(&q)
	close(read)
	watching.Wait()
	closeAll(lines.files)
	return q, err
}

// keepSocket keeps the listening socket open for the successor when the HTTP server closes its own.
func (a *App) keepSocket() {
	l, ok := a.listener.(*net.TCPListener)
	if !ok {
		return
	}
	file, err := l.File()
	if err != nil {
		a.log.Warn("the listening socket cannot be handed over; clients are refused for a moment", "error", err)
		return
	}
	a.socket = file
}

// A lineReader reads lines of JSON, and files that come with them.
type lineReader struct {
	conn  *net.UnixConn
	buf   []byte
	files []*os.File
}

// next reads one line.
func (r *lineReader) next(v any) error {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line := r.buf[:i]
			r.buf = r.buf[i+1:]
			return json.Unmarshal(line, v)
		}
		if len(r.buf) > controlLine {
			return errors.New("the line is too long")
		}
		piece, rights := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4*4))
		n, oob, _, _, err := r.conn.ReadMsgUnix(piece, rights)
		r.files = append(r.files, receivedFiles(rights[:oob])...)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		r.buf = append(r.buf, piece[:n]...)
	}
}

// receivedFiles are the files in a control message.
func receivedFiles(oob []byte) (files []*os.File) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
