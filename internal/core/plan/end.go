package plan

import (
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// This file begins and ends DAG runs.

// Reasons of DAG-level callbacks, as Airflow names them.
const (
	reasonSuccess  = "success"
	reasonFailure  = "task_failure"
	reasonDeadlock = "all_tasks_deadlocked"
	reasonTimeout  = "timed_out"
)

func (d *decider) start() {
	if d.row.State != run.RunQueued {
		return
	}
	d.touchRow()
	at := d.now
	d.row.State, d.row.StartDate, d.row.EndDate = run.RunRunning, &at, nil
	d.judgeEverything()
}

func (d *decider) recovered() {
	d.each(func(in *instance) {
		if in.ti.State == run.Restarting {
			d.kill(in, "cleared")
		}
	})
	d.judgeEverything()
}

func (d *decider) judgeEverything() {
	for p := range d.tasks {
		d.judgeWhole(&d.tasks[p])
	}
}

// deadline is when dagrun_timeout ends the run.
func (d *decider) deadline() (time.Time, bool) {
	timeout := d.x.DAG.DagrunTimeout
	if timeout == nil || d.row.StartDate == nil {
		return time.Time{}, false
	}
	return d.row.StartDate.Add(timeout.Duration()), true
}

// conclude ends the run when it is over, out of time, or cannot go on.
func (d *decider) conclude() {
	if d.row.State != run.RunRunning {
		return
	}
	if d.unfinished == 0 {
		d.concludeByLeaves()
		return
	}
	if deadline, ok := d.deadline(); ok && !d.now.Before(deadline) {
		d.timeOut()
		return
	}
	if d.waiting < d.unfinished {
		return
	}
	if _, sleeping := d.timers.next(); !sleeping && !d.pastHoldsBack() {
		d.endRun(run.RunFailed, reasonDeadlock)
	}
}

// concludeByLeaves gives the run the state its leaves deserve.
func (d *decider) concludeByLeaves() {
	for _, p := range d.x.StateLeaves() {
		for _, in := range d.tasks[p].insts {
			d.visits++
			if in.ti.State.IsFailure() {
				d.endRun(run.RunFailed, reasonFailure)
				return
			}
		}
	}
	d.endRun(run.RunSuccess, reasonSuccess)
}

func (d *decider) timeOut() {
	reason := fmt.Sprintf("dagrun_timeout: the run took longer than %s", d.x.DAG.DagrunTimeout.Duration())
	d.each(func(in *instance) {
		if !in.ti.State.IsFinished() {
			d.stop(in, run.Skipped, reason)
		}
	})
	d.endRun(run.RunFailed, reasonTimeout)
}

// pastHoldsBack tells whether an instance waits for the previous run, so that standing still is no deadlock.
func (d *decider) pastHoldsBack() bool {
	if !d.x.DependsOnPast() {
		return false
	}
	for p := range d.tasks {
		if t := &d.tasks[p]; t.waiting > 0 && d.pastBlocks(t) != "" {
			return true
		}
	}
	return false
}

// endRun ends the run and sees to its callbacks.
func (d *decider) endRun(to run.State, reason string) {
	d.setRunEnd(to)
	spec := d.x.DAG
	if to == run.RunSuccess && spec.HasOnSuccessCallback {
		d.oweRun("on_success_callback", reason)
	}
	if to != run.RunFailed {
		return
	}
	if spec.HasOnFailureCallback {
		d.oweRun("on_failure_callback", reason)
	}
	if limit, failed := spec.MaxConsecutiveFailedRuns, d.opt.FailedBefore+1; limit > 0 && failed >= limit {
		d.out.PauseDAG = fmt.Sprintf("%d runs in a row have failed (max_consecutive_failed_dag_runs %d)", failed, limit)
	}
}

func (d *decider) setRunEnd(to run.State) {
	d.touchRow()
	at := notBefore(d.now, d.row.StartDate)
	d.row.State, d.row.EndDate = to, &at
	if d.row.StartDate == nil {
		d.row.StartDate = &at
	}
}

func (d *decider) oweRun(kind, reason string) {
	d.out.Callbacks = append(d.out.Callbacks, Callback{DAGID: d.row.DAGID, RunID: d.row.RunID, Kind: kind, Reason: reason})
}

// stop ends an instance against its will: its attempt, if it has one, is killed.
func (d *decider) stop(in *instance, to run.TaskState, reason string) {
	if in.ti.State.HasAttempt() {
		d.kill(in, reason)
	}
	d.end(in, to, reason)
}

// failFast stops everything else in a DAG with fail_fast after a task has failed: what runs fails, what has not begun is
// skipped. Teardowns are left to their rule.
func (d *decider) failFast(failed *instance) {
	if !d.x.DAG.FailFast || failed.task.spec.Teardown {
		return
	}
	reason := fmt.Sprintf("fail_fast: task %s failed", failed.ti.TaskID)
	d.each(func(in *instance) {
		switch {
		case in.ti.State.IsFinished() || in.task.spec.Teardown:
		case in.ti.State.HasAttempt():
			d.stop(in, run.Failed, reason)
		default:
			d.stop(in, run.Skipped, reason)
		}
	})
}
