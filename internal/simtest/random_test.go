package simtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/scheduler"
)

// drawPlay makes a random DAG with a random story: edges, every trigger rule, retries, failures that are final, skips, branches, empty
// tasks, tasks mapped over what others return or over literals, a mapped group, waits of every kind, a pool.
func drawPlay(t *rapid.T) *play {
	d, s := hand("random"), story{}
	rules := slices.DeleteFunc(slices.Clone(dag.TriggerRules), func(r dag.TriggerRule) bool { return r == dag.AllDoneSetupSuccess })
	chance := func(one int, what string) bool { return rapid.IntRange(0, one-1).Draw(t, what) == 0 }
	for i := range rapid.IntRange(2, 9).Draw(t, "tasks") {
		var up []string
		for j := range i {
			if chance(3, "edge") {
				up = append(up, d.Tasks[j].ID)
			}
		}
		n := task(fmt.Sprintf("t%d", i), up...)
		if chance(2, "has rule") {
			n.TriggerRule = rapid.SampledFrom(rules).Draw(t, "rule")
		}
		if chance(3, "pooled") {
			n.Pool = "narrow"
		}
		n.Retries = rapid.IntRange(0, 2).Draw(t, "retries")
		s[n.ID] = drawSays(t)
		if drawKind(t, &n); n.Kind == dag.KindEmpty {
			s[n.ID] = says{} // nobody is there to do anything
		}
		d.Tasks = append(d.Tasks, n)
	}
	drawMappedGroup(t, d)
	for _, n := range d.Tasks {
		drawBranch(t, d, s, n)
	}
	p := single("random", d, s, "")
	p.pools = map[string]int{"narrow": 2}
	p.during = narrowPool
	return p
}

// drawSays draws what a task does.
func drawSays(t *rapid.T) (out says) {
	switch rapid.IntRange(0, 11).Draw(t, "says") {
	case 0, 1:
		out.Fails = rapid.SampledFrom([]int{1, 2, always}).Draw(t, "fails")
		out.Final = rapid.Bool().Draw(t, "final")
	case 2:
		out.Skips = true
	case 3:
		out.Defers = true
	case 4:
		out.Looks = rapid.IntRange(1, 2).Draw(t, "looks")
	case 5:
		out.Asks = true
	case 6:
		out.Text = true
	}
	if !out.Text {
		out.Returns = rapid.IntRange(0, 4).Draw(t, "returns")
	}
	return out
}

func drawKind(t *rapid.T, n *dag.Task) {
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0:
		n.Kind, n.Retries = dag.KindEmpty, 0
	case 1, 2, 3:
		if len(n.Upstream) > 0 {
			*n = mapped(*n, rapid.SampledFrom(n.Upstream).Draw(t, "source"))
		}
	case 4:
		n.Mapped = &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: rapid.IntRange(0, 3).Draw(t, "literal")}}}
	}
}

// drawMappedGroup puts some tasks after the first into a group mapped over it.
func drawMappedGroup(t *rapid.T, d *dag.DAG) {
	if rapid.IntRange(0, 2).Draw(t, "grouped") != 0 {
		return
	}
	d.Groups = []dag.TaskGroup{{ID: "g", Mapped: over("t0")}}
	d.Tasks[0].Mapped = nil
	for i := 1; i < len(d.Tasks); i++ {
		n := &d.Tasks[i]
		inside := func(u string) bool { return u == "t0" || d.Task(u).Group == "g" }
		if n.Mapped == nil && slices.ContainsFunc(n.Upstream, inside) {
			n.Group = "g"
		}
	}
}

// drawBranch lets a task that succeeds not follow some of those after it.
func drawBranch(t *rapid.T, d *dag.DAG, s story, n dag.Task) {
	if n.Kind == dag.KindEmpty || n.Mapped != nil || n.Group != "" || rapid.IntRange(0, 4).Draw(t, "branch") != 0 {
		return
	}
	told := s[n.ID]
	for _, o := range d.Tasks {
		if slices.Contains(o.Upstream, n.ID) && o.Group == "" && rapid.Bool().Draw(t, "not followed") {
			told.Past = append(told.Past, o.ID)
		}
	}
	s[n.ID] = told
}

// drawn is the play of a seed: the first of its draws that makes a DAG.
func drawn(seed int) *play {
	g := rapid.Custom(drawPlay)
	for i := range 1000 {
		if p := g.Example(seed*1000 + i); dag.Validate(p.dags[0]) == nil {
			return p
		}
	}
	panic("no draw makes a DAG")
}

// troubles has something go wrong every now and then, and less and less often, so that caps on lost tries do not decide.
func troubles(seed int) faultPlan {
	r := rand.New(rand.NewPCG(uint64(seed), 7))
	pick := func(fates []string, nothing string, deaths int) func(int, string) string {
		next := 1 + r.IntN(20)
		return func(n int, _ string) string {
			if n < next || n > 400 {
				return nothing
			}
			next = n + 4 + r.IntN(10+n/4)
			fate := fates[r.IntN(len(fates))]
			if fate == killed {
				if deaths--; deaths < 0 {
					return delayed
				}
			}
			return fate
		}
	}
	return faultPlan{commit: pick([]string{refused, full, dead}, "", 0), message: pick(messageFaults, passed, 3)}
}

// clearing has people clear a task now and then, with what comes after it or alone. Since tasks do the same whenever they run, the
// run must end as if nobody had.
func clearing(seed int, d *dag.DAG) func(*stage) {
	return func(s *stage) {
		narrowPool(s)
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		for range 4 {
			s.b.pass(time.Duration(r.IntN(8000)) * time.Millisecond)
			req := scheduler.ClearRequest{DAGID: d.ID, RunID: "r", ResetDagRuns: true, IncludeDownstream: r.IntN(2) == 0,
				TaskIDs: []scheduler.TaskSel{{TaskID: d.Tasks[r.IntN(len(d.Tasks))].ID}}}
			s.b.insist("the clearing", func(ctx context.Context) error {
				_, err := s.b.sched.Clear(ctx, "user:sim", req)
				return err
			})
		}
	}
}

// TestARandomDAGEndsAsTheReferenceSaysWhateverGoesWrong plays random DAGs without faults, with many, and with many while people clear
// tasks, and compares each with the reference. OSTRO_TEST_SIM=all plays many more, OSTRO_TEST_SEEDS=from-to just these.
func TestARandomDAGEndsAsTheReferenceSaysWhateverGoesWrong(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			p := drawn(seed)
			synctest.Test(t, func(t *testing.T) { p.perform(t, faultPlan{}) })
			if !t.Failed() {
				synctest.Test(t, func(t *testing.T) { p.perform(t, troubles(seed)) })
			}
			if !t.Failed() {
				p.again, p.during = true, clearing(seed, p.dags[0])
				synctest.Test(t, func(t *testing.T) { p.perform(t, troubles(seed)) })
			}
			if t.Failed() {
				t.Logf("%+v\n%+v", *p.dags[0], p.stories)
			}
		})
	}
}

func seeds(t *testing.T) (from, to int) {
	if text := os.Getenv("OSTRO_TEST_SEEDS"); text != "" {
		if _, err := fmt.Sscanf(text, "%d-%d", &from, &to); err != nil {
			t.Fatalf("OSTRO_TEST_SEEDS=%s: %v, want from-to", strconv.Quote(text), err)
		}
		return from, to
	}
	if whole() {
		return 0, 5000
	}
	return 0, 40
}
