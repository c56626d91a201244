package v2

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// logWatch wakes a reader when a file grows. The nil value never wakes.
type logWatch struct {
	w      *fsnotify.Watcher
	events chan struct{}
	done   chan struct{}
}

// watchLog watches the folder of a log, which exists before the file does; when neither exists there is nothing to watch.
func watchLog(path string) (*logWatch, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	if err := w.Add(filepath.Dir(path)); err != nil {
		_ = w.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	l := &logWatch{w: w, events: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run(path)
	return l, nil
}

func (l *logWatch) run(path string) {
	defer close(l.done)
	for {
		select {
		case e, ok := <-l.w.Events:
			if !ok {
				return
			}
			if e.Name != path {
				continue
			}
		case _, ok := <-l.w.Errors: // an overflow of the queue: look at the file
			if !ok {
				return
			}
		}
		select {
		case l.events <- struct{}{}:
		default:
		}
	}
}

func (l *logWatch) wake() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.events
}

// close ends the watch and waits for its goroutine.
func (l *logWatch) close() {
	if l == nil {
		return
	}
	_ = l.w.Close()
	<-l.done
}
