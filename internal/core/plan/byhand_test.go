package plan

import (
	"testing"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

func TestClearingAFinishedRunQueuesIt(t *testing.T) {
	h := start(t, build(t, "a:\nb: a", task("a", func(t *dag.Task) { t.Retries = 2; t.RetryDelay = 0 })))
	h.play("a", run.Failed, func(o *Outcome) { o.Final = true })
	h.want("a=failed b=upstream_failed", run.RunFailed)
	old := h.instance("a").ID
	h.decide(Cleared{Keys: h.keys("a b")})
	h.want("a=none b=none", run.RunQueued)
	if a := h.instance("a"); a.TryNumber != 1 || a.MaxTries != 3 || a.ID == old || a.StartDate != nil || a.EndDate != nil {
		t.Errorf("cleared: %+v", a)
	}
	if row := h.r.Row(); row.ClearNumber != 1 || row.StartDate != nil || row.EndDate != nil {
		t.Errorf("run: %+v", row)
	}
	h.decide(RunStarted{})
	h.play("a b", run.Success)
	h.want("a=success b=success", run.RunSuccess)
	if a := h.instance("a"); a.TryNumber != 2 {
		t.Errorf("try %d", a.TryNumber)
	}
}

func TestClearingARunningInstanceKillsItFirst(t *testing.T) {
	h := start(t, build(t, "a:\nb: a"))
	h.run("a")
	h.decide(Cleared{Keys: h.keys("a")})
	h.want("a=restarting b=none", run.RunRunning)
	if !equal(h.kills, []string{"a1"}) {
		t.Errorf("kills %v", h.kills)
	}
	h.decide(Recovered{})
	if !equal(h.kills, []string{"a1", "a1"}) {
		t.Errorf("a recovered scheduler does not repeat the kill: %v", h.kills)
	}
	h.finish("a", run.Success) // whatever it ended as
	h.want("a=scheduled b=none", run.RunRunning)
	h.play("a b", run.Success)
	h.want("a=success b=success", run.RunSuccess)
}

func TestClearingUpstreamMakesDownstreamWaitAgain(t *testing.T) {
	h := start(t, build(t, "a:\nb: a\nc: b"))
	h.play("a", run.Success)
	h.decide(Cleared{Keys: h.keys("a")})
	h.want("a=scheduled b=scheduled c=none", run.RunRunning) // b was ready already
	h.play("b", run.Success)
	h.play("a c", run.Success)
	h.want("a=success b=success c=success", run.RunSuccess)
}

func TestClearCanLeaveTheRunAlone(t *testing.T) {
	h := start(t, build(t, "a:"))
	h.play("a", run.Success)
	h.decide(Cleared{Keys: h.keys("a nobody"), KeepRun: true})
	h.want("a=none", run.RunSuccess)
}

func TestMarkingSuccessLetsTheRunGoOn(t *testing.T) {
	h := start(t, build(t, "a:\nb: a\nc: b"))
	h.play("a", run.Failed)
	h.want("a=failed b=upstream_failed c=upstream_failed", run.RunFailed)
	h.decide(Marked{Keys: h.keys("a"), State: run.Success})
	h.want("a=success b=none c=none", run.RunQueued)
	h.decide(RunStarted{})
	h.play("b c", run.Success)
	h.want("a=success b=success c=success", run.RunSuccess)
}

func TestMarkingARunningInstanceKillsIt(t *testing.T) {
	h := start(t, build(t, "a:\nb: a"))
	h.run("a")
	h.decide(Marked{Keys: h.keys("a"), State: run.Failed, Reason: "marked failed by alice"})
	h.want("a=failed b=upstream_failed", run.RunFailed)
	if got := h.instance("a").Reason; got != "marked failed by alice" || !equal(h.kills, []string{"a1"}) {
		t.Errorf("reason %q, kills %v", got, h.kills)
	}
	h.finish("a", run.Success)
	h.want("a=failed b=upstream_failed", run.RunFailed)
	if d := h.decide(Marked{Keys: h.keys("b"), State: run.Running}); !d.IsZero() {
		t.Errorf("marked as running: %+v", d)
	}
}

func TestMarkingARun(t *testing.T) {
	x := build(t, "a:\nb: a\nc:\nd:")
	begin := func(t *testing.T) *harness {
		h := start(t, x)
		h.play("c", run.Failed)
		h.run("a")
		return h
	}
	t.Run("failed cancels what runs and skips what has not begun", func(t *testing.T) {
		h := begin(t)
		h.decide(RunMarked{State: run.RunFailed})
		h.want("a=failed b=skipped c=failed d=skipped", run.RunFailed)
		if !equal(h.kills, []string{"a2"}) || len(h.callbacks) != 0 {
			t.Errorf("kills %v, callbacks %v", h.kills, h.callbacks)
		}
		if d := h.decide(RunMarked{State: run.RunFailed}); !d.IsZero() {
			t.Errorf("marked again: %+v", d)
		}
	})
	t.Run("success marks everything", func(t *testing.T) {
		h := begin(t)
		h.decide(RunMarked{State: run.RunSuccess})
		h.want("a=success b=success c=success d=success", run.RunSuccess)
	})
	t.Run("a finished run keeps its instances when marked failed", func(t *testing.T) {
		h := start(t, build(t, "a:"))
		h.play("a", run.Success)
		h.decide(RunMarked{State: run.RunFailed})
		h.want("a=success", run.RunFailed)
		h.decide(RunMarked{State: run.RunQueued})
		h.want("a=success", run.RunQueued)
		h.decide(RunStarted{})
		h.want("a=success", run.RunSuccess)
	})
	t.Run("a queued run is cancelled without having begun", func(t *testing.T) {
		h := newHarness(t, x)
		h.decide(RunMarked{State: run.RunFailed})
		h.want("a=skipped b=skipped c=skipped d=skipped", run.RunFailed)
	})
}

func TestACancelledRunStillTearsDown(t *testing.T) {
	x := build(t, "up:\na: up\nb: a\ndown: up b",
		task("up", func(t *dag.Task) { t.Setup = true }),
		task("down", func(t *dag.Task) { t.Teardown = true; t.Setups = []string{"up"} }))
	h := start(t, x)
	h.play("up", run.Success)
	h.run("a")
	h.decide(RunMarked{State: run.RunFailed})
	h.want("up=success a=failed b=upstream_failed down=scheduled", run.RunRunning)
	h.play("down", run.Success)
	h.want("up=success a=failed b=upstream_failed down=success", run.RunFailed)

	h = start(t, x)
	h.run("up") // nothing is set up yet
	h.decide(RunMarked{State: run.RunFailed})
	h.want("up=failed a=skipped b=skipped down=skipped", run.RunFailed)
}

func TestATaskThatABranchSkippedIsSkippedAgainUnlessTheBranchRunsAgainToo(t *testing.T) {
	h := start(t, build(t, "branch:\nleft: branch\nright: branch\nbelow: right"))
	h.play("branch", run.Success, func(o *Outcome) { o.SkipTasks = []SkipTarget{{"right", -1}} })
	h.play("left", run.Success)
	h.want("branch=success left=success right=skipped below=skipped", run.RunSuccess)
	h.decide(Cleared{Keys: h.keys("right below")})
	h.decide(RunStarted{})
	h.want("branch=success left=success right=skipped below=skipped", run.RunSuccess)
	h.decide(Cleared{Keys: h.keys("branch right below")})
	h.decide(RunStarted{})
	h.play("branch", run.Success)
	h.play("right below", run.Success)
	h.want("branch=success left=success right=success below=success", run.RunSuccess)
}
