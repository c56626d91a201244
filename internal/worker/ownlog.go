package worker

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ownLogLimit is when the worker's own log is put aside; one old file is kept.
const ownLogLimit = 16 << 20

// OwnLog is what the worker of a home itself says; OwnLog+".1" is what it said before.
func OwnLog(home string) string { return filepath.Join(home, "logs", "worker.log") }

// boundOwnLog begins a new log when the one that this process's standard error goes to has grown too large. Both standard
// streams change over at once, so that nothing is lost, also no panic of the runtime. Output that goes elsewhere (a
// terminal, a service manager) is left alone.
func boundOwnLog(home string, limit int64, descriptors ...int) error {
	path := OwnLog(home)
	there, err := os.Stat(path)
	if err != nil || there.Size() <= limit {
		return nil // no such file: the output goes elsewhere
	}
	var ours []int
	for _, fd := range descriptors {
		var s, t unix.Stat_t
		if unix.Fstat(fd, &s) == nil && unix.Stat(path, &t) == nil && s.Dev == t.Dev && s.Ino == t.Ino {
			ours = append(ours, fd)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	if err := os.Rename(path, path+".1"); err != nil {
		return fmt.Errorf("put the worker's log aside: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin a new worker's log: %w", err)
	}
	defer f.Close()
	for _, fd := range ours {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("begin a new worker's log: %w", err)
		}
	}
	return nil
}
