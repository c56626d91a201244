package run

import (
	"fmt"
	"slices"
	"strings"
)

// A Transition is one legal change of state with the reason it exists. The tables below are the only place where the
// life of a DAG run and of a task instance is written down; the diagrams in docs/run-lifecycle.md are made from them.
type Transition[S ~string] struct {
	From, To S
	Why      string
}

// RunTransitions is the life of a DAG run.
var RunTransitions = []Transition[State]{
	{RunQueued, RunRunning, "max_active_runs allows"},
	{RunQueued, RunSuccess, "marked"},
	{RunQueued, RunFailed, "marked"},
	{RunRunning, RunSuccess, "leaves succeeded or skipped"},
	{RunRunning, RunFailed, "a leaf failed, timeout, deadlock"},
	{RunRunning, RunQueued, "marked"},
	{RunSuccess, RunQueued, "cleared"},
	{RunSuccess, RunFailed, "marked"},
	{RunFailed, RunQueued, "cleared"},
	{RunFailed, RunSuccess, "marked"},
}

// TaskTransitions is the life of a task instance as the scheduler drives it. What people do by hand is added by
// CanMoveTask: any instance may be cleared, or marked as success, failed or skipped.
var TaskTransitions = []Transition[TaskState]{
	{None, Scheduled, "trigger rule met"},
	{None, Success, "empty task"},
	{None, Skipped, "trigger rule, branch"},
	{None, UpstreamFailed, "trigger rule"},
	{None, Failed, "cannot be mapped"},
	{None, Removed, "mapped over fewer elements"},
	{Scheduled, Queued, "admitted"},
	{Scheduled, Skipped, "branch, fail_fast, run ended"},
	{Queued, Running, "process started"},
	{Queued, Success, "ended before its start was seen"},
	{Queued, Failed, "could not start"},
	{Queued, Skipped, "ended before its start was seen"},
	{Queued, UpForRetry, "could not start, tries left"},
	{Queued, UpForReschedule, "ended before its start was seen"},
	{Queued, Deferred, "ended before its start was seen"},
	{Queued, AwaitingInput, "ended before its start was seen"},
	{Queued, Removed, "ended before its start was seen"},
	{Queued, Scheduled, "lost with its worker"},
	{Queued, Restarting, "cleared"},
	{Running, Success, "done"},
	{Running, Failed, "no tries left"},
	{Running, Skipped, "it said so"},
	{Running, UpForRetry, "failed, tries left"},
	{Running, UpForReschedule, "sensor waits"},
	{Running, Deferred, "waits for a trigger"},
	{Running, AwaitingInput, "waits for a person"},
	{Running, Removed, "it said so"},
	{Running, Scheduled, "lost with its worker"},
	{Running, Restarting, "cleared"},
	{Restarting, None, "its process is gone"},
	{UpForRetry, Scheduled, "delay over"},
	{UpForRetry, Skipped, "trigger rule, fail_fast, run ended"},
	{UpForRetry, UpstreamFailed, "upstream changed"},
	{UpForReschedule, Scheduled, "time reached"},
	{UpForReschedule, Skipped, "trigger rule, fail_fast, run ended"},
	{UpForReschedule, UpstreamFailed, "upstream changed"},
	{Deferred, Scheduled, "trigger fired"},
	{Deferred, Success, "its trigger said so"},
	{Deferred, Skipped, "fail_fast, run ended, its trigger said so"},
	{Deferred, Failed, "run marked failed, its trigger said so"},
	{AwaitingInput, Scheduled, "answered"},
	{AwaitingInput, Skipped, "fail_fast, run ended"},
	{AwaitingInput, Failed, "run marked failed"},
}

// TaskStates lists every state of a task instance.
var TaskStates = []TaskState{
	None, Scheduled, Queued, Running, Success, Failed, Skipped, UpstreamFailed, UpForRetry, UpForReschedule, Deferred,
	AwaitingInput, Restarting, Removed,
}

// CanMove tells whether a DAG run may go from one state to another.
func CanMove(from, to State) bool { return has(RunTransitions, from, to) }

// CanMoveTask tells whether a task instance may go from one state to another, by itself or by hand.
func CanMoveTask(from, to TaskState) bool {
	if ByHand(to) && from != to {
		return true
	}
	if to == None { // cleared; what has a process is restarting first
		return from != None && from != Queued && from != Running
	}
	return has(TaskTransitions, from, to)
}

func has[S ~string](table []Transition[S], from, to S) bool {
	return slices.ContainsFunc(table, func(t Transition[S]) bool { return t.From == from && t.To == to })
}

// ByHand tells whether people may mark an instance with this state.
func ByHand(s TaskState) bool { return s == Success || s == Failed || s == Skipped }

// IsFinished tells whether the run has ended; a finished run leaves memory.
func (s State) IsFinished() bool { return s == RunSuccess || s == RunFailed }

// IsFinished tells whether nothing more happens to the instance by itself.
func (s TaskState) IsFinished() bool {
	switch s {
	case Success, Failed, Skipped, UpstreamFailed, Removed:
		return true
	default:
		return false
	}
}

// IsFailure tells whether the state counts as a failure of the run.
func (s TaskState) IsFailure() bool { return s == Failed || s == UpstreamFailed }

// HasAttempt tells whether an attempt of the instance is on its way, running or being killed: it holds its slots.
func (s TaskState) HasAttempt() bool { return s == Queued || s == Running || s == Restarting }

// IsWaiting tells whether the instance waits for its upstream tasks or for a time, so that it must be looked at when
// either changes.
func (s TaskState) IsWaiting() bool { return s == None || s == UpForRetry || s == UpForReschedule }

// IsSuspended tells whether the instance gave up its process and waits to be resumed from outside.
func (s TaskState) IsSuspended() bool { return s == Deferred || s == AwaitingInput }

// String is the state's name; the empty state reads "none".
func (s TaskState) String() string {
	if s == None {
		return "none"
	}
	return string(s)
}

// Mermaid writes a table as a Mermaid state diagram. start names the state in which life begins.
func Mermaid[S ~string](table []Transition[S], start S, finished func(S) bool) string {
	var b strings.Builder
	name := func(s S) string {
		if s == "" {
			return "none"
		}
		return string(s)
	}
	fmt.Fprintf(&b, "stateDiagram-v2\n    [*] --> %s\n", name(start))
	var ends []S
	for _, t := range table {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", name(t.From), name(t.To), t.Why)
		if finished(t.To) && !slices.Contains(ends, t.To) {
			ends = append(ends, t.To)
		}
	}
	for _, s := range ends {
		fmt.Fprintf(&b, "    %s --> [*]\n", name(s))
	}
	return b.String()
}
