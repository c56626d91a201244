package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/run"
)

// candidate makes a candidate from "run/task" with the defaults of an installation.
func candidate(name string, edit ...func(*Candidate)) Candidate {
	runID, taskID, _ := strings.Cut(name, "/")
	c := Candidate{
		Key:      run.Key{DAGID: "d", RunID: runID, TaskID: taskID, MapIndex: -1},
		Priority: 1, PoolSlots: 1, Pool: DefaultPool, Executor: "local", TasksScope: TaskScopeRun,
		LogicalDate: epoch, ScheduledAt: epoch,
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

func inPool(name string, slots int) func(*Candidate) {
	return func(c *Candidate) { c.Pool, c.PoolSlots = name, slots }
}

func priority(n int) func(*Candidate) { return func(c *Candidate) { c.Priority = n } }

// admit asks a queue what of a list starts, and why the rest does not once that has started.
func admit(cands []Candidate, u *Usage, l Limits) (start []run.Key, blocked []Blocked) {
	var q Queue
	byKey := map[run.Key]*Candidate{}
	for i := range cands {
		q.push(cands[i], cands[i].DAGPaused)
		byKey[cands[i].Key] = &cands[i]
	}
	admitted := q.Admit(u, l)
	for _, a := range admitted {
		u.take(byKey[a.Key], 1)
		u.HoldGPUs(gpu.Hold{ID: a.Key.TaskID, Name: HolderName(a.Key), Shares: a.GPUs})
	}
	blocked = q.Blocked(u, l, nil)
	for _, a := range admitted {
		u.take(byKey[a.Key], -1)
		u.FreeGPUs(a.Key.TaskID)
		start = append(start, a.Key)
	}
	return start, blocked
}

func TestAdmitSaysWhatStartsAndWhyTheRestDoesNot(t *testing.T) {
	gpus := func(n int) func(*Candidate) {
		return func(c *Candidate) { c.Resources = &dag.Resources{GPUs: n, CPU: 1, Memory: 1 << 30} }
	}
	pod := func(c *Candidate) { c.Resources.Pod = true }
	limits := Limits{
		Executors: map[string]int{"local": 4},
		Pools: map[string]Pool{
			DefaultPool: {Slots: 128}, "gpu": {Slots: 2}, "etl": {Slots: 1, IncludeDeferred: true}, "free": {Slots: -1},
		},
		StrictResources: true, CPUs: 8, Memory: 4 << 30,
		GPUs: map[string]gpu.Inventory{"local": {Devices: []gpu.Device{{UUID: "GPU-a", Index: 0}, {UUID: "GPU-b", Index: 1}}}},
	}
	for _, c := range []struct {
		name    string
		cands   []Candidate
		usage   func(*Usage)
		limits  func(*Limits)
		start   string
		blocked []string
	}{
		{
			name:  "by priority, then date, then waiting time",
			cands: []Candidate{candidate("r/low"), candidate("r/high", priority(9)), candidate("q/early", func(c *Candidate) { c.LogicalDate = epoch.Add(-time.Hour) }), candidate("r/longer", func(c *Candidate) { c.ScheduledAt = epoch.Add(-time.Hour) })},
			start: "high early longer low",
		},
		{
			name:    "executor slots",
			cands:   []Candidate{candidate("r/a"), candidate("r/b", priority(2))},
			usage:   func(u *Usage) { u.executors = map[string]int{"local": 3} },
			start:   "b",
			blocked: []string{"a: executor local is full: 4 of 4 slots used"},
		},
		{
			name:    "an executor that is not there",
			cands:   []Candidate{candidate("r/a", func(c *Candidate) { c.Executor = "locl" })},
			blocked: []string{"a: executor locl cannot be reached (did you mean local?)"},
		},
		{
			name:    "a full pool holds back nobody in another",
			cands:   []Candidate{candidate("r/a", inPool("gpu", 2), priority(3)), candidate("r/b", inPool("gpu", 1), priority(2)), candidate("r/c")},
			start:   "a c",
			blocked: []string{"b: pool gpu is full: 2 of 2 slots used"},
		},
		{
			name:    "a big one does not hold back a small one",
			cands:   []Candidate{candidate("r/big", inPool("gpu", 2), priority(3)), candidate("r/small", inPool("gpu", 1))},
			usage:   func(u *Usage) { u.pools = map[string]poolUse{"gpu": {taken: 1}} },
			start:   "small",
			blocked: []string{"big: pool gpu is full: 2 of 2 slots used"},
		},
		{
			name:    "a pool that is too small for ever",
			cands:   []Candidate{candidate("r/a", inPool("gpu", 3))},
			blocked: []string{"a: it takes 3 slots of pool gpu, which has only 2"},
		},
		{
			name:    "not enough room in a pool",
			cands:   []Candidate{candidate("r/a", inPool("gpu", 2))},
			usage:   func(u *Usage) { u.pools = map[string]poolUse{"gpu": {taken: 1}} },
			blocked: []string{"a: it takes 2 slots of pool gpu, where 1 of 2 are used"},
		},
		{
			name:    "deferred instances count where the pool says so",
			cands:   []Candidate{candidate("r/a", inPool("etl", 1)), candidate("r/b", inPool("gpu", 1))},
			usage:   func(u *Usage) { u.pools = map[string]poolUse{"etl": {deferred: 1}, "gpu": {deferred: 2}} },
			start:   "b",
			blocked: []string{"a: pool etl is full: 1 of 1 slots used"},
		},
		{
			name:    "an unknown pool",
			cands:   []Candidate{candidate("r/a", inPool("gpus", 1)), candidate("r/b", inPool("free", 99))},
			start:   "b",
			blocked: []string{"a: pool gpus does not exist (did you mean gpu?)"},
		},
		{
			name: "max_active_tasks of a run",
			cands: []Candidate{candidate("r/a", func(c *Candidate) { c.MaxActiveTasks = 2 }),
				candidate("r/b", func(c *Candidate) { c.MaxActiveTasks = 2 }), candidate("q/c", func(c *Candidate) { c.MaxActiveTasks = 2 })},
			usage:   func(u *Usage) { u.runs = map[RunKey]int{{"d", "r"}: 1}; u.dags = map[string]int{"d": 1} },
			start:   "c a",
			blocked: []string{"b: max_active_tasks: 2 of 2 tasks of its DAG run are active"},
		},
		{
			name:    "max_active_tasks of a DAG, as in Airflow 2",
			cands:   []Candidate{candidate("r/a", func(c *Candidate) { c.MaxActiveTasks, c.TasksScope = 1, TaskScopeDAG })},
			usage:   func(u *Usage) { u.dags = map[string]int{"d": 1} },
			blocked: []string{"a: max_active_tasks: 1 of 1 tasks of its DAG are active"},
		},
		{
			name: "max_active_tis_per_dag and per_dagrun",
			cands: []Candidate{candidate("r/a", func(c *Candidate) { c.MaxActiveTIsPerDag = 1 }), candidate("q/a", func(c *Candidate) { c.MaxActiveTIsPerDag = 1 }),
				candidate("r/b", func(c *Candidate) { c.MaxActiveTIsPerDagrun = 1 }), candidate("q/b", func(c *Candidate) { c.MaxActiveTIsPerDagrun = 1 })},
			start:   "a b b",
			blocked: []string{"a: max_active_tis_per_dag: 1 of 1 instances of the task are active"},
		},
		{
			name: "max_active_tis_per_dagrun",
			cands: []Candidate{candidate("r/b", func(c *Candidate) { c.MaxActiveTIsPerDagrun = 1; c.Key.MapIndex = 0 }),
				candidate("r/b", func(c *Candidate) { c.MaxActiveTIsPerDagrun = 1; c.Key.MapIndex = 1 })},
			start:   "b",
			blocked: []string{"b: max_active_tis_per_dagrun: 1 of 1 instances of the task are active in its DAG run"},
		},
		{
			name:    "a paused DAG",
			cands:   []Candidate{candidate("r/a", func(c *Candidate) { c.DAGPaused = true })},
			blocked: []string{"a: DAG d is paused"},
		},
		{
			name:    "GPUs",
			cands:   []Candidate{candidate("r/b", gpus(2), priority(3)), candidate("r/c", gpus(1)), candidate("r/d", gpus(0))},
			start:   "b d",
			blocked: []string{"c: waiting: GPU 0 held by d/b; GPU 1 held by d/b"},
		},
		{
			name: "memory and cores, when requests are strict",
			cands: []Candidate{candidate("r/a", priority(3), func(c *Candidate) { c.Resources = &dag.Resources{Memory: 3 << 30, CPU: 1} }),
				candidate("r/b", func(c *Candidate) { c.Resources = &dag.Resources{Memory: 2 << 30} }),
				candidate("r/c", func(c *Candidate) { c.Resources = &dag.Resources{CPU: 7.5} })},
			start:   "a",
			blocked: []string{"b: it asks for 2.0 GiB of memory, 1.0 GiB of 4.0 GiB are free", "c: it asks for 7.5 CPU cores, 7 of 8 are free"},
		},
		{
			name: "what the machine never has is not waited for by a pod: the task starts, to fail",
			cands: []Candidate{candidate("r/a", priority(4), gpus(3), pod), candidate("r/b", priority(3), gpus(1)),
				candidate("r/c", priority(2), func(c *Candidate) { c.Resources = &dag.Resources{Memory: 8 << 30, Pod: true} }),
				candidate("r/d", func(c *Candidate) { c.Resources = &dag.Resources{CPU: 8.5, Pod: true} })},
			start: "a b c d",
		},
		{
			name: "what the machine never has is said by other tasks, at once",
			cands: []Candidate{candidate("r/a", priority(4), gpus(3)),
				candidate("r/c", priority(2), func(c *Candidate) { c.Resources = &dag.Resources{Memory: 8 << 30} }),
				candidate("r/d", func(c *Candidate) { c.Resources = &dag.Resources{CPU: 8.5} })},
			blocked: []string{"a: it asks for 3 GPUs, this machine has 2: it cannot start here",
				"c: it asks for 8.0 GiB of memory, this machine has 4.0 GiB: it cannot start here",
				"d: it asks for 8.5 CPU cores, this machine has 8: it cannot start here"},
		},
		{
			name:   "cores and memory are advisory otherwise",
			cands:  []Candidate{candidate("r/a", func(c *Candidate) { c.Resources = &dag.Resources{Memory: 8 << 30, CPU: 99} })},
			limits: func(l *Limits) { l.StrictResources = false },
			start:  "a",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, l := &Usage{}, limits
			if c.usage != nil {
				c.usage(u)
			}
			if c.limits != nil {
				c.limits(&l)
			}
			before := fmt.Sprintf("%+v", *u)
			start, blocked := admit(c.cands, u, l)
			var ids, reasons []string
			for _, k := range start {
				ids = append(ids, k.TaskID)
			}
			for _, b := range blocked {
				reasons = append(reasons, b.Key.TaskID+": "+b.Reason)
			}
			if got := strings.Join(ids, " "); got != c.start {
				t.Errorf("starts %q, want %q", got, c.start)
			}
			if d := cmp.Diff(c.blocked, reasons); d != "" {
				t.Errorf("blocked (-want +got)\n%s", d)
			}
			if after := fmt.Sprintf("%+v", *u); before != after {
				t.Errorf("usage changed from %s to %s", before, after)
			}
		})
	}
}

func TestAQueueFollowsDecisions(t *testing.T) {
	h := start(t, build(t, "a:\nb:\nc: a b", task("a", func(t *dag.Task) { t.Pool, t.PoolSlots = "gpu", 2 })))
	var q Queue
	var u Usage
	l := h.r.Limits()
	l.Pools["gpu"] = Pool{Slots: 2, IncludeDeferred: true}
	q.Add(h.r, true)
	u.Add(h.r)
	step := func(d Decision) {
		u.Fold(h.r, d)
		q.Fold(h.r, d, false)
	}
	if got := q.Admit(&u, l); len(got) != 0 || q.Len() != 2 {
		t.Fatalf("a paused DAG starts %v", got)
	}
	q.SetPaused("d", false)
	started := q.Admit(&u, l)
	if len(started) != 2 || q.Len() != 0 {
		t.Fatalf("started %v, %d wait", started, q.Len())
	}
	for _, a := range started {
		step(h.decide(Admitted{Key: a.Key, AttemptID: "at-" + a.Key.TaskID}))
	}
	if got, want := u.Pool("gpu"), (Occupied{Taken: 2}); got != want || u.Executor("local") != 2 {
		t.Errorf("usage %+v", u)
	}
	step(h.finish("a", run.Deferred))
	if got, want := u.Pool("gpu"), (Occupied{Deferred: 2}); got != want {
		t.Errorf("a deferred: %+v", got)
	}
	step(h.decide(Resumed{Key: h.key("a")}))
	step(h.decide(Marked{Keys: h.keys("a"), State: run.Success}))
	if q.Len() != 0 || len(q.Admit(&u, l)) != 0 {
		t.Error("a marked instance still waits")
	}
	step(h.finish("b", run.Success))
	if got := q.Blocked(&u, l, &RunKey{"d", "r"}); len(got) != 1 || got[0].Key.TaskID != "c" || got[0].Reason != "about to start" {
		t.Errorf("blocked %v", got)
	}
	q.Drop(h.r.Key())
	if q.Len() != 0 || len(q.Blocked(&u, l, nil)) != 0 {
		t.Error("a dropped run still waits")
	}
	var empty Usage
	if d := cmp.Diff(fmt.Sprint(empty.pools), fmt.Sprint(u.pools)); d != "" || len(u.executors)+len(u.runs)+len(u.tasks)+len(u.runTasks)+len(u.dags) != 0 {
		t.Errorf("something is still in use: %+v", u)
	}
}

func TestRunsBeginOldestFirstWithinTheirLimit(t *testing.T) {
	queued := func(dagID, id string, day int, edit ...func(*RunCandidate)) RunCandidate {
		date := epoch.AddDate(0, 0, day)
		c := RunCandidate{Run: run.DAGRun{DAGID: dagID, RunID: id, LogicalDate: &date, RunAfter: epoch, QueuedAt: epoch}, MaxActiveRuns: 2}
		for _, e := range edit {
			e(&c)
		}
		return c
	}
	soon := epoch.Add(time.Minute)
	cands := []RunCandidate{
		queued("d", "third", 3), queued("d", "second", 2), queued("d", "first", 1),
		queued("p", "paused", 0, func(c *RunCandidate) { c.Paused = true }),
		queued("f", "future", 0, func(c *RunCandidate) { c.Run.RunAfter = soon }),
		queued("f", "undated", 0, func(c *RunCandidate) { c.Run.LogicalDate = nil }),
		queued("d", "backfill", 9, func(c *RunCandidate) { c.Run.BackfillID = 7 }),
	}
	start, blocked, wake := RunsToStart(cands, map[RunGroup]int{{DAGID: "d"}: 1}, Limits{}, epoch)
	wantStart := []RunKey{{"f", "undated"}, {"d", "first"}, {"d", "backfill"}}
	wantBlocked := []BlockedRun{
		{RunKey{"f", "future"}, "not before 2024-01-01T00:01:00Z"},
		{RunKey{"p", "paused"}, "DAG p is paused"},
		{RunKey{"d", "second"}, "max_active_runs: 2 of 2 runs of d are running"},
		{RunKey{"d", "third"}, "max_active_runs: 2 of 2 runs of d are running"},
	}
	if d := cmp.Diff(wantStart, start); d != "" {
		t.Errorf("start (-want +got)\n%s", d)
	}
	if d := cmp.Diff(wantBlocked, blocked); d != "" {
		t.Errorf("blocked (-want +got)\n%s", d)
	}
	if !wake.Equal(soon) {
		t.Errorf("wake %s", wake)
	}
}
