package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

const (
	// startTries is how many processes are started for an attempt where those before it have ended before they began it, and
	// startPause how long it waits after the first; after each further one four times as long.
	startTries = 4
	startPause = 100 * time.Millisecond
)

// carryOut has a process run the attempt and waits until it is gone. Where one has ended before it began the attempt,
// another one is started: nothing has happened yet.
func (a *attempt) carryOut() ending {
	pool, s := a.w.pool, &a.startup
	order, err := protocol.AppendFrame(nil, 0, s, nil)
	if err != nil {
		return ending{unhappy: "what the task is started with cannot be sent to it: " + err.Error()}
	}
	a.key = pool.Key(a.order.Interpreter, s.Bundle.Version, s.Bundle.Path, s.DagRelPath, s.Compat)
	ctx, release := a.untilKilled()
	defer release()
	for try := 1; ; try++ {
		end := a.once(ctx, order)
		end.killed = a.killOrder()
		if !end.unstarted || end.killed != nil || try == startTries {
			return end
		}
		why, _ := a.explain(end)
		a.w.log.Warn("an attempt had not begun when its process was lost; it is started again", "attempt", a.order.ID, "file", a.key.file, "why", why)
		if end.hung == "" && !pause(ctx, try) {
			end.killed = a.killOrder()
			return end
		}
	}
}

// untilKilled returns a context that ends with an order to end the attempt.
func (a *attempt) untilKilled() (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(a.w.ctx)
	done := make(chan struct{})
	go func() {
		select {
		case <-a.killed:
			cancel(errors.New(a.killOrder().words(false)))
		case <-done:
		}
	}()
	return ctx, func() { close(done); cancel(nil) }
}

// once starts a process and, when there is one, waits until it is gone.
func (a *attempt) once(ctx context.Context, order []byte) ending {
	a.host = nil
	a.spoke.Store(false)
	a.wasForced.Store(false)
	p, bad := a.start(ctx, order)
	if p == nil {
		return bad
	}
	if p.host != nil {
		defer a.w.pool.Release(p.host)
	}
	defer p.ch.closeOurs()
	a.log.order.listen(p.ch)
	return a.supervise(p)
}

// start brings the process up and gives it the order to run the attempt: by fork where that is possible. Without a process
// the ending says why.
func (a *attempt) start(ctx context.Context, order []byte) (*process, ending) {
	if a.order.Isolation == "spawn" {
		return a.spawn(order, "isolation: spawn is configured")
	}
	return a.byHost(ctx, order)
}

// byHost has a warm host fork the process, or spawns it where that is not possible.
func (a *attempt) byHost(ctx context.Context, order []byte) (*process, ending) {
	pool := a.w.pool
	if reason := pool.Demoted(a.key); reason != "" {
		return a.spawn(order, reason)
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
		return a.spawn(order, h.known.ForkUnsafe)
	}
	p, err := a.fork(h, order)
	if err != nil {
		bad := ending{unhappy: err.Error(), infra: true, unstarted: a.notForked(h, err)}
		pool.Release(h)
		return nil, bad
	}
	return p, ending{}
}

// notForked says whether it is certain that a host that was asked to fork has not begun the attempt, nor ever will. It is
// when the host has refused, or is gone: a process that it had made by then has not been told what to run.
func (a *attempt) notForked(h *host, err error) bool {
	var refused *protocol.Error
	if errors.As(err, &refused) {
		a.w.pool.Retire(h)
		return true
	}
	select {
	case <-h.proc.Done():
		<-h.over
		return true
	default:
		return false
	}
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

// fork gives the order to a process that waits for one, or has the host make one. An order to kill the attempt does not
// interrupt that. It is the process that is killed then, once it is there.
func (a *attempt) fork(h *host, order []byte) (*process, error) {
	a.host = h
	p := h.spares.Give(order)
	if p == nil {
		var err error
		if p, err = h.fork(a.w.ctx, a.order.ID, false); err != nil {
			return nil, err
		}
		_ = p.ch.order(order) // one that is gone already will be seen to be
		h.spares.Started()
	}
	a.isStarted(p, "fork", "")
	return p, nil
}

func (a *attempt) spawn(order []byte, reason string) (*process, ending) {
	spec := a.w.pool.Spec(a.key)
	for name, v := range a.startup.Env {
		spec.Env = setEnv(spec.Env, name, v)
	}
	ch, err := openChannels()
	if err != nil {
		return nil, ending{unhappy: "cannot start the task: " + err.Error(), infra: true}
	}
	defer ch.closeTheirs()
	child, err := daghost.Spawn(a.w.launcher, spec, ch.childTask, ch.childOut, ch.childErr)
	if err != nil {
		ch.closeOurs()
		return nil, ending{unhappy: err.Error()}
	}
	exited := make(chan protocol.Exited, 1)
	p := &process{ch: ch, id: identify(child.PID), exited: exited, kept: child}
	a.w.tasks.Go(func() {
		x, whole := child.Wait()
		a.w.clearOrphans()
		p.keeperLost = !whole
		exited <- x
	})
	_ = ch.order(order)
	a.isStarted(p, "spawn", reason)
	return p, ending{}
}

// identify returns who a process is that has just been made; of one that has ended already, what is known.
func identify(pid int) daghost.ProcessID {
	id, err := daghost.Identify(pid)
	if err != nil {
		return daghost.ProcessID{PID: pid}
	}
	return id
}

// isStarted records and reports that the process exists.
func (a *attempt) isStarted(p *process, isolation, reason string) {
	a.isolation, a.isolationReason = isolation, reason
	if isolation == "spawn" && reason == a.w.pool.Demoted(a.key) {
		a.log.System("warning", "this task runs in a process of its own: %s", reason)
	}
	a.w.reportStarted(a, executor.Started{
		AttemptID: a.order.ID, At: time.Now(), PID: p.id.PID, Hostname: a.w.hostname,
		Isolation: isolation, IsolationReason: reason,
	})
	if err := a.w.records.Write(a.order.ID, p.id); err != nil {
		a.w.log.Warn("cannot record an attempt's process", "attempt", a.order.ID, "err", err)
	}
	a.w.oom.Note()
}
