package scheduler

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/trigger"
)

// fileWatcher looks at the files that deferred instances wait for, beside the scheduler's loop and as often as their
// triggers say.
//
// A file system that does not answer (a mount whose server is gone) holds whoever looks at it in the kernel, for ever if it
// comes to that; nothing can call the look back. So a look that takes longer than lookPatience is set aside: it does not
// count among those that go on at once, no other is begun in its folder before it comes back, and a stop does not wait for
// it.
type fileWatcher struct {
	log   *slog.Logger
	fired func(k run.Key, waitID string, payload json.RawMessage)
	// noted is told what there is to say of a wait, from any goroutine; "" when there is nothing any more.
	noted func(k run.Key, waitID, note string)
	there func(ctx context.Context, pattern string, recursive bool) bool

	mu      sync.Mutex
	files   map[string]*fileWatch
	queue   fileQueue // those whose time is to come
	looking int       // looks under way that are not set aside
	aside   map[string]*asideFolder
	numb    int // looks that are set aside
	wake    chan struct{}
}

type fileWatch struct {
	key  run.Key
	id   string
	file trigger.File
	next time.Time
}

// fileLook is one look at a file.
type fileLook struct {
	*fileWatch
	folder string
	since  time.Time
	// Guarded by the watcher's lock.
	aside, over bool
}

// asideFolder is a folder with looks that have not come back.
type asideFolder struct {
	looks int
	since time.Time
	held  map[string]*fileWatch // which wait until they have
}

const (
	maxLooks     = 16  // at once
	maxNumb      = 256 // looks that are set aside: each is a thread of this process
	lookPatience = 10 * time.Second
	leaveLooks   = 500 * time.Millisecond // how long a stop waits for looks
)

func newFileWatcher(log *slog.Logger, fired func(run.Key, string, json.RawMessage), noted func(run.Key, string, string)) *fileWatcher {
	return &fileWatcher{
		log: log, fired: fired, noted: noted, there: fileThere, files: map[string]*fileWatch{}, aside: map[string]*asideFolder{},
		wake: make(chan struct{}, 1),
	}
}

// reset forgets everything but the looks under way; the state was read anew.
func (w *fileWatcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files, w.queue = map[string]*fileWatch{}, nil
	for _, a := range w.aside {
		clear(a.held)
	}
}

func (w *fileWatcher) add(k run.Key, id string, file trigger.File) {
	w.mu.Lock()
	f := &fileWatch{key: k, id: id, file: file}
	w.files[id] = f
	heap.Push(&w.queue, f)
	w.mu.Unlock()
	w.kick()
}

func (w *fileWatcher) drop(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, id)
	for _, a := range w.aside {
		delete(a.held, id)
	}
}

func (w *fileWatcher) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks until ctx ends.
func (w *fileWatcher) run(ctx context.Context) {
	for {
		t := time.NewTimer(w.begin(ctx))
		select {
		case <-ctx.Done():
			t.Stop()
			w.leave()
			return
		case <-w.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// begin begins to look at the files whose time has come and says how long to wait for the next.
func (w *fileWatcher) begin(ctx context.Context) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 && w.looking < maxLooks { // else whichever look ends first wakes us
		f := w.queue[0]
		if left := time.Until(f.next); left > 0 {
			return min(time.Minute, left)
		}
		heap.Pop(&w.queue)
		if w.files[f.id] != f {
			continue
		}
		folder := folderOf(f.file.Pattern)
		if a := w.asideAt(folder); a != nil {
			a.held[f.id] = f
			w.noted(f.key, f.id, unanswered(folder, a.since))
			continue
		}
		w.looking++
		// Nobody waits for it: see fileWatcher.
		go w.look(ctx, &fileLook{fileWatch: f, folder: folder, since: time.Now()})
	}
	return time.Minute
}

// asideAt is the folder, or one above it, with looks that have not come back; nil when there is none.
func (w *fileWatcher) asideAt(folder string) *asideFolder {
	for {
		if a := w.aside[folder]; a != nil {
			return a
		}
		above := filepath.Dir(folder)
		if above == folder || len(w.aside) == 0 {
			return nil
		}
		folder = above
	}
}

// look looks once.
func (w *fileWatcher) look(ctx context.Context, l *fileLook) {
	late := time.AfterFunc(lookPatience, func() { w.setAside(l) })
	there := w.there(ctx, l.file.Pattern, l.file.Recursive)
	late.Stop()
	w.mu.Lock()
	if l.over = true; l.aside {
		w.comeBack(l)
	} else {
		w.looking--
	}
	l.next = time.Now().Add(l.file.Every)
	still := w.files[l.id] == l.fileWatch
	if still && !there {
		heap.Push(&w.queue, l.fileWatch)
	}
	w.mu.Unlock()
	if there && still && ctx.Err() == nil {
		w.fired(l.key, l.id, []byte("true"))
	}
	w.kick()
}

// setAside counts a look as one that may never come back.
func (w *fileWatcher) setAside(l *fileLook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.over {
		return
	}
	if w.numb == maxNumb {
		w.log.Error("a look at a file does not come back, as too many others; it holds up what other deferred tasks wait for",
			"file", l.file.Pattern, "others", w.numb)
		return
	}
	l.aside = true
	w.looking--
	w.numb++
	a := w.aside[l.folder]
	if a == nil {
		a = &asideFolder{since: l.since, held: map[string]*fileWatch{}}
		w.aside[l.folder] = a
		w.log.Warn("a look at a file that a deferred task waits for does not come back: its file system may not answer; "+
			"nothing else is looked at in the folder until it does", "file", l.file.Pattern, "folder", l.folder)
	}
	a.looks++
	w.noted(l.key, l.id, unanswered(l.folder, l.since))
	w.kick()
}

// comeBack ends what setAside began, with the lock held.
func (w *fileWatcher) comeBack(l *fileLook) {
	w.numb--
	w.noted(l.key, l.id, "")
	a := w.aside[l.folder]
	if a.looks--; a.looks > 0 {
		return
	}
	delete(w.aside, l.folder)
	w.log.Info("the folder answers again", "folder", l.folder, "after", time.Since(a.since).Round(time.Second))
	for _, f := range a.held {
		heap.Push(&w.queue, f)
		w.noted(f.key, f.id, "")
	}
}

// unanswered says of a wait why nobody looks at its file.
func unanswered(folder string, since time.Time) string {
	return fmt.Sprintf("%s has not answered since %s", folder, since.UTC().Format(time.RFC3339))
}

// leave gives the looks under way a moment to end. What has not is left behind, and ends with the process: all it could
// still do is report to a scheduler that does not listen any more.
func (w *fileWatcher) leave() {
	patience := time.NewTimer(leaveLooks)
	defer patience.Stop()
	for {
		w.mu.Lock()
		looking, numb := w.looking, w.numb
		w.mu.Unlock()
		if looking == 0 {
			if numb > 0 {
				w.log.Warn("looks at files that do not come back are left behind", "looks", numb)
			}
			return
		}
		select {
		case <-w.wake:
		case <-patience.C:
			w.log.Warn("looks at files that do not come back are left behind", "looks", looking+numb)
			return
		}
	}
}

// folderOf is the folder that a look at a pattern begins in.
func folderOf(pattern string) string {
	segments := strings.Split(filepath.Clean(pattern), "/")
	if i := slices.IndexFunc(segments, trigger.HasMagic); i >= 0 {
		segments = segments[:i]
	} else {
		segments = segments[:len(segments)-1]
	}
	if len(segments) == 1 && segments[0] == "" {
		return "/"
	}
	return filepath.Clean(strings.Join(segments, "/"))
}

// fileQueue is a heap of files by when they are looked at next.
type fileQueue []*fileWatch

func (q fileQueue) Len() int           { return len(q) }
func (q fileQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q fileQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *fileQueue) Push(x any)        { *q = append(*q, x.(*fileWatch)) }
func (q *fileQueue) Pop() any {
	old := *q
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return f
}
