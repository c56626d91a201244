package worker

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"ostro.dev/ostro/internal/workerapi"
)

// A diskWatch knows what of the worker's the disk refuses to take now, and has the server told: tasks wait for it, and
// whoever asks why must not have to read the worker's own log, which may be on the same disk.
type diskWatch struct {
	changed chan struct{}

	mu      sync.Mutex
	refused map[string]error // by path
}

func newDiskWatch() *diskWatch {
	return &diskWatch{changed: make(chan struct{}, 1), refused: map[string]error{}}
}

// note takes in what became of writing to a path; nil is that it was taken, or that nobody tries any more. It never blocks.
func (d *diskWatch) note(path string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.refused[path]; known == (err != nil) {
		return
	}
	if err != nil {
		d.refused[path] = err
	} else {
		delete(d.refused, path)
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// problem says in words what cannot be written; empty when all can.
func (d *diskWatch) problem() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	paths := slices.Sorted(maps.Keys(d.refused))
	if len(paths) == 0 {
		return ""
	}
	more := ""
	if n := len(paths) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Sprintf("the worker cannot write: %s: %v%s; tasks that print wait, nothing is lost, and all goes on by itself when that is put right",
		paths[0], d.refused[paths[0]], more)
}

// watchDisk tells the server of every change until the worker ends.
func (w *Worker) watchDisk() {
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.refusals.changed:
		}
		w.mu.Lock()
		if w.server != nil { // else the next one is told when it attaches
			_ = w.server.Notify(workerapi.Trouble{Type: "Trouble", Problem: w.refusals.problem()})
		}
		w.mu.Unlock()
	}
}
