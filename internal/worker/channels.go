package worker

import (
	"net"
	"os"

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
// for that is written beside, as it is read, until our end is closed. An error says that a process that was ready before
// is gone; of one that is yet to come an error says nothing new: it has ended, or will be seen to hang.
func (c *channels) order(frame []byte, beside func(func())) error {
	if len(frame) <= roomy {
		_, err := c.task.Write(frame)
		return err
	}
	beside(func() { _, _ = c.task.Write(frame) })
	return nil
}
