package plan

import (
	"cmp"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// This file follows attempts: admitted, started, ended, and tried again.

func (d *decider) admitted(ev Admitted) {
	in := d.find(ev.Key)
	if in == nil || in.ti.State != run.Scheduled || d.row.State != run.RunRunning {
		return
	}
	d.move(in, run.Queued, "")
	at := d.now
	ti := &in.ti
	ti.AttemptID, ti.QueuedAt = ev.AttemptID, &at
	ti.EndDate, ti.Hostname, ti.PID = nil, "", 0
	if !in.resumes() {
		ti.TryNumber++
		ti.StartDate = nil
	}
}

// resumes tells whether the instance continues a try that gave up its process: a sensor that rescheduled itself or a
// deferred task. As in Airflow it is the same try, with the same number and start date, in a process of its own.
func (in *instance) resumes() bool { return in.ti.RescheduleCount > 0 || in.ti.NextMethod != "" }

func (d *decider) attemptStarted(ev AttemptStarted) {
	in := d.find(ev.Key)
	if in == nil || in.ti.AttemptID != ev.AttemptID || in.ti.State != run.Queued {
		return
	}
	d.move(in, run.Running, "")
	in.ti.Hostname, in.ti.PID = ev.Hostname, ev.PID
	setStart(in, &ev.At)
}

func setStart(in *instance, at *time.Time) {
	if at != nil && in.ti.StartDate == nil {
		start := *at
		in.ti.StartDate = &start
	}
}

func (d *decider) attemptFinished(ev AttemptFinished) {
	in, o := d.find(ev.Key), ev.Outcome
	if in == nil || in.ti.AttemptID != o.AttemptID || !in.ti.State.HasAttempt() {
		return
	}
	d.touch(in)
	if in.ti.State == run.Restarting {
		d.resetTry(in)
		d.move(in, run.None, "")
		d.judgeLater(in)
		return
	}
	if o.EndedAt.IsZero() {
		o.EndedAt = d.now
	}
	setStart(in, o.StartedAt)
	if !o.Infra {
		in.ti.NextMethod, in.ti.NextKwargs = "", nil // the attempt has used them
	}
	in.ti.RenderedMapIndex = cmp.Or(o.RenderedMapIndex, in.ti.RenderedMapIndex)
	switch o.State {
	case run.Success, run.Skipped:
		d.rememberLengths(in, o.MapLengths)
		d.endAt(in, o.State, o.Reason, o.EndedAt)
		d.skipTargets(o.SkipTasks, in.ti.TaskID)
	case run.Removed:
		d.endAt(in, o.State, o.Reason, o.EndedAt)
	case run.UpForReschedule:
		d.reschedule(in, o)
	case run.Deferred, run.AwaitingInput:
		d.suspend(in, o)
	default:
		d.failed(in, o)
	}
}

// rememberLengths keeps the lengths of values that mapped tasks unfold by.
func (d *decider) rememberLengths(in *instance, lengths map[string]int) {
	if len(d.x.Mappers(in.task.pos)) == 0 {
		return
	}
	for key, n := range lengths {
		d.lengths[XComRef{in.ti.TaskID, key, in.ti.MapIndex}] = n
	}
}

// skippedByPrefix begins the reason of an instance that a task before it has skipped; the task's id follows. Clearing the
// instance alone skips it again.
const skippedByPrefix = "skipped by "

// skipTargets skips what an attempt asked to skip, unless it has begun already.
func (d *decider) skipTargets(targets []SkipTarget, by string) {
	for _, target := range targets {
		for _, in := range d.selected([]run.Key{{TaskID: target.TaskID, MapIndex: target.MapIndex}}) {
			if in.ti.State.IsWaiting() || in.ti.State == run.Scheduled {
				d.end(in, run.Skipped, skippedByPrefix+by)
			}
		}
	}
}

// reschedule lets an instance sleep without a process; the try goes on when it wakes.
func (d *decider) reschedule(in *instance, o Outcome) {
	d.move(in, run.UpForReschedule, o.Reason)
	in.ti.RescheduleCount++
	d.wait(in, cmp.Or(deref(o.NextAt), o.EndedAt))
}

// suspend lets an instance wait for its trigger or for a person; the try goes on afterwards.
func (d *decider) suspend(in *instance, o Outcome) {
	d.move(in, o.State, o.Reason)
	in.ti.NextMethod, in.ti.NextKwargs = o.NextMethod, o.NextKwargs
}

func (d *decider) resumed(ev Resumed) {
	in := d.find(ev.Key)
	if in == nil || !in.ti.State.IsSuspended() {
		return
	}
	d.move(in, run.Scheduled, "")
	at := d.now
	in.ti.ScheduledAt = &at
	in.ti.NextMethod = cmp.Or(ev.NextMethod, in.ti.NextMethod)
	if ev.NextKwargs != nil {
		in.ti.NextKwargs = ev.NextKwargs
	}
}

// endedByTrigger ends a suspended instance without a process: its trigger said how (end_from_trigger).
func (d *decider) endedByTrigger(ev EndedByTrigger) {
	in := d.find(ev.Key)
	if in == nil || !in.ti.State.IsSuspended() {
		return
	}
	d.touch(in)
	in.ti.NextMethod, in.ti.NextKwargs = "", nil
	given := in.task.spec.Callbacks
	switch ev.State {
	case run.Success:
		d.rememberLengths(in, ev.MapLengths)
		d.end(in, run.Success, ev.Reason)
		d.oweIf(given.OnSuccess, in, "on_success_callback", ev.Reason)
	case run.Skipped:
		d.end(in, run.Skipped, ev.Reason)
		d.oweIf(given.OnSkipped, in, "on_skipped_callback", ev.Reason)
	case run.Failed:
		d.end(in, run.Failed, ev.Reason)
		d.oweIf(given.OnFailure, in, "on_failure_callback", ev.Reason)
		d.failFast(in)
	}
}

func (d *decider) oweIf(given bool, in *instance, kind, reason string) {
	if given {
		d.owe(in, kind, reason)
	}
}

// failed ends an attempt that went wrong: the instance is tried again or fails.
func (d *decider) failed(in *instance, o Outcome) {
	ti, spec := &in.ti, in.task.spec
	if o.Infra && (o.Uncounted || ti.InfraRetries < d.opt.Limits.maxInfraRetries()) {
		d.lost(in, o)
		return
	}
	if !o.Final && ti.TryNumber <= ti.MaxTries {
		try := in.authorTry()
		d.move(in, run.UpForRetry, o.Reason)
		end := notBefore(o.EndedAt, ti.StartDate)
		ti.EndDate = &end
		d.forgetTry(in)
		d.wait(in, end.Add(d.retryDelay(in, try)))
		if o.Infra && spec.Callbacks.OnRetry {
			d.owe(in, "on_retry_callback", o.Reason)
		}
		return
	}
	reason := o.Reason
	if o.Infra {
		reason = fmt.Sprintf("%s (lost %d times, no tries left)", o.Reason, ti.InfraRetries+1)
		if spec.Callbacks.OnFailure {
			d.owe(in, "on_failure_callback", reason)
		}
	}
	ti.NextMethod, ti.NextKwargs = "", nil
	d.endAt(in, run.Failed, reason, o.EndedAt)
	d.failFast(in)
}

// lost makes an instance ready again at once after its attempt vanished with its worker.
func (d *decider) lost(in *instance, o Outcome) {
	d.move(in, run.Scheduled, fmt.Sprintf("attempt %d was lost: %s", in.ti.TryNumber, cmp.Or(o.Reason, "its worker died")))
	at := d.now
	in.ti.ScheduledAt = &at
	if !o.Uncounted {
		in.ti.InfraRetries++
	}
	if !in.resumes() { // one that resumed a try resumes it again, with what it was resumed with
		in.ti.MaxTries++
	}
}

// authorTry is which of the author's tries the current attempt is, from 1: attempts lost to workers raised MaxTries with
// the try number.
func (in *instance) authorTry() int {
	return max(1, in.task.spec.Retries-(in.ti.MaxTries-in.ti.TryNumber))
}

func (d *decider) retryDelay(in *instance, try int) time.Duration {
	if override := d.opt.Limits.RetryDelay; override != nil {
		return *override
	}
	spec := in.task.spec
	policy := run.Retry{
		Delay:     spec.RetryDelay.Duration(),
		Factor:    spec.RetryExponentialFactor,
		GlobalMax: d.opt.Limits.MaxRetryDelay,
	}
	if spec.MaxRetryDelay != nil {
		policy.Max = spec.MaxRetryDelay.Duration()
	}
	return policy.Wait(try, in.ti.Key, d.row.LogicalDate)
}

// wait sets the time before which a waiting instance does not go on. Its upstream may have changed while it ran, so it is
// judged at once.
func (d *decider) wait(in *instance, until time.Time) {
	in.ti.NextAt = &until
	d.timers.add(until, in)
	d.judgeLater(in)
}

// forgetTry drops what belongs to one try: a retry begins anew.
func (d *decider) forgetTry(in *instance) {
	in.ti.RescheduleCount = 0
	in.ti.NextMethod, in.ti.NextKwargs = "", nil
}

// resetTry drops all traces of former attempts but their number.
func (d *decider) resetTry(in *instance) {
	d.forgetTry(in)
	ti := &in.ti
	ti.ScheduledAt, ti.QueuedAt, ti.StartDate, ti.EndDate, ti.NextAt = nil, nil, nil, nil, nil
	ti.Hostname, ti.PID, ti.RenderedMapIndex = "", 0, ""
}

// owe orders a task-level callback that no task process is left to run.
func (d *decider) owe(in *instance, kind, reason string) {
	k := in.ti.Key
	d.out.Callbacks = append(d.out.Callbacks, Callback{
		DAGID: k.DAGID, RunID: k.RunID, Task: &k, AttemptID: in.ti.AttemptID, Kind: kind, Reason: reason,
	})
}

func deref(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
