package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/workerapi"
)

// ErrRunning says that the home has its worker already.
var ErrRunning = errors.New("another worker is running for this home")

func lockPath(home string) string { return filepath.Join(home, "run", "worker.lock") }

// lock makes this process the one worker of the home until the file is closed or the process ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, ErrRunning)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// sign writes into the lock file which process holds it. What is there is written over, which takes no room on a disk.
func sign(f *os.File) error {
	id, err := daghost.Identify(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(append(data, '\n'), 0); err != nil {
		return fmt.Errorf("record the worker's process: %w", err)
	}
	return f.Truncate(int64(len(data) + 1))
}

// Find returns the process that is the worker of a home, as it has recorded itself; false when none runs.
func Find(home string) (daghost.ProcessID, bool) {
	var id daghost.ProcessID
	data, err := os.ReadFile(lockPath(home))
	if err != nil || json.Unmarshal(data, &id) != nil {
		return daghost.ProcessID{}, false
	}
	return id, id.Alive()
}

// Running are the attempts that the worker of a home has, by its records. One that is just being started may be missing.
func Running(home string) []string { return newRecords(filepath.Join(home, "run")).ids() }

// killLimit is how long a process may take to be gone after SIGKILL.
const killLimit = 5 * time.Second

// End ends the worker of a home from outside, for a server that cannot speak to it: SIGTERM, which has it end its tasks
// in order, and when it has not ended after the grace period and a little, or when ctx ends, SIGKILL. Then everything that
// it left behind is killed as its successor would do it. It says which attempts were running; nil when there was no worker.
// An error says what is left.
func End(ctx context.Context, home string, grace time.Duration, logger *slog.Logger) (*workerapi.Stopped, error) {
	f, id, err := takeLock(ctx, home)
	switch {
	case errors.Is(err, os.ErrNotExist): // no worker has ever been here
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("end the worker: %w", err)
	case f != nil:
		return nil, clearUnder(f, home, logger)
	}
	running := Running(home)
	done := workerapi.Stopped{Type: "Stopped", Ended: running}
	_ = id.Signal(syscall.SIGTERM)
	_ = id.Signal(syscall.SIGCONT) // one that is stopped does not hear the other
	if !gone(ctx, id, grace+endSlack+time.Second) {
		logger.Warn("the worker does not end; it is killed with its tasks", "pid", id.PID)
		_ = id.Signal(syscall.SIGKILL)
		done.Ended, done.Killed = nil, running
		if !gone(context.WithoutCancel(ctx), id, killLimit) {
			return nil, fmt.Errorf("end the worker: process %d is still there %v after SIGKILL; it and its tasks %v are left", id.PID, killLimit, running)
		}
	}
	return &done, clearAfter(context.WithoutCancel(ctx), home, logger)
}

// takeLock takes the home's lock, or returns the process that has it. It waits while nobody can be seen to have it: a worker
// takes the lock first and then says who it is, and the threads of a killed one may keep it for a moment longer than the
// process can be seen.
func takeLock(ctx context.Context, home string) (*os.File, daghost.ProcessID, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(killLimit); ; {
		f, err := lock(lockPath(home))
		if !errors.Is(err, ErrRunning) {
			return f, daghost.ProcessID{}, err
		}
		if id, ok := Find(home); ok {
			return nil, id, nil
		}
		select {
		case <-tick.C:
			if time.Now().Before(deadline) {
				continue
			}
		case <-ctx.Done():
		}
		return nil, daghost.ProcessID{}, unsigned(lockPath(home))
	}
}

// unsigned is the error about a lock whose holder does not say who it is.
type unsigned string

func (path unsigned) Error() string {
	return fmt.Sprintf("a process holds %s and has not written which one it is; end it by hand", string(path))
}

// gone waits until a process has ended.
func gone(ctx context.Context, id daghost.ProcessID, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for id.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return !id.Alive()
		}
	}
	return true
}

// clearAfter ends what a worker that is gone has left behind; when another worker runs it is that one's business.
func clearAfter(ctx context.Context, home string, logger *slog.Logger) error {
	f, _, err := takeLock(ctx, home)
	var held unsigned
	switch {
	case errors.As(err, &held), errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case f == nil:
		return nil
	}
	return clearUnder(f, home, logger)
}

// clearUnder does so with the home's lock in f, and gives it back.
func clearUnder(f *os.File, home string, logger *slog.Logger) error {
	defer f.Close()
	r := newRecords(filepath.Join(home, "run"))
	defer r.journal.close()
	if err := r.clearPredecessor(home, "", logger); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear what the worker left: %w", err)
	}
	return nil
}

// ids returns the attempts whose processes are recorded.
func (r records) ids() []string {
	data, _ := os.ReadFile(r.journal.path) // a live worker's: only looked at
	entries, _ := parseJournal(data)
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, e.id)
	}
	return ids
}
