package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

const (
	defaultGrace = 10 * time.Second
	// timeoutSlack is how long after a task's own alarm the worker begins to end it: at most, and at most half its grace.
	timeoutSlack = 5 * time.Second
	// drainLimit is how long pipes may stay open after a task's process and everything below it are gone.
	drainLimit = time.Second
	// emptyLimit is how long what is in such pipes may take to be read while the disk takes it.
	emptyLimit = 5 * time.Second
	// A fork that neither says anything nor uses the processor for this long hangs on something it inherited.
	hangLimit = 10 * time.Second
	// hangMost is for one that says nothing but is busy.
	hangMost = 60 * time.Second
	// forkLimit is how long a host may take to fork before it is of no use to anybody.
	forkLimit = 30 * time.Second
	// hostWatch is how often a running task's process is looked at, and reportLimit how long its host may take to report
	// that it is gone.
	hostWatch   = 5 * time.Second
	reportLimit = 10 * time.Second
)

// An attempt is one running attempt. Its goroutine is run; everything it starts has ended when run returns.
type attempt struct {
	w        *Worker
	order    executor.Attempt
	settings workerapi.Settings
	startup  protocol.StartupDetails
	mask     secret.Masker
	places   func(string) string // see placesIn
	log      *logFile
	report   report
	key      hostKey
	host     *host // that forked it; nil: spawned

	isolation       string
	isolationReason string
	started         *executor.Started // guarded by Worker.mu
	spoke           atomic.Bool       // a message or output has come
	lastWord        atomic.Pointer[protocol.Exiting]

	killMu    sync.Mutex
	killer    *killOrder    // the first order to end it
	killed    chan struct{} // closed with it
	wasForced atomic.Bool   // the end took a SIGKILL of ours
}

// A killOrder says why an attempt is ended.
type killOrder struct {
	reason string
	infra  bool          // the installation ends it, it is not a failure of the task
	stop   bool          // … since the worker itself ends
	wished bool          // … since a person has stopped it
	grace  time.Duration // overrides the attempt's
	within time.Duration // of a timeout: how long after it the task is surely gone
}

func (k *killOrder) words(forced bool) string {
	if forced && k.within > 0 {
		return fmt.Sprintf("killed: %s, and it had not ended %s later (tasks.kill_grace)", k.reason, shortDuration(k.within))
	}
	if forced {
		return "killed: " + k.reason + " (it did not end by itself after SIGTERM)"
	}
	return "killed: " + k.reason
}

func newAttempt(w *Worker, o executor.Attempt, s workerapi.Settings) *attempt {
	a := &attempt{w: w, order: o, settings: s, killed: make(chan struct{})}
	a.startup = withGPUs(complete(o, s, w.hostname, w.o.Home), o, s, w.gpus.known())
	a.places = placesIn(a.startup.Bundle.Path, a.startup.Bundle.Shown)
	a.mask.Add(s.MaskedValues...)
	a.mask.Add(o.Token)
	return a
}

// forPeople is how text of the task is shown and kept.
func (a *attempt) forPeople(text string) string { return a.places(a.mask.Mask(text)) }

// excerpt is how text that the log has is kept beside the attempt.
func (a *attempt) excerpt(text string, limit int) string {
	return excerpt.OfLogged(a.places(maskedExcerpt(&a.mask, text)), limit)
}

// kill asks the attempt to end. The first order's reason counts.
func (a *attempt) kill(k killOrder) {
	a.killMu.Lock()
	defer a.killMu.Unlock()
	if a.killer == nil {
		a.killer = &k
		close(a.killed)
	}
}

func (a *attempt) killOrder() *killOrder {
	a.killMu.Lock()
	defer a.killMu.Unlock()
	return a.killer
}

// A process is the process of an attempt, whatever started it.
type process struct {
	ch     *channels
	id     daghost.ProcessID
	exited <-chan protocol.Exited
	host   *host           // nil: spawned
	gone   <-chan struct{} // the host is gone; nil: spawned
	kept   *daghost.Kept   // spawned
	// of a spawned process: its keeper ended before it, and so it did; set before exited says so
	keeperLost bool
}

// root is the process at the top of the task's own.
func (p *process) root() int {
	if p.kept != nil && p.kept.TaskPID() > 0 {
		return p.kept.TaskPID()
	}
	return p.id.PID
}

// run runs the attempt from launch to result.
func (a *attempt) run() executor.Result {
	path := filepath.FromSlash(a.order.LogPath)
	if !filepath.IsLocal(path) {
		return a.judge(ending{unhappy: fmt.Sprintf("cannot write the log: the path %q leaves the log folder", a.order.LogPath)})
	}
	a.log = newLog(a.w.disk, filepath.Join(a.settings.LogRoot, path), a.forPeople, a.w.o.LogLimit, a.w.log)
	a.log.broken = func(err error) {
		a.kill(killOrder{reason: "cannot write the log: " + err.Error(), infra: true})
	}
	a.log.refused = func(err error) { a.w.refusals.note(a.log.path, err) }
	a.log.hides = a.mask.MayBegin
	defer a.log.Close()
	end := a.carryOut()
	res := a.judge(end)
	switch {
	case end.killed == nil && end.unhappy != "":
		a.log.System("error", "%s", end.unhappy)
	case res.State == run.Success && end.killed != nil:
		a.log.System("warning", "%s", res.Reason)
	case !res.Reported || end.killed != nil:
		a.log.System("error", "%s", res.Reason)
	}
	if words := a.unfinished(&res, end); words != "" {
		a.log.System("error", "%s", words)
		res.Notices = append(res.Notices, words)
	}
	a.log.Close()
	if lost := a.log.Lost(); lost > 0 {
		res.Notices = append(res.Notices, fmt.Sprintf("%d lines of the log are lost: the disk did not take them before the worker ended", lost))
	}
	return res
}

// supervise reads everything the process has to say, ends it when asked to, and returns how it ended.
func (a *attempt) supervise(p *process) ending {
	ctx, cancel := context.WithCancel(a.w.ctx)
	ch := p.ch
	var streams, talk, opening sync.WaitGroup
	opening.Go(a.log.Open)
	defer opening.Wait()
	streams.Go(func() { a.log.Copy(spy{ch.out, &a.spoke}, streamOut) })
	streams.Go(func() { a.log.Copy(spy{ch.err, &a.spoke}, streamErr) })
	talk.Go(func() { a.converse(ctx, ch) })

	drained := make(chan struct{})
	go func() { streams.Wait(); talk.Wait(); close(drained) }()
	end := a.wait(p, drained)
	if p.host != nil {
		p.host.spares.Fill()
	}
	cancel() // what the task asked for has nobody left to answer
	select {
	case <-drained:
	case <-time.After(drainLimit):
		a.cutOff(ch, drained)
		<-drained
	}
	a.diedEarly(&end, p)
	if end.leftover > 0 {
		a.log.System("warning", "%d processes that the task had left behind were killed", end.leftover)
	}
	return end
}

// spy notes that a stream has said something.
type spy struct {
	r     io.Reader
	spoke *atomic.Bool
}

func (s spy) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 && !s.spoke.Load() {
		s.spoke.Store(true)
	}
	return n, err
}

// cutOff ends pipes that outlive the task: a process outside its tree holds them. Such a process is killed if it is one
// of this worker's, else it is left alone and its output is not the task's any more. What is in the pipes by then is
// read first, however long the log has to wait for a full disk.
func (a *attempt) cutOff(ch *channels, drained <-chan struct{}) {
	for _, f := range []*os.File{ch.out.File, ch.err.File} {
		for _, pid := range daghost.HoldersOf(f) {
			if daghost.IsMarked(pid, a.w.o.Home) && !a.w.isHost(pid) {
				a.log.System("warning", "process %d still held the task's output after the task had ended; it was killed", pid)
				daghost.KillTree(pid)
			}
		}
	}
	a.awaitEmpty(ch, drained)
	at := time.Now().Add(100 * time.Millisecond)
	_ = ch.out.SetReadDeadline(at)
	_ = ch.err.SetReadDeadline(at)
	_ = ch.task.SetDeadline(at) // an answer may wait for its reader, too
}

// awaitEmpty waits until everything in the pipes has been read, but not for a process that keeps filling them.
func (a *attempt) awaitEmpty(ch *channels, drained <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(emptyLimit); ; {
		if daghost.Buffered(ch.task)+daghost.Buffered(ch.out)+daghost.Buffered(ch.err) == 0 {
			return
		}
		if time.Now().After(deadline) && !a.log.Waiting() {
			return
		}
		select {
		case <-tick.C:
		case <-drained:
			return
		case <-a.w.disk.Done(): // the worker gives up
			return
		}
	}
}

// wait returns when the process and everything below it are gone, or as good as gone: when a forked task has said its
// last word and everything it could still be heard through is closed.
func (a *attempt) wait(p *process, silent <-chan struct{}) ending {
	var end ending
	k := killing{a: a, p: p, killed: a.killed}
	if a.order.ExecutionTimeout > 0 {
		k.after(&k.timeout, a.order.ExecutionTimeout+k.slack())
	}
	if p.host != nil && a.startup.Kind == protocol.KindTask {
		k.after(&k.hang, hangLimit)
	}
	k.after(&k.watch, hostWatch)
	defer k.stop()
	for {
		select {
		case x := <-p.exited:
			a.ended(&end, p, &k, x)
			return end
		case <-silent:
			silent = nil
			if last := a.lastWord.Load(); last != nil && p.host != nil && a.killOrder() == nil {
				a.ended(&end, p, &k, protocol.Exited{
					PID: p.id.PID, Status: last.Status, UTime: last.UTime, STime: last.STime, MaxRSS: last.MaxRSS,
				})
				return end
			}
		case <-p.gone:
			select {
			case x := <-p.exited: // its last word
				a.ended(&end, p, &k, x)
				return end
			default:
			}
			if p.id.Alive() {
				daghost.KillTree(p.id.PID)
			}
			awaitDeath(p.id)
			a.w.clearOrphans()
			end.host, end.forced, end.hung = p.host.proc.Ending(), k.forced, k.hung
			end.unreported = k.unreported
			return end
		case <-k.killed:
			k.begin()
		case <-k.soft.C():
			if p.id.Alive() {
				daghost.SignalBelow(p.root(), syscall.SIGTERM)
			}
		case <-k.hard.C():
			k.force()
		case <-k.timeout.C():
			k.overdue()
		case <-k.hang.C():
			k.checkHang()
		case <-k.watch.C():
			k.look()
		}
	}
}

// ended takes the end of the process as it was reported.
func (a *attempt) ended(end *ending, p *process, k *killing, x protocol.Exited) {
	end.exit, end.forced, end.leftover, end.hung, end.keeperLost = &x, k.forced, x.Orphans, k.hung, p.keeperLost
}

// diedEarly finds out whether a process that is gone has begun the attempt: one that has not read what to do has not. And
// it decides about a fork that ended badly before it said anything: such code is spawned from now on.
func (a *attempt) diedEarly(end *ending, p *process) {
	end.unstarted = p.ch.unread()
	if end.hung != "" || end.exit == nil || end.exit.Status < 0 || a.spoke.Load() || a.killOrder() != nil {
		return
	}
	ws := syscall.WaitStatus(end.exit.Status)
	switch {
	case willed(ws): // by somebody, not the fork's fault
		return
	case !ws.Signaled() && !end.unstarted: // the task's own affair
		return
	case p.host == nil: // an interpreter that does not work, and would not the next time
		end.unstarted = false
		return
	}
	reason := "a forked task process died before the task's code: " + daghost.EndingOf(ws)
	a.w.pool.Demote(a.key, reason)
	end.hung = reason + "; the file's tasks are spawned from now on"
}

// willed says whether a process that had said nothing was ended by somebody, or ended since nobody was there any more.
func willed(ws syscall.WaitStatus) bool {
	if !ws.Signaled() {
		return ws.ExitStatus() == protocol.ExitGone
	}
	return slices.Contains([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, ws.Signal())
}

// awaitDeath waits until the kernel has taken a killed process away.
func awaitDeath(id daghost.ProcessID) {
	for deadline := time.Now().Add(5 * time.Second); id.Alive() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}
