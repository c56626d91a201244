package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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
