package worker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

// A report gathers what a task says about itself.
type report struct {
	mu        sync.Mutex
	terminal  any // *protocol.SucceedTask, …; nil: it has not said how it ended
	rendered  json.RawMessage
	mapIndex  string
	notices   []string
	unkept    int // notices beyond those
	skip      []json.RawMessage
	callbacks []string // announced
	confirmed bool     // CallbacksDone came
	failures  []string // callbacks that raised
	broken    string   // how the task broke the protocol
}

// take records one message. It reports whether the message was for it.
func (r *report) take(m any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := m.(type) {
	case *protocol.SetRenderedFields:
		r.rendered = m.Fields
	case *protocol.SetRenderedMapIndex:
		r.mapIndex = m.Text
	case *protocol.AddNotice:
		r.notice(m.Text)
	case *protocol.SkipDownstreamTasks:
		r.skip = append(r.skip, m.Tasks...)
	case *protocol.CallbacksDone:
		r.confirmed, r.failures = true, m.Errors
	case *protocol.SucceedTask:
		r.end(m, m.Callbacks)
	case *protocol.TaskState:
		r.end(m, m.Callbacks)
	case *protocol.RetryTask:
		r.end(m, m.Callbacks)
	case *protocol.RescheduleTask, *protocol.DeferTask:
		r.end(m, nil)
	default:
		return false
	}
	return true
}

// maxNotices is how many notices of a task are kept.
const maxNotices = 20

// notice keeps what the task wants people to know, each text once. A task that says ever new things has its log for them.
func (r *report) notice(text string) {
	text = excerpt.Of(text, excerpt.Notice)
	switch {
	case slices.Contains(r.notices, text):
	case len(r.notices) == maxNotices:
		r.unkept++
	default:
		r.notices = append(r.notices, text)
	}
}

// end keeps the first terminal message.
func (r *report) end(m any, callbacks []string) {
	if r.terminal == nil {
		r.terminal, r.callbacks = m, callbacks
	}
}

func (r *report) breakOff(how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == "" {
		r.broken = how
	}
}

// An ending is how the process of an attempt came to its end.
type ending struct {
	exit *protocol.Exited // nil: it was not seen to end
	host string           // how the host ended, when it took the task with it
	// the host was killed because it did not report that the process was gone
	unreported bool
	killed     *killOrder // we were asked to end it
	forced     bool       // the end took a SIGKILL of ours
	hung       string     // the fork hung or died before the author's code, with the reason
	unhappy    string     // there never was a process, with the reason
	infra      bool       // … and it is not the author's fault
	unstarted  bool       // it is certain that no process has begun the attempt, nor will
	keeperLost bool       // the process was killed because its keeper had ended
	leftover   int
}

// judge makes the attempt's result from what the task reported and how its process ended.
func (a *attempt) judge(e ending) executor.Result {
	r := &a.report
	r.mu.Lock()
	defer r.mu.Unlock()
	res := executor.Result{
		AttemptID: a.order.ID, EndedAt: time.Now(), Hostname: a.w.hostname, State: run.Failed,
		Isolation: a.isolation, IsolationReason: a.isolationReason,
		Rendered: a.mask.MaskJSON(r.rendered), RenderedMapIndex: a.mask.Mask(r.mapIndex), SkipTasks: r.skip,
	}
	if a.started != nil {
		res.StartedAt, res.PID = &a.started.At, a.started.PID
	}
	for _, n := range r.notices {
		res.Notices = append(res.Notices, a.excerpt(n, excerpt.Notice))
	}
	if r.unkept > 0 {
		res.Notices = append(res.Notices, fmt.Sprintf("the task had %d more to say than the %d that are kept", r.unkept, maxNotices))
	}
	if x := e.exit; x != nil {
		res.CPUSeconds, res.MaxRSS = x.UTime+x.STime, x.MaxRSS
		if ws := syscall.WaitStatus(x.Status); ws.Signaled() {
			res.Signal = daghost.SignalName(ws.Signal())
		} else if x.Status >= 0 {
			code := ws.ExitStatus()
			res.ExitCode = &code
		}
	}
	a.fillOutcome(&res, e)
	switch {
	case res.State == run.Success:
		res.Reason = e.afterSuccess()
	case e.killed != nil:
		res.Reason = e.killed.words(e.forced)
		res.Infra = e.killed.infra
		// Only a stop may go uncounted: whatever else ends an attempt may end the next one too, and without end.
		res.Uncounted = e.killed.stop && (e.killed.wished || a.started == nil || e.unstarted)
	}
	if res.Infra {
		res.Final = false
		if res.State == run.UpForRetry { // what a task said that was asked to end, as good as one that could not
			res.State = run.Failed
		}
	} else {
		res.CallbacksOwed = a.owed(&res)
	}
	res.Reason = a.excerpt(res.Reason, excerpt.Reason)
	return res
}

// fillOutcome sets state and reason, with the report locked.
func (a *attempt) fillOutcome(res *executor.Result, e ending) {
	r := &a.report
	res.Reported = true
	switch m := r.terminal.(type) {
	case *protocol.SucceedTask:
		res.State, res.XComs, res.OutletEvents = run.Success, m.XComs, m.OutletEvents
		a.endDate(res, m.EndDate)
	case *protocol.TaskState:
		res.State, res.Reason, res.XComs = run.TaskState(m.State), m.Reason, m.XComs
		res.Final = res.State == run.Failed
		a.endDate(res, m.EndDate)
	case *protocol.RetryTask:
		res.State, res.Reason, res.XComs = run.UpForRetry, m.Reason, m.XComs
		a.endDate(res, m.EndDate)
	case *protocol.RescheduleTask:
		res.State, res.RescheduleAt = run.UpForReschedule, &m.RescheduleDate
		a.endDate(res, m.EndDate)
	case *protocol.DeferTask:
		res.State, res.Defer = run.Deferred, m
		if m.Input != nil {
			res.State = run.AwaitingInput
		}
	default:
		if r.confirmed && a.startup.Kind == protocol.KindCallback {
			res.State = run.Success
			if len(r.failures) > 0 {
				res.State, res.Final = run.Failed, true
				res.Reason = "the callback raised: " + strings.Join(r.failures, ", ")
			}
			return
		}
		res.Reported = false
		res.Reason, res.Infra = a.explain(e)
	}
}

// afterSuccess says how a process ended badly whose task had succeeded before, which it still has; empty when it ended well.
func (e ending) afterSuccess() string {
	switch {
	case e.killed != nil && e.forced:
		return "it had succeeded; what went on in its process (a thread, an atexit hook, a callback) was killed: " + e.killed.reason
	case e.killed != nil:
		return "it had succeeded; what went on in its process (a thread, an atexit hook, a callback) was ended: " + e.killed.reason
	case e.exit == nil || e.exit.Status <= 0:
		return ""
	}
	ws := syscall.WaitStatus(e.exit.Status)
	if ws.Signaled() {
		return "it had succeeded; its process was " + daghost.EndingOf(ws) + " after that"
	}
	return "it had succeeded; its process ended with " + daghost.EndingOf(ws) + " after that"
}

// endDate takes the task's word for when it ended, if it can be true: callbacks may have run for long after it.
func (a *attempt) endDate(res *executor.Result, at time.Time) {
	if a.started != nil && at.After(a.started.At) && at.Before(res.EndedAt) {
		res.EndedAt = at
	}
}

// explain says why a process ended that did not say so itself, and whether that is the installation's fault.
func (a *attempt) explain(e ending) (reason string, infra bool) {
	switch {
	case e.unhappy != "":
		return e.unhappy, e.infra
	case e.hung != "":
		return e.hung, true
	case e.unstarted:
		e.unstarted = false
		how, _ := a.explain(e)
		return "its process was gone before it had begun: " + how, true
	case a.report.broken != "":
		return a.report.broken, false
	case e.unreported:
		return fmt.Sprintf("lost: its process was gone and its DAG host, which hung or was stopped, did not say how it had ended within %v",
			reportLimit), true
	case e.host != "":
		return "lost with its DAG host: " + e.host, true
	case e.exit == nil || e.exit.Status < 0:
		return "the process was lost: its end was not seen", true
	}
	ws := syscall.WaitStatus(e.exit.Status)
	switch {
	case e.keeperLost && !e.forced:
		return a.parentKilled(e.exit.PID, ws), false
	case ws.Signaled() && ws.Signal() == syscall.SIGKILL && !e.forced:
		// Before its first word it had not begun the author's code: nothing of the task's own was lost.
		return a.w.oom.Explain(e.exit.PID), !a.spoke.Load()
	case ws.Signaled():
		return "killed by " + daghost.SignalName(ws.Signal()), false
	case ws.ExitStatus() == protocol.ExitClosed:
		return "the task closed file descriptors that are not its own, the channel to Ostro among them, so nobody knows how it ended", false
	case ws.ExitStatus() == 0:
		return "the process ended with exit code 0 and without a result, as after os._exit(0)", false
	}
	return fmt.Sprintf("exit code %d", ws.ExitStatus()), false
}

// unfinished says that callbacks which the task had announced did not come to their end in its process, and how that ended;
// empty when they did.
func (a *attempt) unfinished(res *executor.Result, e ending) string {
	r := &a.report
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.terminal == nil || r.confirmed || len(r.callbacks) == 0 {
		return ""
	}
	how := "its process ended first"
	switch {
	case e.killed != nil:
		how = e.killed.words(e.forced)
	case e.host != "":
		how = "its process was lost with its DAG host: " + e.host
	case e.exit != nil && e.exit.Status >= 0:
		ws := syscall.WaitStatus(e.exit.Status)
		how = "its process ended with " + daghost.EndingOf(ws)
		if ws.Signaled() {
			how = "its process was " + daghost.EndingOf(ws)
		}
	}
	words := strings.Join(r.callbacks, ", ") + " did not come to an end: " + how
	if len(res.CallbacksOwed) > 0 {
		words += "; it is run again in a process of its own"
	}
	return a.forPeople(words)
}

// parentKilled says how a task ended whose keeper did.
func (a *attempt) parentKilled(pid int, ws syscall.WaitStatus) string {
	how := daghost.EndingOf(ws)
	if ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		how = a.w.oom.Explain(pid)
	}
	return fmt.Sprintf("the task's parent, process %d, which only watches over it, was gone, and the task was ended with it: %s; "+
		"a task that kills its parent process (os.getppid()) does that", pid, how)
}

// owed names the callbacks that someone else has to run: announced and not confirmed, or, when the process died without
// a word, those that would have been next.
func (a *attempt) owed(res *executor.Result) []string {
	r := &a.report
	if r.terminal != nil {
		if r.confirmed {
			return nil
		}
		return r.callbacks
	}
	if res.State != run.Failed || a.startup.Kind != protocol.KindTask {
		return nil
	}
	next := "on_failure_callback"
	if a.startup.Context.ShouldRetry {
		next = "on_retry_callback"
	}
	if slices.Contains(a.order.Callbacks, next) {
		return []string{next}
	}
	return nil
}
