package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartProcess starts a worker program in its own session, so that neither the terminal's signals nor this process's end
// reach it, with its output appended to HOME/logs/worker.log. The channel is closed when it has ended.
func StartProcess(home, binary string, args ...string) (<-chan struct{}, error) {
	dir := filepath.Join(home, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	out, err := os.OpenFile(filepath.Join(dir, "worker.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	defer out.Close()
	cmd := exec.Command(binary, args...) //nolint:noctx // the worker outlives its server
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = home
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // why it ended stands in its log
		close(ended)
	}()
	return ended, nil
}

// A process is one that is not our child, as a worker is that another server has started.
type process struct{ fd int }

// watchProcess begins to watch a process; nil when the system cannot.
func watchProcess(pid int) *process {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it is gone, or the kernel is old
	}
	return &process{fd}
}

// close ends the watch.
func (p *process) close() {
	if p != nil {
		_ = unix.Close(p.fd)
	}
}

// gone waits until the process has ended, or until ctx ends.
func (p *process) gone(ctx context.Context) error {
	for p != nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 20)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return nil // what cannot be watched is not waited for
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
