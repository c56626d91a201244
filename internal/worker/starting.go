package worker

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

const (
	// startTries is how many hosts an attempt tries that are lost before it has begun, and startPause how long it waits
	// after the first; after each further one four times as long.
	startTries = 4
	startPause = 100 * time.Millisecond
)

// start brings the process up, by fork where that is possible. Without a process the ending says why.
func (a *attempt) start(ch *channels) (*process, ending) {
	pool, s := a.w.pool, &a.startup
	a.key = pool.Key(a.order.Interpreter, s.Bundle.Version, s.Bundle.Path, s.DagRelPath, s.Compat)
	if a.order.Isolation == "spawn" {
		return a.spawn(ch, "isolation: spawn is configured")
	}
	ctx, cancel := context.WithCancelCause(a.w.ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-a.killed:
			cancel(errors.New(a.killWords()))
		case <-stop:
		}
	}()
	for try := 1; ; try++ {
		p, bad := a.byHost(ctx, ch)
		if !bad.unstarted || try == startTries {
			return p, bad
		}
		a.w.log.Warn("an attempt lost its host before it was started; it is started again", "attempt", a.order.ID, "file", a.key.file, "err", bad.unhappy)
		if !pause(ctx, try) {
			return p, bad
		}
	}
}

// byHost has a warm host fork the process, or spawns it where that is not possible.
func (a *attempt) byHost(ctx context.Context, ch *channels) (*process, ending) {
	pool := a.w.pool
	if reason := pool.Demoted(a.key); reason != "" {
		return a.spawn(ch, reason)
	}
	h, err := a.acquire(ctx)
	if err != nil {
		return nil, ending{unhappy: err.Error(), infra: errors.Is(err, errStopping) || hostKilled(err)}
	}
	h.asking.tell(&a.mask)
	if fault := h.serves(a.startup.TI.DAGID); fault != nil {
		pool.Release(h)
		return nil, ending{unhappy: importFault(fault)}
	}
	if h.known.ForkUnsafe != "" {
		pool.Release(h)
		return a.spawn(ch, h.known.ForkUnsafe)
	}
	p, err := a.fork(h, ch)
	if err != nil {
		bad := ending{unhappy: err.Error(), infra: true, unstarted: a.notForked(h, ch, err)}
		pool.Release(h)
		return nil, bad
	}
	return p, ending{}
}

// notForked says whether it is certain that a host that was asked to fork has not begun the attempt, nor ever will. The
// host must have refused, or be gone; and then nobody may hold the attempt's channel nor have read from it what to do.
func (a *attempt) notForked(h *host, ch *channels, err error) bool {
	var refused *protocol.Error
	if errors.As(err, &refused) {
		a.w.pool.Retire(h)
		return true
	}
	select {
	case <-h.proc.Done():
		<-h.over
	default:
		return false
	}
	a.w.clearOrphans()
	return ch.awaitUntouched()
}

// untouchedLimit is how long the forks of a dead host, which the kernel kills, may take to be gone.
const untouchedLimit = 2 * time.Second

// awaitUntouched returns true once this process alone has their ends of the channels and the startup message lies there
// as it was written.
func (c *channels) awaitUntouched() bool {
	for deadline := time.Now().Add(untouchedLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if len(daghost.HoldersOf(c.out.File)) == 0 && atFrame(c.childTask) {
			return true
		}
	}
	return false
}

// atFrame says whether what waits to be read begins with a frame: its length begins with a zero byte, which JSON never has.
func atFrame(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var first [1]byte
	_ = raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n == 1 && first[0] == 0
}

// pause waits before another host is started, longer each time; false when ctx ends first.
func pause(ctx context.Context, try int) bool {
	t := time.NewTimer(startPause << (2 * (try - 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// acquire returns a host. One that somebody kills before it is ready says nothing about the file: another is started.
func (a *attempt) acquire(ctx context.Context) (*host, error) {
	s := &a.startup
	for try := 1; ; try++ {
		h, err := a.w.pool.Acquire(ctx, a.key, protocol.Describe{
			BundleName: s.Bundle.Name, BundlePath: s.Bundle.Path, File: s.DagRelPath, ShownPath: s.Bundle.Shown,
			Compat: s.Compat, Defaults: s.Defaults, Preload: a.settings.PreloadModule,
		})
		if err == nil || !hostKilled(err) || try == startTries || !pause(ctx, try) {
			return h, err
		}
	}
}

func hostKilled(err error) bool {
	var end *daghost.EndError
	return errors.As(err, &end) && end.Killed
}

func importFault(e *protocol.ImportError) string {
	text := "import error: " + e.Message
	if e.Traceback != "" {
		text += "\n" + strings.TrimRight(e.Traceback, "\n")
	}
	return text
}

// fork has the host make the task's process. An order to kill the attempt does not interrupt it: the host would fork all
// the same, and the task would run without anybody knowing. It is the process that is killed then, once it is there. A
// host that does not answer is killed for the same reason.
func (a *attempt) fork(h *host, ch *channels) (*process, error) {
	ctx, cancel := context.WithTimeout(a.w.ctx, forkLimit)
	defer cancel()
	exited := h.expectExit(a.order.ID)
	pid, err := h.proc.Fork(ctx, a.order.ID, ch.childTask, ch.childOut, ch.childErr)
	if err != nil {
		h.forgetExit(a.order.ID)
		if ctx.Err() != nil {
			a.w.log.Error("a host does not fork; it is killed", "pid", h.proc.PID(), "err", err)
			h.proc.Kill()
		}
		return nil, err
	}
	a.host = h
	p := &process{exited: exited, host: h, gone: h.over}
	a.isStarted(p, pid, "fork", "")
	return p, nil
}

func (a *attempt) spawn(ch *channels, reason string) (*process, ending) {
	spec := a.w.pool.Spec(a.key)
	for name, v := range a.startup.Env {
		spec.Env = setEnv(spec.Env, name, v)
	}
	child, err := daghost.Spawn(a.w.launcher, spec, ch.childTask, ch.childOut, ch.childErr)
	if err != nil {
		return nil, ending{unhappy: err.Error()}
	}
	exited := make(chan protocol.Exited, 1)
	p := &process{exited: exited, kept: child}
	a.w.tasks.Go(func() {
		x, whole := child.Wait(a.order.ID)
		a.w.clearOrphans()
		p.keeperLost = !whole
		exited <- x
	})
	a.isStarted(p, child.PID, "spawn", reason)
	return p, ending{}
}

// isStarted records and reports that the process exists.
func (a *attempt) isStarted(p *process, pid int, isolation, reason string) {
	a.isolation, a.isolationReason = isolation, reason
	if isolation == "spawn" && reason == a.w.pool.Demoted(a.key) {
		a.log.System("warning", "this task runs in a process of its own: %s", reason)
	}
	a.w.reportStarted(a, executor.Started{
		AttemptID: a.order.ID, At: time.Now(), PID: pid, Hostname: a.w.hostname,
		Isolation: isolation, IsolationReason: reason,
	})
	id, err := daghost.Identify(pid)
	if err != nil {
		p.id = daghost.ProcessID{PID: pid} // it has ended already
		return
	}
	p.id = id
	if err := a.w.records.Write(a.order.ID, id); err != nil {
		a.w.log.Warn("cannot record an attempt's process", "attempt", a.order.ID, "err", err)
	}
	a.w.oom.Note()
}
