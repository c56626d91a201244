package bundle

import (
	"context"
	"sync"
	"time"
)

const (
	// parseLimit is how many files are imported at once: parsing must leave room for tasks.
	parseLimit = 2
	// slowParse is when an import counts as slow: from then on it takes no place, so that whatever hangs makes room.
	slowParse = time.Second
	// gatherFor is how long the first outcome waits for others to be published with it.
	gatherFor = 200 * time.Millisecond
)

// A parsing is one import of one file as it is in one tree.
type parsing struct {
	file   string
	tree   *tree
	ctx    context.Context
	cancel context.CancelFunc
	// state and err are the outcome.
	state *fileState
	err   error
}

// parses has files imported beside everything else, at most one import of a file at a time that counts. The one who
// begins them waits for them with wait.
type parses struct {
	parse func(*parsing)
	// due has a word in it when outcomes should be taken: all are there, or the first has waited long enough.
	due  chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	live    map[string]*parsing // by file: waiting, running, or done and not taken
	waiting []*parsing
	done    []*parsing
	running int
	armed   bool
}

// begin puts an import into the line. One of the same file that is under way counts no more.
func (q *parses) begin(ctx context.Context, t *tree, file string) {
	p := &parsing{file: file, tree: t}
	p.ctx, p.cancel = context.WithCancel(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(file)
	q.live[file] = p
	q.waiting = append(q.waiting, p)
	q.pump()
}

// drop forgets the import of a file, with the lock held.
func (q *parses) drop(file string) {
	if old := q.live[file]; old != nil {
		old.cancel()
		delete(q.live, file)
	}
}

// forget has the import of a file not count any more.
func (q *parses) forget(file string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(file)
}

// pump starts what there is room for, with the lock held.
func (q *parses) pump() {
	for q.running < parseLimit && len(q.waiting) > 0 {
		p := q.waiting[0]
		q.waiting = q.waiting[1:]
		if q.live[p.file] != p {
			continue
		}
		q.running++
		q.work.Go(func() { q.run(p) })
	}
}

func (q *parses) run(p *parsing) {
	defer p.cancel()
	leave := sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.running--
		q.pump()
	})
	defer leave()
	defer time.AfterFunc(slowParse, leave).Stop()
	q.parse(p)
	q.finish(p)
}

// finish keeps an outcome that still counts.
func (q *parses) finish(p *parsing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.live[p.file] != p {
		return
	}
	q.done = append(q.done, p)
	if len(q.done) == len(q.live) {
		q.tell()
		return
	}
	q.arm()
}

// soon has the outcomes taken after a moment, with those that come until then.
func (q *parses) soon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arm()
}

func (q *parses) arm() {
	if q.armed {
		return
	}
	q.armed = true
	time.AfterFunc(gatherFor, func() {
		q.mu.Lock()
		q.armed = false
		q.mu.Unlock()
		q.tell()
	})
}

func (q *parses) tell() {
	select {
	case q.due <- struct{}{}:
	default:
	}
}

// take hands out the outcomes that there are.
func (q *parses) take() []*parsing {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*parsing
	for _, p := range q.done {
		if q.live[p.file] == p {
			delete(q.live, p.file)
			out = append(out, p)
		}
	}
	q.done = nil
	return out
}

// of is the import of a file that is under way or not taken yet; nil when there is none.
func (q *parses) of(file string) *parsing {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.live[file]
}

// all lists what is under way or not taken yet.
func (q *parses) all() []*parsing {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*parsing
	for _, p := range q.live {
		out = append(out, p)
	}
	return out
}

// busy says whether something is under way or not taken yet.
func (q *parses) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.live) > 0
}

// wait returns when nothing runs any more; whoever calls it has ended the context of what runs.
func (q *parses) wait() {
	q.work.Wait()
	q.take()
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.live)
	q.waiting = nil
}
