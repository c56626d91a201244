package daghost

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// A Launcher starts child processes that die with this one and knows which children are its own. PR_SET_PDEATHSIG fires
// when the *thread* that created the child ends, so all children are created by one thread that lives as long as the
// Launcher.
type Launcher struct {
	orders chan func()
	ended  chan struct{}

	mu  sync.Mutex // held while a child is created, so that Orphans never takes a newborn for a stranger
	own map[int]bool
}

// NewLauncher starts the thread.
func NewLauncher() *Launcher {
	l := &Launcher{orders: make(chan func()), ended: make(chan struct{}), own: map[int]bool{}}
	go func() {
		defer close(l.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and so do the children
		for order := range l.orders {
			order()
		}
	}()
	return l
}

// Close ends the thread; every child still alive is killed by the kernel.
func (l *Launcher) Close() {
	close(l.orders)
	<-l.ended
}

// A Command says what to start.
type Command struct {
	Path   string
	Args   []string // Args[0] is the name
	Env    []string
	Dir    string
	Stdout *os.File
	Stderr *os.File
	// Inherit becomes descriptors 3, 4, ….
	Inherit []*os.File
}

// A Child is a process the Launcher started.
type Child struct {
	PID int
	// Done is closed once the process has been reaped; State is set then.
	Done  chan struct{}
	State *os.ProcessState
}

// Start starts a process in its own session, with /dev/null as its input, and reaps it.
func (l *Launcher) Start(c Command) (*Child, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	defer null.Close()
	var p *os.Process
	started := make(chan struct{})
	l.orders <- func() {
		defer close(started)
		l.mu.Lock()
		defer l.mu.Unlock()
		p, err = os.StartProcess(c.Path, c.Args, &os.ProcAttr{
			Dir: c.Dir, Env: c.Env,
			Files: slices.Concat([]*os.File{null, c.Stdout, c.Stderr}, c.Inherit),
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err == nil {
			l.own[p.Pid] = true
		}
	}
	<-started
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	child := &Child{PID: p.Pid, Done: make(chan struct{})}
	go func() {
		state, _ := p.Wait()
		l.mu.Lock()
		delete(l.own, child.PID)
		l.mu.Unlock()
		child.State = state
		close(child.Done)
	}()
	return child, nil
}

// ClearOrphans kills the trees of children this Launcher did not start, which this process adopted as a subreaper, and
// reaps those that have ended. Resource trackers get their moment, as in KillTree, after all others. It must run only in a
// process that has no other children of its own.
func (l *Launcher) ClearOrphans() (killed int) {
	killed, trackers := l.clearOrphans()
	if len(trackers) == 0 {
		return killed
	}
	killed += awaitTrackers(trackers)
	for _, t := range trackers {
		l.reapOrphan(t.PID)
	}
	return killed
}

// clearOrphans does so, but for trackers, which it returns.
func (l *Launcher) clearOrphans() (killed int, trackers []ProcessID) {
	self := os.Getpid()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range processes() {
		if s.ppid != self || l.own[s.pid] {
			continue
		}
		switch {
		case s.state == 'Z':
		case isTracker(s.pid):
			trackers = append(trackers, ProcessID{PID: s.pid, StartTicks: s.start, BootID: bootID()})
		default:
			n, below := killTree(s.pid, true)
			killed += n
			trackers = append(trackers, below...)
		}
		_, _ = syscall.Wait4(s.pid, nil, syscall.WNOHANG, nil)
	}
	return killed, trackers
}

// reapOrphan reaps a process if it is a child of this one that has ended and that this Launcher did not start.
func (l *Launcher) reapOrphan(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.own[pid] {
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}
