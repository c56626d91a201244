package bundle

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notifier waits for changes in folders. Without the kernel's help (no inotify watches left) it still wakes by time.
type notifier struct {
	w       *fsnotify.Watcher
	watched map[string]bool
	log     *slog.Logger
	full    bool
	heard   bool // of a change that wait has not returned for
}

func newNotifier(log *slog.Logger) *notifier {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("changes in the DAG folder are only seen by looking again", "error", err)
		return &notifier{log: log}
	}
	return &notifier{w: w, watched: map[string]bool{}, log: log}
}

func (n *notifier) close() {
	if n.w != nil {
		_ = n.w.Close()
	}
}

// watch makes the set of watched folders dirs. A folder that is watched already is added again without harm: it may have
// been replaced by another of the same name. It says whether there are new ones.
func (n *notifier) watch(dirs []string) (added bool) {
	if n.w == nil {
		return false
	}
	want := map[string]bool{}
	for _, d := range dirs {
		want[d] = true
		added = added || !n.watched[d]
		if err := n.w.Add(d); err != nil && !n.full {
			n.full = true
			n.log.Warn("a folder cannot be watched; its changes are only seen by looking again", "folder", d, "error", err)
		}
	}
	for d := range n.watched {
		if !want[d] {
			_ = n.w.Remove(d)
		}
	}
	n.watched = want
	return added
}

// reason says why a wait is over.
type reason int

const (
	ended   reason = iota // the context
	changed               // something in the folders, perhaps
	parsed                // outcomes are due; changes heard of meanwhile are kept for the next wait
)

// wait returns when something changed, here or by word of wake, and then nothing for the debounce time; after limit; when
// outcomes are due; or when ctx ended.
func (n *notifier) wait(ctx context.Context, limit, debounce time.Duration, wake, due <-chan struct{}) reason {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if n.w != nil {
		events, errs = n.w.Events, n.w.Errors
	}
	var quiet <-chan time.Time
	hear := func() { n.heard, quiet = true, time.After(debounce) }
	if n.heard {
		hear()
	}
	var last time.Time // a folder that never rests is read all the same
	for {
		select {
		case <-ctx.Done():
			return ended
		case <-timer.C:
			n.heard = false
			return changed
		case <-quiet:
			n.heard = false
			return changed
		case <-due:
			return parsed
		case <-wake:
			hear()
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if !relevant(e) {
				continue
			}
			if last.IsZero() {
				last = time.Now().Add(20 * debounce)
			}
			if time.Now().Before(last) {
				hear()
			}
		case _, ok := <-errs: // the queue overflowed: look at everything
			if !ok {
				errs = nil
				continue
			}
			hear()
		}
	}
}

// relevant leaves out what can never change the bundle: editors' hidden files, byte code, attribute changes alone.
func relevant(e fsnotify.Event) bool {
	name := filepath.Base(e.Name)
	if name == ".airflowignore" {
		return true
	}
	return !strings.HasPrefix(name, ".") && name != "__pycache__" && !isBytecode(name) && e.Op != 0
}
