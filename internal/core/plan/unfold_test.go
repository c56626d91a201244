package plan

import (
	"testing"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

func TestAMappedTaskUnfoldsWhenItsLengthIsKnown(t *testing.T) {
	h := start(t, build(t, "src:\nm: src\nsum: m", task("m", func(t *dag.Task) { t.Mapped = over("src"); t.Retries = 4 })))
	h.want("src=scheduled m=none sum=none", run.RunRunning)
	if got, want := h.r.Why(h.key("m"), h.now), "waiting to know what it is mapped over: src"; got != want {
		t.Errorf("why: %q, want %q", got, want)
	}
	h.play("src", run.Success, returns(3))
	h.want("src=success m[0]=scheduled m[1]=scheduled m[2]=scheduled sum=none", run.RunRunning)
	if n, ok := h.r.MapCount("m"); n != 3 || !ok {
		t.Errorf("map count %d %v", n, ok)
	}
	if m := h.instance("m[2]"); m.MaxTries != 4 || m.ID == "" {
		t.Errorf("m[2]: %+v", m)
	}
	h.play("m[0] m[2]", run.Success)
	if got, want := h.r.Why(h.key("sum"), h.now), "waiting for 1 of 3 upstream tasks: m"; got != want {
		t.Errorf("why: %q, want %q", got, want)
	}
	h.play("m[1] sum", run.Success)
	h.want("src=success m[0]=success m[1]=success m[2]=success sum=success", run.RunSuccess)
}

func TestLiteralMappingsAreUnfoldedFromTheStart(t *testing.T) {
	literal := &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: 2}, {Name: "y", Length: 2}}}
	h := start(t, build(t, "m:", task("m", func(t *dag.Task) { t.Mapped = literal })))
	h.want("m[0]=scheduled m[1]=scheduled m[2]=scheduled m[3]=scheduled", run.RunRunning)
	h.play("m[0] m[1] m[2] m[3]", run.Success)
	h.want("m[0]=success m[1]=success m[2]=success m[3]=success", run.RunSuccess)
}

func TestAllInstancesGoOnTogether(t *testing.T) {
	literal := &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: 3}}}
	h := start(t, build(t, "a:\nm: a", task("m", func(t *dag.Task) { t.Mapped = literal })))
	h.play("a", run.Success)
	h.want("a=success m[0]=scheduled m[1]=scheduled m[2]=scheduled", run.RunRunning)
}

func TestASourceNeedNotBeDirectlyUpstream(t *testing.T) {
	h := start(t, build(t, "src:\nb: src\nm: b", rule("b", dag.Always), task("m", func(t *dag.Task) { t.Mapped = over("src") })))
	h.play("b", run.Success)
	h.want("src=scheduled b=success m=none", run.RunRunning)
	h.play("src", run.Success, returns(2))
	h.want("src=success b=success m[0]=scheduled m[1]=scheduled", run.RunRunning)
}

func TestARebuiltRunWaitsForValuesThatAreMadeAgain(t *testing.T) {
	x := build(t, "src:\nm: src", rule("m", dag.Always), task("m", func(t *dag.Task) { t.Mapped = over("src") }))
	h := start(t, x)
	h.play("src", run.Success, returns(2))
	h.run("m[0]")
	h.decide(Cleared{Keys: h.keys("src m")})
	h.want("src=scheduled m[0]=restarting m[1]=none", run.RunRunning)
	h.r = h.rebuilt()
	h.finish("m[0]", run.Failed)
	h.want("src=scheduled m[0]=none m[1]=none", run.RunRunning)
	h.play("src", run.Success, returns(1))
	h.want("src=success m[0]=scheduled m[1]=removed", run.RunRunning)
}

func TestMappingOverNothingSkips(t *testing.T) {
	for name, mapping := range map[string]*dag.Mapping{
		"a literal": {Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: 0}}},
		"a value":   over("src"),
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, build(t, "src:\nm: src\nsum: m", task("m", func(t *dag.Task) { t.Mapped = mapping })))
			h.play("src", run.Success, returns(0))
			h.want("src=success m=skipped sum=skipped", run.RunSuccess)
			if got, want := h.instance("m").Reason, "mapped over nothing"; got != want {
				t.Errorf("reason %q, want %q", got, want)
			}
		})
	}
}

func TestAMappedTaskOverAMappedTaskHasOneInstancePerValue(t *testing.T) {
	h := start(t, build(t, "src:\nm: src\nn: m", rule("n", dag.AllDone),
		task("m", func(t *dag.Task) { t.Mapped = over("src") }), task("n", func(t *dag.Task) { t.Mapped = over("m") })))
	h.play("src", run.Success, returns(3))
	h.play("m[0]", run.Success, returns(-1))
	h.play("m[1]", run.Skipped)
	h.play("m[2]", run.Success, returns(7))
	h.want("src=success m[0]=success m[1]=skipped m[2]=success n[0]=scheduled n[1]=scheduled", run.RunRunning)
}

func TestSeveralSourcesMultiplyAndCombine(t *testing.T) {
	two := 2
	sources := dag.MapSource{Op: dag.MapConcat, Args: []dag.MapSource{
		{Op: dag.MapZip, Args: []dag.MapSource{{Op: dag.MapXCom, Task: "a"}, {Op: dag.MapXCom, Task: "b"}}},
		{Op: dag.MapZip, FillValue: true, Args: []dag.MapSource{{Op: dag.MapXCom, Task: "a"}, {Op: dag.MapXCom, Task: "b"}}},
		{Op: dag.MapMap, Args: []dag.MapSource{{Op: dag.MapXCom, Task: "a"}}},
		{Length: &two},
	}}
	m := &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: -1, Source: &sources}, {Name: "y", Length: 2}}}
	h := start(t, build(t, "a:\nb:\nm: a b", task("m", func(t *dag.Task) { t.Mapped = m })))
	h.play("a", run.Success, returns(1))
	h.want("a=success b=scheduled m=none", run.RunRunning)
	h.play("b", run.Success, returns(4))
	if n, _ := h.r.MapCount("m"); n != (1+4+1+2)*2 {
		t.Errorf("unfolded into %d", n)
	}
}

func TestWhatCannotBeMappedOver(t *testing.T) {
	x := build(t, "src:\nm: src\nn: m", task("m", func(t *dag.Task) { t.Mapped = over("src"); t.Callbacks.OnFailure = true }))
	for _, c := range []struct {
		name    string
		state   run.TaskState
		outcome func(*Outcome)
		want    run.TaskState
		reason  string
	}{
		{"nothing returned", run.Success, func(*Outcome) {}, run.Failed, "task src returned nothing to map over"},
		{"a number", run.Success, returns(-1), run.Failed, "task src returned neither a list nor a dict to map over"},
		{"too much", run.Success, returns(1025), run.Failed, "task src returned 1025 elements to map over, more than max_map_length 1024"},
		{"a failure", run.Failed, func(*Outcome) {}, run.UpstreamFailed, "task src, which it is mapped over, failed"},
		{"a skip", run.Skipped, func(*Outcome) {}, run.Skipped, "task src, which it is mapped over, was skipped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, x)
			h.play("src", c.state, c.outcome)
			if m := h.instance("m"); m.State != c.want || m.Reason != c.reason {
				t.Errorf("m is %s: %s", m.State, m.Reason)
			}
			if !h.r.Row().State.IsFinished() {
				t.Errorf("the run goes on: %s", h.states())
			}
			if failed := c.want == run.Failed; failed != (len(h.callbacks) == 1) {
				t.Errorf("callbacks %v", h.callbacks)
			}
		})
	}
}

func TestAMappedGroupUnfoldsTogetherAndGoesDepthFirst(t *testing.T) {
	h := start(t, build(t, "src:\ng.a: src\ng.b: g.a\nend: g.b", func(d *dag.DAG) {
		d.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("src")}}
		d.Task("g.a").Group, d.Task("g.b").Group = "g", "g"
	}))
	h.play("src", run.Success, returns(2))
	h.want("src=success g.a[0]=scheduled g.a[1]=scheduled g.b[0]=none g.b[1]=none end=none", run.RunRunning)
	h.play("g.a[1]", run.Success)
	h.want("src=success g.a[0]=scheduled g.a[1]=success g.b[0]=none g.b[1]=scheduled end=none", run.RunRunning)
	h.play("g.a[0]", run.Failed)
	h.want("src=success g.a[0]=failed g.a[1]=success g.b[0]=upstream_failed g.b[1]=scheduled end=upstream_failed", run.RunRunning)
	h.play("g.b[1]", run.Success)
	if h.r.Row().State != run.RunFailed {
		t.Errorf("run is %s", h.r.Row().State)
	}
}

func TestAMappedGroupOverNothingIsSkippedWhole(t *testing.T) {
	h := start(t, build(t, "src:\ng.a: src\ng.b: g.a\nend: g.b", rule("g.b end", dag.NoneFailed), func(d *dag.DAG) {
		d.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("src")}}
		d.Task("g.a").Group, d.Task("g.b").Group = "g", "g"
	}))
	h.play("src", run.Success, returns(0))
	h.want("src=success g.a=skipped g.b=skipped end=scheduled", run.RunRunning)
}

func TestATaskThatHasEndedBeforeItsGroupUnfoldsKeepsItsState(t *testing.T) {
	h := start(t, build(t, "src:\nbad:\ng.a: src bad\ng.b: src", func(d *dag.DAG) {
		d.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("src")}}
		d.Task("g.a").Group, d.Task("g.b").Group = "g", "g"
	}))
	h.play("bad", run.Failed, func(o *Outcome) { o.Final = true })
	h.want("src=scheduled bad=failed g.a=upstream_failed g.b=none", run.RunRunning)
	h.play("src", run.Success, returns(0))
	h.want("src=success bad=failed g.a=upstream_failed g.b=skipped", run.RunFailed)
}

func TestClearingASourceUnfoldsAnew(t *testing.T) {
	x := build(t, "src:\nm: src\nend: m", task("m", func(t *dag.Task) { t.Mapped = over("src") }))
	h := start(t, x)
	h.play("src", run.Success, returns(2))
	h.play("m[0] m[1] end", run.Success)
	again := func(n int) {
		h.decide(Cleared{Keys: h.keys("src m end")})
		h.decide(RunStarted{})
		h.play("src", run.Success, returns(n))
	}
	again(3)
	h.want("src=success m[0]=scheduled m[1]=scheduled m[2]=scheduled end=none", run.RunRunning)
	h.play("m[0] m[1] m[2] end", run.Success)
	again(1)
	h.want("src=success m[0]=scheduled m[1]=removed m[2]=removed end=none", run.RunRunning)
	h.play("m[0] end", run.Success)
	h.want("src=success m[0]=success m[1]=removed m[2]=removed end=success", run.RunSuccess)
	again(2)
	h.want("src=success m[0]=scheduled m[1]=scheduled m[2]=removed end=none", run.RunRunning)
	again(0)
	h.want("src=success m[0]=skipped m[1]=removed m[2]=removed end=skipped", run.RunSuccess)
}

func TestABranchSkipsAMappedTaskBeforeAndAfterItUnfolds(t *testing.T) {
	mapped := task("m", func(t *dag.Task) { t.Mapped = over("src") })
	skip := func(index int) func(*Outcome) {
		return func(o *Outcome) { o.SkipTasks = []SkipTarget{{TaskID: "m", MapIndex: index}} }
	}
	h := start(t, build(t, "src:\nbr:\nm: src br", mapped))
	h.play("br", run.Success, skip(-1))
	h.want("src=scheduled br=success m=skipped", run.RunRunning)

	h = start(t, build(t, "src:\nbr:\nm: src br", mapped))
	h.play("src", run.Success, returns(2))
	h.play("br", run.Success, skip(1))
	h.want("src=success br=success m[0]=scheduled m[1]=skipped", run.RunRunning)
}
