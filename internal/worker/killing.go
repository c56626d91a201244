package worker

import (
	"fmt"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/daghost"
)

// A clock is a timer that may not have been set.
type clock struct{ t *time.Timer }

// C returns the timer's channel, nil when it is not set.
func (c *clock) C() <-chan time.Time {
	if c.t == nil {
		return nil
	}
	return c.t.C
}

// killing is the way from an order to the end of a process tree: SIGTERM to the task's process, which may take its
// children along in its own way; a moment later SIGTERM to what is still below it; after the grace period SIGKILL to
// everything. If even then the host does not report the end, the host goes too.
type killing struct {
	a      *attempt
	p      *process
	killed <-chan struct{} // closed by the order; nil once it was seen
	forced bool
	hung   string

	soft, hard, timeout, hang, watch clock
	waited                           time.Duration // for a sign of life
	ticks                            uint64
	gone                             time.Time // when the process was first seen to be gone; zero: not yet
	unreported                       bool      // its host never said so
}

func (k *killing) after(c *clock, d time.Duration) {
	if c.t == nil {
		c.t = time.NewTimer(d)
		return
	}
	c.t.Reset(d)
}

func (k *killing) stop() {
	for _, c := range []*clock{&k.soft, &k.hard, &k.timeout, &k.hang, &k.watch} {
		if c.t != nil {
			c.t.Stop()
		}
	}
}

// grace is how long the task has after SIGTERM.
func (k *killing) grace() time.Duration {
	switch order := k.a.killOrder(); {
	case order != nil && order.grace > 0:
		return order.grace
	case k.a.order.Grace > 0:
		return k.a.order.Grace
	case k.a.settings.GraceSeconds > 0:
		return time.Duration(k.a.settings.GraceSeconds * float64(time.Second))
	}
	return defaultGrace
}

// slack is the part of the grace in which a task whose time is up may end of its own alarm, and run its callbacks.
func (k *killing) slack() time.Duration { return min(timeoutSlack, k.grace()/2) }

// overdue ends a task that has not ended of its own alarm. It is gone one grace after its time was up, not two.
func (k *killing) overdue() {
	grace := k.grace()
	k.a.kill(killOrder{
		reason: "it ran longer than its execution timeout of " + shortDuration(k.a.order.ExecutionTimeout),
		grace:  grace - k.slack(), within: grace,
	})
}

// begin sends SIGTERM.
func (k *killing) begin() {
	k.killed = nil
	k.a.log.System("warning", "ending the task: %s", k.a.killOrder().reason)
	_ = k.p.id.Signal(syscall.SIGTERM)
	grace := k.grace()
	k.after(&k.soft, min(grace/4, 2*time.Second))
	k.after(&k.hard, grace)
}

// force kills the tree; the second time, the host that does not report its end.
func (k *killing) force() {
	if k.forced && k.p.host != nil {
		k.a.w.log.Error("a host does not report the end of a killed task; it is killed", "pid", k.p.host.proc.PID())
		k.p.host.proc.Kill()
		return
	}
	k.forced = true
	k.a.wasForced.Store(true)
	if k.p.id.Alive() {
		daghost.KillTree(k.p.id.PID)
	}
	k.after(&k.hard, 10*time.Second)
}

// look looks after a running task: after its host or, of a spawned one, after its keeper, which cannot see its end while it
// is stopped.
func (k *killing) look() {
	if k.p.host != nil {
		k.checkHost()
		return
	}
	if k.p.id.Stopped() && k.p.root() != k.p.id.PID {
		_ = k.p.id.Signal(syscall.SIGCONT)
	}
	k.after(&k.watch, hostWatch)
}

// checkHost looks whether the process is gone without its host having said so. A host holds an end back for some seconds
// while it ends what the task has left behind; one that is stopped or hangs would hold it back for ever, and is killed.
func (k *killing) checkHost() {
	switch {
	case k.p.id.Alive():
		k.after(&k.watch, hostWatch)
	case k.gone.IsZero():
		k.gone = time.Now()
		k.after(&k.watch, reportLimit)
	default:
		k.unreported = true
		host := k.p.host.proc
		k.a.w.log.Error("a host does not report the end of a task whose process is gone; it is killed", "pid", host.PID(), "attempt", k.a.order.ID)
		k.a.log.System("warning", "the DAG host (process %d) did not report the task's end within %v and was killed", host.PID(), reportLimit)
		host.Kill()
	}
}

// checkHang looks at a fork that has not said anything yet. One that uses the processor is given more time: the machine
// may be busy. One that does not waits for something that the fork has left behind.
func (k *killing) checkHang() {
	if k.a.spoke.Load() || k.killed == nil {
		return
	}
	if unread, err := daghost.Unread(k.p.ch.task); err != nil || unread == 0 {
		return // it has read what to do: what it waits for now is its own affair
	}
	const again = 2 * time.Second
	ticks := daghost.CPUTicks(k.p.id.PID)
	k.waited += again
	if busy := k.ticks == 0 || ticks > k.ticks; busy && k.waited < hangMost-hangLimit {
		k.ticks = ticks + 1
		k.after(&k.hang, again)
		return
	}
	reason := fmt.Sprintf("a forked task process did nothing for %v and never read what to do", hangLimit)
	k.a.w.pool.Demote(k.a.key, reason)
	k.hung = reason + "; the file's tasks are spawned from now on"
	k.force()
}
