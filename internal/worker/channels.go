package worker

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ostro.dev/ostro/protocol"
)

// channels are the ends of a task's pipes and task channel: ours, and theirs until the process has them.
type channels struct {
	task      *net.UnixConn
	out, err  *pipe
	childTask *os.File
	childOut  *os.File
	childErr  *os.File
	ear       *ear
	conn      *protocol.Conn
	writing   sync.WaitGroup // the first message, where that takes longer
	lost      atomic.Bool    // the process ended before it had read all of the first message
}

func openChannels() (*channels, error) {
	var c channels
	var err error
	if c.task, c.childTask, err = protocol.SocketPair(); err != nil {
		return nil, err
	}
	if c.out, c.childOut, err = openPipe(); err == nil {
		c.err, c.childErr, err = openPipe()
	}
	if err == nil {
		c.ear, err = newEar(c.task)
	}
	if err != nil {
		c.closeTheirs()
		c.closeOurs()
		return nil, err
	}
	c.conn = protocol.NewConn(c.ear)
	return &c, nil
}

func (c *channels) closeTheirs() {
	for _, f := range []*os.File{c.childTask, c.childOut, c.childErr} {
		if f != nil {
			f.Close()
		}
	}
}

func (c *channels) closeOurs() {
	c.task.Close()
	for _, p := range []*pipe{c.out, c.err} {
		if p != nil {
			p.Close()
		}
	}
}

// roomy is how long a message certainly fits into the buffer of a new socket.
const roomy = 32 << 10

// order sends the first message: what the process is to run. It waits in the socket for the process to come; one too large
// for that is written beside, as it is read, until our end is closed. An error says that the process is gone.
func (c *channels) order(frame []byte) error {
	if len(frame) <= roomy {
		return c.write(frame)
	}
	c.writing.Go(func() { _ = c.write(frame) })
	return nil
}

func (c *channels) write(frame []byte) error {
	_, err := c.task.Write(frame)
	if err != nil {
		c.lost.Store(true)
	}
	return err
}

// unread says of a process that is gone, and of whose channel all was read, whether it has not read all of the first
// message, and so cannot have begun what it says. The kernel knows: it resets a channel that is closed with something in
// it, which whoever reads the other end, or writes into it, is told.
func (c *channels) unread() bool {
	_ = c.task.SetWriteDeadline(time.Now()) // a process that the task has left behind may hold the channel, and not read it
	c.writing.Wait()
	return c.lost.Load()
}
