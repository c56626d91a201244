package plan

import (
	"encoding/json"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// An Event is something that happened to one DAG run. The set is closed: the types of this file.
type Event interface{ event() }

// RunStarted lets a queued DAG run begin: RunsToStart chose it.
type RunStarted struct{}

// Recovered looks at the whole run anew. A scheduler sends it once to every running run that it has rebuilt with NewRun;
// it repeats kill orders that may have been lost and costs work for every instance.
type Recovered struct{}

// Tick says that time has passed: retries and reschedules that are due become ready, dagrun_timeout is enforced.
// Decision.WakeAt says when the next one is worth sending; sending more of them is harmless and cheap.
type Tick struct{}

// ClockSet says that the clock was set forwards or, with a negative By, back: what is open is told in the time of the new clock,
// so that every wait and every timeout of the run lasts as long as it was to. What still lies ahead of now and cannot (a start, the
// end of a try) was told by a clock that was set back while nobody looked: it is taken to be now. By 0 looks for that alone.
type ClockSet struct{ By time.Duration }

// Admitted gives a scheduled instance its attempt: it becomes queued and its try number grows.
type Admitted struct {
	Key       run.Key
	AttemptID string // a new UUIDv7
}

// AttemptStarted says that the attempt's process exists.
type AttemptStarted struct {
	Key       run.Key
	AttemptID string
	At        time.Time
	PID       int
	Hostname  string
}

// AttemptFinished says how an attempt ended, a loss with its worker included (Outcome.Infra). An outcome of an attempt
// that is not the instance's current one, or of an instance that was marked meanwhile, changes nothing.
type AttemptFinished struct {
	Key     run.Key
	Outcome Outcome
}

// Resumed lets a deferred or input-awaiting instance go on: its trigger fired, timed out or its form was answered.
type Resumed struct {
	Key        run.Key
	NextMethod string          // empty: the one the deferral named
	NextKwargs json.RawMessage // nil: the ones the deferral named
}

// EndedByTrigger ends a deferred instance as its trigger said, without another process: success, skipped or failed.
type EndedByTrigger struct {
	Key        run.Key
	State      run.TaskState
	Reason     string
	MapLengths map[string]int // of the XComs the trigger pushed, as in Outcome
}

// PastChanged replaces what the run knows of its predecessor, for depends_on_past and wait_for_downstream.
type PastChanged struct{ Past *Past }

// Cleared lets instances run again. Keys with MapIndex -1 of a mapped task mean all its instances. Running ones are
// killed first. A finished run goes back to queued unless KeepRun is set. The caller widens the selection (downstream,
// setups) with dag.Index; unknown keys are ignored.
type Cleared struct {
	Keys    []run.Key
	KeepRun bool
	Reason  string // shown on killed attempts; empty: "cleared"
}

// Marked sets instances to success, failed or skipped by hand; running attempts of them are killed. Marking as success or
// skipped clears the failed and upstream_failed instances downstream, so that the run goes on.
type Marked struct {
	Keys   []run.Key
	State  run.TaskState
	Reason string // empty: "marked success", …
}

// RunMarked sets the state of the run by hand: success, failed (which cancels what runs) or queued (start it again).
type RunMarked struct {
	State  run.State
	Reason string
}

func (RunStarted) event()      {}
func (Recovered) event()       {}
func (Tick) event()            {}
func (ClockSet) event()        {}
func (Admitted) event()        {}
func (AttemptStarted) event()  {}
func (AttemptFinished) event() {}
func (Resumed) event()         {}
func (EndedByTrigger) event()  {}
func (PastChanged) event()     {}
func (Cleared) event()         {}
func (Marked) event()          {}
func (RunMarked) event()       {}
