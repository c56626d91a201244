package plan

import (
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

func TestARunGoesThroughItsTasksAndEnds(t *testing.T) {
	h := start(t, build(t, `a:
		b: a
		c: a
		d: b c`))
	h.want("a=scheduled b=none c=none d=none", run.RunRunning)
	h.play("a", run.Success)
	h.want("a=success b=scheduled c=scheduled d=none", run.RunRunning)
	h.play("b", run.Success)
	h.want("a=success b=success c=scheduled d=none", run.RunRunning)
	h.play("c d", run.Success)
	h.want("a=success b=success c=success d=success", run.RunSuccess)
	if a := h.instance("a"); a.TryNumber != 1 || a.PID != 1 || a.StartDate == nil || a.EndDate == nil {
		t.Errorf("a lacks something: %+v", a)
	}
}

func TestTheCommitThatEndsATaskMakesTheNextReady(t *testing.T) {
	h := start(t, build(t, "a:\nb: a"))
	h.run("a")
	h.finish("a", run.Success)
	if len(h.last.Tasks) != 2 || len(h.last.Ready) != 1 || h.last.Ready[0].TaskID != "b" {
		t.Errorf("changes %v, ready %v", h.last.Tasks, h.last.Ready)
	}
}

func TestJoinWritesEveryRowOnce(t *testing.T) {
	h := start(t, build(t, "a:\nb: a"))
	h.run("a")
	first := Decide(h.r, AttemptFinished{Key: h.key("a"), Outcome: Outcome{AttemptID: "a1", State: run.Success, EndedAt: h.now}}, h.now)
	second := Decide(h.r, Admitted{Key: h.key("b"), AttemptID: "x"}, h.now)
	joined := h.r.Join(first, second)
	h.apply(joined) // checks the guards
	if len(joined.Tasks) != 2 || len(joined.Ready) != 0 {
		t.Fatalf("joined: %+v", joined)
	}
	h.decide(AttemptStarted{Key: h.key("b"), AttemptID: "x", At: h.now})
	h.finish("b", run.Success)
	h.want("a=success b=success", run.RunSuccess)
}

func TestAFailureSpreads(t *testing.T) {
	h := start(t, build(t, `a:
		b: a
		c: b
		e:
		always: c`, rule("always", dag.AllDone)))
	h.play("a", run.Failed)
	h.want("a=failed b=upstream_failed c=upstream_failed e=scheduled always=scheduled", run.RunRunning)
	if got, want := h.instance("b").Reason, "an upstream task failed"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	h.play("e always", run.Success)
	h.want("a=failed b=upstream_failed c=upstream_failed e=success always=success", run.RunSuccess)
}

func TestARunFailsByItsLeaves(t *testing.T) {
	h := start(t, build(t, "a:\nb:", func(d *dag.DAG) { d.HasOnFailureCallback = true; d.MaxConsecutiveFailedRuns = 3 }),
		func(o *Options) { o.FailedBefore = 2 })
	h.play("a", run.Success)
	h.play("b", run.Failed)
	h.want("a=success b=failed", run.RunFailed)
	if want := []string{"dag on_failure_callback: task_failure"}; !equal(h.callbacks, want) {
		t.Errorf("callbacks %v", h.callbacks)
	}
	if h.last.PauseDAG == "" {
		t.Error("three failed runs in a row do not pause the DAG")
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestABranchSkipsWhatItDidNotChoose(t *testing.T) {
	h := start(t, build(t, `branch:
		left: branch
		right: branch
		after: right
		join: left after`, rule("join", dag.NoneFailedMinOneSuccess)))
	h.play("branch", run.Success, func(o *Outcome) { o.SkipTasks = []SkipTarget{{TaskID: "right", MapIndex: -1}} })
	h.want("branch=success left=scheduled right=skipped after=skipped join=none", run.RunRunning)
	h.play("left join", run.Success)
	h.want("branch=success left=success right=skipped after=skipped join=success", run.RunSuccess)
}

func TestEmptyTasksCompleteWithoutAProcess(t *testing.T) {
	empty := task("begin mid end", func(t *dag.Task) { t.Kind = dag.KindEmpty })
	h := start(t, build(t, `begin:
		mid: begin
		work: mid
		end: work`, empty))
	h.want("begin=success mid=success work=scheduled end=none", run.RunRunning)
	h.play("work", run.Success)
	h.want("begin=success mid=success work=success end=success", run.RunSuccess)
	if end := h.instance("end"); end.TryNumber != 1 || end.AttemptID != "" || end.QueuedAt != nil {
		t.Errorf("end: %+v", end)
	}

	h = start(t, build(t, "only:", task("only", func(t *dag.Task) { t.Kind = dag.KindEmpty; t.Callbacks.OnSuccess = true })))
	h.want("only=scheduled", run.RunRunning)
}

func TestARunWithoutInstancesSucceedsAtOnce(t *testing.T) {
	late := epoch.Add(time.Hour)
	h := start(t, build(t, "a:", task("a", func(t *dag.Task) { t.StartDate = &late })))
	h.want("", run.RunSuccess)
}

func TestAFailedAttemptIsTriedAgainAfterItsDelay(t *testing.T) {
	h := start(t, build(t, "a:", task("a", func(t *dag.Task) { t.Retries, t.RetryDelay = 1, dag.Seconds(time.Minute) })))
	if !h.r.WillRetry(h.key("a")) {
		t.Error("the first try would be retried")
	}
	h.play("a", run.UpForRetry, func(o *Outcome) { o.Reason = "exit code 3" })
	h.want("a=up_for_retry", run.RunRunning)
	if want := epoch.Add(time.Minute); !h.last.WakeAt.Equal(want) {
		t.Errorf("wake at %s, want %s", h.last.WakeAt, want)
	}
	if got, want := h.r.Why(h.key("a"), h.now), "try 1 failed (exit code 3), the next is due in 1m0s, at 00:01:00 UTC"; got != want {
		t.Errorf("why: %q, want %q", got, want)
	}
	h.pass(59 * time.Second)
	h.want("a=up_for_retry", run.RunRunning)
	h.pass(time.Second)
	h.want("a=scheduled", run.RunRunning)
	h.run("a")
	if h.r.WillRetry(h.key("a")) {
		t.Error("the last try would be retried")
	}
	h.finish("a", run.Failed)
	h.want("a=failed", run.RunFailed)
	if a := h.instance("a"); a.TryNumber != 2 || a.MaxTries != 1 {
		t.Errorf("try %d, max tries %d", a.TryNumber, a.MaxTries)
	}
}

func TestAFinalFailureIsNotTriedAgain(t *testing.T) {
	h := start(t, build(t, "a:", task("a", func(t *dag.Task) { t.Retries = 5 })))
	h.play("a", run.Failed, func(o *Outcome) { o.Final = true })
	h.want("a=failed", run.RunFailed)
}

func TestALostAttemptIsRepeatedAtOnceAndIsNotTheAuthors(t *testing.T) {
	limit := func(o *Options) { o.Limits.MaxInfraRetries = 2 }
	x := build(t, "a:", task("a", func(t *dag.Task) { t.Retries, t.Callbacks.OnFailure, t.Callbacks.OnRetry = 1, true, true }))
	h := start(t, x, limit)
	lost := func(o *Outcome) { o.Infra, o.Reason = true, "the worker was killed" }
	h.play("a a", run.Failed, lost)
	h.want("a=scheduled", run.RunRunning)
	if a := h.instance("a"); a.TryNumber != 2 || a.MaxTries != 3 || a.InfraRetries != 2 {
		t.Errorf("after two losses: %+v", a)
	}
	h.play("a", run.Failed, lost) // beyond the cap a loss is a failure
	h.want("a=scheduled", run.RunRunning)
	h.play("a", run.Failed, lost)
	h.want("a=failed", run.RunFailed)
	want := []string{"a on_retry_callback: the worker was killed", "a on_failure_callback: the worker was killed (lost 3 times, no tries left)"}
	if !equal(h.callbacks, want) {
		t.Errorf("callbacks %q", h.callbacks)
	}
}

func TestAnAttemptThatEndsWithAStoppedServerCountsNowhere(t *testing.T) {
	limit := func(o *Options) { o.Limits.MaxInfraRetries = 1 }
	h := start(t, build(t, "a:", task("a", func(t *dag.Task) { t.Retries = 1 })), limit)
	for range 5 {
		h.play("a", run.Failed, func(o *Outcome) { o.Infra, o.Uncounted, o.Reason = true, true, "the server was stopped" })
		h.want("a=scheduled", run.RunRunning)
	}
	if a := h.instance("a"); a.TryNumber != 5 || a.MaxTries != 6 || a.InfraRetries != 0 {
		t.Errorf("after five stops: %+v", a)
	}
	h.play("a", run.Failed)
	h.want("a=scheduled", run.RunRunning)
	h.play("a", run.Failed)
	h.want("a=failed", run.RunFailed)
}

func TestAnOutcomeOfAnotherAttemptChangesNothing(t *testing.T) {
	h := start(t, build(t, "a:"))
	h.run("a")
	for _, ev := range []Event{
		AttemptFinished{Key: h.key("a"), Outcome: Outcome{AttemptID: "other", State: run.Failed}},
		AttemptStarted{Key: h.key("a"), AttemptID: "other"},
		AttemptFinished{Key: h.key("nobody"), Outcome: Outcome{AttemptID: "a1", State: run.Failed}},
		Admitted{Key: h.key("a"), AttemptID: "a9"},
	} {
		if d := h.decide(ev); !d.IsZero() {
			t.Errorf("%T changed %+v", ev, d)
		}
	}
	h.finish("a", run.Success)
	h.finish("a", run.Failed)
	h.want("a=success", run.RunSuccess)
}

func TestASensorThatReschedulesKeepsItsTries(t *testing.T) {
	h := start(t, build(t, "a:", task("a", func(t *dag.Task) { t.Retries = 1; t.RetryDelay = dag.Seconds(time.Hour) })))
	began := h.now
	for range 3 {
		next := h.now.Add(time.Minute)
		h.play("a", run.UpForReschedule, func(o *Outcome) { o.NextAt = &next })
		h.want("a=up_for_reschedule", run.RunRunning)
		h.pass(time.Minute)
	}
	h.run("a")
	if a := h.instance("a"); !a.StartDate.Equal(began) || a.RescheduleCount != 3 {
		t.Errorf("started %s, rescheduled %d times", a.StartDate, a.RescheduleCount)
	}
	h.finish("a", run.Failed)
	h.want("a=up_for_retry", run.RunRunning)
	h.pass(time.Hour)
	h.play("a", run.Failed)
	h.want("a=failed", run.RunFailed)
}

func TestADeferredTaskGoesOnWhereItSaid(t *testing.T) {
	h := start(t, build(t, "a:"))
	h.play("a", run.Deferred, func(o *Outcome) { o.NextMethod, o.NextKwargs = "resume", []byte(`{"x":1}`) })
	h.want("a=deferred", run.RunRunning)
	h.decide(Resumed{Key: h.key("a"), NextKwargs: []byte(`{"event":2}`)})
	h.run("a")
	if a := h.instance("a"); a.NextMethod != "resume" || string(a.NextKwargs) != `{"event":2}` {
		t.Errorf("resumes with %q %s", a.NextMethod, a.NextKwargs)
	}
	h.finish("a", run.Success)
	if a := h.instance("a"); a.NextMethod != "" {
		t.Errorf("a finished task still resumes with %q", a.NextMethod)
	}
}

func TestATimeoutEndsTheRun(t *testing.T) {
	limit := dag.Seconds(time.Hour)
	h := start(t, build(t, "a:\nb: a\nc:", func(d *dag.DAG) { d.DagrunTimeout = &limit; d.HasOnFailureCallback = true }))
	if want := epoch.Add(time.Hour); !h.last.WakeAt.Equal(want) {
		t.Errorf("wake at %s, want %s", h.last.WakeAt, want)
	}
	h.run("a")
	h.pass(time.Hour)
	h.want("a=skipped b=skipped c=skipped", run.RunFailed)
	if !equal(h.kills, []string{"a1"}) || !equal(h.callbacks, []string{"dag on_failure_callback: timed_out"}) {
		t.Errorf("kills %v, callbacks %v", h.kills, h.callbacks)
	}
}

func TestFailFastStopsEverythingButTeardowns(t *testing.T) {
	h := start(t, build(t, `setup:
		a: setup
		b: setup
		c: b
		down: setup a c`,
		func(d *dag.DAG) { d.FailFast = true },
		task("setup", func(t *dag.Task) { t.Setup = true }),
		task("down", func(t *dag.Task) { t.Teardown = true; t.Setups = []string{"setup"} })))
	h.play("setup", run.Success)
	h.run("a b")
	h.finish("a", run.Failed)
	h.want("setup=success a=failed b=failed c=skipped down=scheduled", run.RunRunning)
	if !equal(h.kills, []string{"a3"}) {
		t.Errorf("kills %v", h.kills)
	}
	h.play("down", run.Success)
	h.want("setup=success a=failed b=failed c=skipped down=success", run.RunFailed)
}

func TestSetupsAndTeardowns(t *testing.T) {
	x := build(t, `up:
		a: up
		b: a
		down: up b`,
		task("up", func(t *dag.Task) { t.Setup = true }),
		task("down", func(t *dag.Task) { t.Teardown = true; t.Setups = []string{"up"} }),
		rule("b", dag.AllDone))

	t.Run("a failed teardown does not fail the run", func(t *testing.T) {
		h := start(t, x)
		h.play("up a b", run.Success)
		h.play("down", run.Failed)
		h.want("up=success a=success b=success down=failed", run.RunSuccess)
	})
	t.Run("a failed setup keeps everything in its scope from running", func(t *testing.T) {
		h := start(t, x)
		h.play("up", run.Failed)
		h.want("up=failed a=upstream_failed b=upstream_failed down=upstream_failed", run.RunFailed)
	})
	t.Run("a skipped setup skips everything in its scope", func(t *testing.T) {
		h := start(t, x)
		h.play("up", run.Skipped)
		h.want("up=skipped a=skipped b=skipped down=skipped", run.RunSuccess)
	})
	t.Run("a teardown runs after failures", func(t *testing.T) {
		h := start(t, build(t, "up:\na: up\ndown: up a",
			task("up", func(t *dag.Task) { t.Setup = true }),
			task("down", func(t *dag.Task) { t.Teardown = true; t.OnFailureFailDAGRun = true })))
		h.play("up", run.Success)
		h.play("a", run.Failed)
		h.want("up=success a=failed down=scheduled", run.RunRunning)
		h.play("down", run.Success)
		h.want("up=success a=failed down=success", run.RunSuccess) // the teardown is the leaf that counts
	})
}

func TestDependsOnPastHoldsATaskBack(t *testing.T) {
	x := build(t, "a:\nb: a", task("a", func(t *dag.Task) { t.DependsOnPast = true }))
	past := func(s run.TaskState) *Past { return &Past{RunID: "before", States: map[string]run.TaskState{"a": s}} }
	h := start(t, x, func(o *Options) { o.Past = past(run.Running) })
	h.want("a=none b=none", run.RunRunning)
	if got, want := h.r.Why(h.key("a"), h.now), "depends_on_past: the task is running in the previous run before"; got != want {
		t.Errorf("why: %q, want %q", got, want)
	}
	h.decide(PastChanged{past(run.Failed)})
	h.want("a=none b=none", run.RunRunning)
	h.decide(PastChanged{past(run.Success)})
	h.want("a=scheduled b=none", run.RunRunning)

	h = start(t, x) // the first run
	h.want("a=scheduled b=none", run.RunRunning)
}

func TestWaitForDownstreamLooksOneStepFurther(t *testing.T) {
	x := build(t, "a:\nb: a", task("a", func(t *dag.Task) { t.DependsOnPast, t.WaitForDownstream = true, true }))
	past := &Past{RunID: "before", States: map[string]run.TaskState{"a": run.Success, "b": run.Failed}}
	h := start(t, x, func(o *Options) { o.Past = past })
	h.want("a=none b=none", run.RunRunning)
	if got, want := h.r.Why(h.key("a"), h.now), "wait_for_downstream: task b is failed in the previous run before"; got != want {
		t.Errorf("why: %q, want %q", got, want)
	}
}

func TestWhySaysWhatAnInstanceWaitsFor(t *testing.T) {
	x := build(t, `a:
		b:
		c:
		d:
		two: a b
		many: a b c d
		up:
		in: up
		deep: in a
		down: deep up
		free: a`, task("up", func(t *dag.Task) { t.Setup = true }),
		task("down", func(t *dag.Task) { t.Teardown = true }), rule("two", dag.AllDone))
	h := newHarness(t, x)
	why := func(name string) string { return h.r.Why(h.key(name), h.now) }
	if got, want := why("a"), "the DAG run is queued and has not begun"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	h.decide(RunStarted{})
	h.run("a")
	h.decide(Admitted{Key: h.key("b"), AttemptID: "b1"})
	for name, want := range map[string]string{
		"a":    "",
		"b":    "handed to its executor, the process has not started yet",
		"c":    "ready, waiting for a free slot",
		"two":  "waiting for 2 of 2 upstream tasks: a, b (trigger rule all_done)",
		"many": "waiting for 4 of 4 upstream tasks: a, b, c and 1 more",
		"in":   "waiting for the upstream task up",
	} {
		if got := why(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	h.decide(Cleared{Keys: h.keys("a")})
	if got, want := why("a"), "cleared while running, its process is being ended"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhySaysThatASetupIsMissing(t *testing.T) {
	h := start(t, build(t, "up:\na: up\nb: a", task("up", func(t *dag.Task) { t.Setup = true })))
	h.decide(Marked{Keys: h.keys("a"), State: run.Success}) // by hand, before the setup has run
	h.want("up=scheduled a=success b=none", run.RunRunning)
	if got, want := h.r.Why(h.key("b"), h.now), "waiting for setup tasks: up"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	h.play("up b", run.Success)
	h.want("up=success a=success b=success", run.RunSuccess)
}

func TestAFailedAttemptIsNotRetriedWhenItsUpstreamFailedMeanwhile(t *testing.T) {
	h := start(t, build(t, "a:\nb: a", task("b", func(t *dag.Task) { t.Retries, t.RetryDelay = 3, dag.Seconds(time.Hour) })))
	h.play("a", run.Success)
	h.run("b")
	h.decide(Marked{Keys: h.keys("a"), State: run.Failed})
	h.want("a=failed b=running", run.RunRunning)
	h.finish("b", run.Failed)
	h.want("a=failed b=upstream_failed", run.RunFailed)
}

func TestARunThatCannotGoOnFails(t *testing.T) {
	x := build(t, "a:\nb: a", func(d *dag.DAG) { d.HasOnFailureCallback = true })
	h := start(t, x)
	h.play("a", run.Success, func(o *Outcome) { o.SkipTasks = nil })
	h.play("b", run.Success)
	h.want("a=success b=success", run.RunSuccess)

	// A stored run whose upstream instance was taken out by hand stands still.
	tis := []run.TaskInstance{{Key: h.key("a"), State: run.None, Version: 1}}
	m := build(t, "src:\na: src", task("a", func(t *dag.Task) { t.Mapped = over("src") }))
	r := NewRun(m, run.DAGRun{DAGID: "d", RunID: "r", State: run.RunRunning, Version: 1}, tis, Options{NewID: func() string { return "" }})
	d := Decide(r, Recovered{}, epoch)
	if d.Run == nil || d.Run.After.State != run.RunFailed {
		t.Errorf("a deadlocked run goes on: %+v", d)
	}
}
