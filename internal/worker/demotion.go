package worker

import (
	"fmt"
	"time"
)

// A task shares its host with all others of its file: one that kills it, or has the kernel kill it for want of memory,
// takes the others along. The first time that is bad luck, and they are all run again. The second time within lossWindow
// something in the file does it, and nobody can say which task. So from then on each runs in a process of its own: the
// guilty one fails alone, and the others succeed.

// lossWindow is how soon after a host a second one of the same code must be lost.
const lossWindow = 10 * time.Minute

// noteLoss draws the conclusions from the end of a host, with the lock held.
func (p *pool) noteLoss(h *host) {
	select {
	case <-h.ready:
	default:
		return // of the import: a process of its own would fare no better
	}
	if h.err != nil || h.users == 0 || p.closed || h.proc.Left() || h.proc.Killed() {
		return
	}
	code, now, ending := h.key.code(), time.Now(), h.proc.Ending()
	p.logger.Warn("a DAG host was lost with the tasks that ran on it", "file", h.key.file, "pid", h.proc.PID(), "users", h.users, "ending", ending)
	if last, ok := p.losses.Get(code); ok && now.Sub(last) < lossWindow {
		p.demote(h.key, fmt.Sprintf("two DAG hosts of the file %s were lost within %s while its tasks ran on them (the last: %s); one of its tasks may do that",
			h.key.file, shortDuration(max(now.Sub(last).Round(time.Second), time.Second)), ending))
	}
	p.losses.Put(code, now)
}

// Retire has a host used for no further attempt.
func (p *pool) Retire(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retire(h)
}

// Demoted returns why code is run by spawn; empty when it is not.
func (p *pool) Demoted(k hostKey) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	reason, _ := p.demoted.Get(k.code())
	return reason
}

// Demote has code run by spawn from now on.
func (p *pool) Demote(k hostKey, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.demote(k, reason)
}

// demote is Demote with the lock held.
func (p *pool) demote(k hostKey, reason string) {
	if _, known := p.demoted.Get(k.code()); !known {
		p.demoted.Put(k.code(), reason)
		p.logger.Warn("tasks of a file will be spawned, not forked", "file", k.file, "reason", reason)
	}
	if h := p.hosts[k]; h != nil {
		p.retire(h)
	}
}
