package simtest

import (
	"context"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// single is a play of one DAG whose run is triggered once.
func single(what string, d *dag.DAG, s story, want string) *play {
	return &play{name: what, dags: []*dag.DAG{d}, stories: map[string]story{d.ID: s}, begin: []string{d.ID}, want: map[string]string{d.ID: want}}
}

func playsOfRules() []*play {
	calls := func(t *dag.Task) { t.Callbacks = dag.Callbacks{OnFailure: true, OnRetry: true, OnSuccess: true} }
	failing := hand("failing", task("start"), with(retried(task("fails", "start"), 2), calls), task("after", "fails"),
		ruled(task("cleanup", "after"), dag.AllDone), retried(task("heals", "start"), 2), retried(task("final", "start"), 3))
	failing.HasOnFailureCallback = true

	inner := hand("groups", task("list"), grouped(task("g.a", "list"), "g"), grouped(retried(task("g.b", "g.a"), 1), "g"), task("join", "g.b"))
	inner.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("list")}}

	setup := hand("setups",
		with(task("up"), func(t *dag.Task) { t.Setup = true }), task("work", "up"), task("more", "work"),
		with(task("down", "more", "up"), func(t *dag.Task) { t.Teardown, t.Setups = true, []string{"up"} }),
		with(task("bad"), func(t *dag.Task) { t.Setup = true }), task("never", "bad"),
		with(task("undo", "bad", "never"), func(t *dag.Task) { t.Teardown, t.Setups = true, []string{"bad"} }))
	setups := single("setups and teardowns", setup, story{"work": {Fails: always}, "bad": {Fails: always}},
		"failed: bad=failed down=success more=upstream_failed never=upstream_failed undo=upstream_failed up=success work=failed")
	setups.loose = true // the reference knows no scopes

	pooled := hand("pooled")
	for _, id := range []string{"a", "bb", "ccc", "d", "ee"} {
		pooled.Tasks = append(pooled.Tasks, with(task(id), func(t *dag.Task) { t.Pool = "narrow" }))
	}
	pools := single("a pool", pooled, story{"bb": {Fails: always}}, "failed: a=success bb=failed ccc=success d=success ee=success")
	pools.pools = map[string]int{"narrow": 2}
	pools.during = narrowPool
	// Nothing runs beside the task that fails: whether that would fail or be skipped depends on how far it has come.
	fast := hand("fast", task("a"), retried(task("fails", "a"), 1), task("later", "fails"), task("other", "later"))
	fast.FailFast = true
	failFast := single("fail_fast", fast, story{"fails": {Fails: always}}, "success: a=success fails=failed later=skipped other=skipped")
	failFast.loose = true
	return []*play{
		single("retries and callbacks", failing, story{"fails": {Fails: always}, "heals": {Fails: 2}, "final": {Fails: 1, Final: true}},
			"failed: after=upstream_failed cleanup=success fails=failed final=failed heals=success start=success"),
		single("mapping", hand("mapping", task("three"), task("none"), task("text"), task("long"), mapped(task("each", "three"), "three"),
			mapped(retried(task("again", "each"), 1), "each"), mapped(task("over_none", "none"), "none"), mapped(task("over_text", "text"), "text"),
			mapped(task("over_nothing", "each", "long"), "long"), ruled(task("join", "again", "over_none"), dag.NoneFailed)),
			story{"three": list(3), "none": list(0), "text": {Text: true}, "each": list(1), "again": {Fails: 1}},
			"failed: again[0]=success again[1]=success again[2]=success each[0]=success each[1]=success each[2]=success join=success "+
				"long=success none=success over_none=skipped over_nothing=failed over_text=failed text=success three=success"),
		single("a mapped group", inner, story{"list": list(3), "g.b": {Fails: 1}},
			"success: g.a[0]=success g.a[1]=success g.a[2]=success g.b[0]=success g.b[1]=success g.b[2]=success join=success list=success"),
		single("branches", hand("branches", task("branch"), task("left", "branch"), task("right", "branch"), task("end", "right"),
			ruled(task("join", "left", "right"), dag.NoneFailedMinOneSuccess), task("empty", "join"), ruled(task("any", "left", "right"), dag.OneSuccess)),
			story{"branch": {Past: []string{"right"}}},
			"success: any=success branch=success empty=success end=skipped join=success left=success right=skipped"),
		setups,
		single("waits", hand("waits", task("defers"), task("looks"), task("asks"), retried(task("both", "defers", "looks", "asks"), 1)),
			story{"defers": {Defers: true}, "looks": {Looks: 2}, "asks": {Asks: true}, "both": {Defers: true, Fails: 1}},
			"success: asks=success both=success defers=success looks=success"),
		pools, failFast,
	}
}

func playsOfTime() []*play {
	// A bubble begins with the year 2000.
	from, to := time.Date(1999, 12, 31, 22, 0, 0, 0, time.UTC), time.Date(1999, 12, 31, 23, 15, 0, 0, time.UTC)
	dated := hand("dated", with(task("after_the_last"), func(t *dag.Task) { t.DependsOnPast, t.WaitForDownstream = true, true }), retried(task("b", "after_the_last"), 1))
	dated.Schedule = dag.Schedule{Kind: dag.ScheduleCronInterval, Cron: []string{"*/30 * * * *"}}
	dated.StartDate, dated.EndDate, dated.Catchup = &from, &to, true
	past := &play{name: "a schedule that catches up, on the past", dags: []*dag.DAG{dated}, stories: map[string]story{"dated": {"b": {Fails: 1}}},
		want: map[string]string{"dated": "success: after_the_last=success b=success"}, runs: map[string]int{"dated": 3}}

	limit := sec(time.Minute)
	late := hand("late", task("a"), task("b", "a"), ruled(task("c", "b"), dag.AllDone))
	late.DagrunTimeout = &limit
	timed := single("dagrun_timeout", late, story{"b": {Looks: 100}}, "failed: a=success b=skipped c=skipped")
	timed.loose = true

	limited := hand("limited", mapped(with(task("each", "list"), func(t *dag.Task) { t.MaxActiveTIsPerDagrun = 2 }), "list"), task("list"),
		with(task("urgent"), func(t *dag.Task) { t.PriorityWeight = 9 }))
	limited.MaxActiveTasks = 3
	limits := single("limits of tasks", limited, story{"list": list(5)},
		"success: each[0]=success each[1]=success each[2]=success each[3]=success each[4]=success list=success urgent=success")
	limits.pools = map[string]int{"default_pool": 3}
	return []*play{past, timed, limits}
}

// narrowPool makes the pool that a play's tasks wait for.
func narrowPool(s *stage) {
	s.b.insist("the pool", func(ctx context.Context) error {
		return s.b.sched.PutPool(ctx, "user:sim", store.Pool{Name: "narrow", Slots: 2})
	})
}

func playsOfPeople() []*play {
	makes := hand("makes", with(task("makes"), func(t *dag.Task) { t.Outlets = []dag.AssetRef{{Name: "made", URI: "made"}} }))
	uses := hand("uses", task("use"))
	uses.Schedule = dag.Schedule{Kind: dag.ScheduleAssets, Assets: &dag.AssetExpr{Asset: &dag.AssetRef{Name: "made"}}}
	assets := &play{name: "assets", dags: []*dag.DAG{makes, uses}, stories: map[string]story{"makes": {"makes": {}}, "uses": {}},
		begin: []string{"makes"}, want: map[string]string{"makes": "success: makes=success", "uses": "success: use=success"}}

	long := task("b", "a")
	cleared := single("cleared during its run", hand("cleared", task("a"), long, mapped(task("each", "b"), "b"), task("end", "each")),
		story{"a": {}, "b": list(2), "each": {}, "end": {Looks: 3}}, "success: a=success b=success each[0]=success each[1]=success end=success")
	cleared.loose = true
	cleared.during = func(s *stage) {
		s.b.until("a mapped task to end", 5*time.Minute, func() bool { return s.b.state("cleared", "each") == run.Success })
		clearTasks(s.b, "cleared", "b")
		s.b.pass(2 * time.Second)
		clearTasks(s.b, "cleared", "a")
	}

	marked := single("marked during its run", hand("marked", task("a"), task("b", "a"), task("c", "b")), story{"a": {Looks: 9}},
		"success: a=success b=success c=success")
	marked.loose = true
	marked.during = func(s *stage) {
		s.b.until("a to wait", 5*time.Minute, func() bool { return s.b.state("marked", "a") != run.None })
		markSuccess(s.b, "marked", "a")
	}

	// The DAG loses a task, gains one and renames one while its run goes on: the run ends with the shape it began with.
	shape := single("another shape during its run", hand("shape", task("a"), task("b", "a"), task("c", "b")), story{"a": {Looks: 1}},
		"success: a=success b=success c=success")
	shape.during = func(s *stage) {
		s.b.until("a to begin", 5*time.Minute, func() bool { return s.b.state("shape", "a") != run.None })
		s.b.republish(hand("shape", task("a"), mapped(task("renamed", "a"), "a"), task("new")))
	}

	answered := single("an answer", hand("answered", task("asks"), task("after", "asks")), story{"asks": {Asks: true}}, "success: after=success asks=success")
	answered.during = func(s *stage) { answer(s.b, "answered", "asks") }
	return []*play{assets, cleared, marked, shape, answered}
}
